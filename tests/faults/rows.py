"""Rows by Datasette's write API: who sends them, and what readers may show of them.

They go to a database of their own. Each request has a number, which both of its rows hold, and is
sent once: without an answer nobody knows whether it is there.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx

from tests.faults.system import READERS, TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.faults.history import Operation, Outcome
    from tests.faults.system import System

DATABASE, TABLE = "tally", "numbers"
ROWS = 2  # of each request
ROW_CLIENTS = 2
TIMEOUT_S = 8.0  # after which a client knows nothing
QUERY = f"select json_group_array(number) as numbers from {TABLE}"
_AUTH = {"Authorization": f"Bearer {TOKEN}"}


def make_table(system: System) -> None:
    """Make the table."""
    body = {"table": TABLE, "columns": [{"name": "number", "type": "integer"}]}
    answer = httpx.post(f"{system.clients_url}/{DATABASE}/-/create", json=body, headers=_AUTH)
    assert answer.status_code == 201, answer.text


class RowClient(threading.Thread):
    """Sends one request after another.

    Args:
        system: Where to.
        seed: Of the run.
        number: Of this client, of ``ROW_CLIENTS``.
    """

    def __init__(self, system: System, seed: int, number: int) -> None:
        super().__init__(name=f"row-client-{number}")
        self.done = threading.Event()
        self._system = system
        self._number = number
        self._noise = random.Random(f"rows {seed} {number}")
        self._client = httpx.Client(timeout=TIMEOUT_S, headers=_AUTH)

    def run(self) -> None:
        """Write until told to end."""
        while not self.done.wait(self._noise.uniform(0, 0.3)):
            self._write(self._number)
            self._number += ROW_CLIENTS
        self._client.close()

    def _write(self, number: int) -> None:
        via = self._noise.choice([*READERS, "clients"])
        base = self._system.clients_url if via == "clients" else self._system.url(via)
        history = self._system.history
        began_s = history.now_s()
        facts: dict[str, Any] = {"number": number, "via": via}
        outcome: Outcome = "info"
        try:
            body = {"rows": [{"number": number}] * ROWS}
            answer = self._client.post(f"{base}/{DATABASE}/{TABLE}/-/insert", json=body)
        except httpx.TransportError as exc:
            facts["error"] = repr(exc)
        else:
            facts["status"] = answer.status_code
            if answer.status_code == 201:
                outcome = "ok"
                facts["generation"] = int(answer.headers["Headrace-Generation"])
            elif answer.status_code < 500:
                outcome = "fail"
                facts["error"] = answer.text[:500]
        history.note("rows", self.name, outcome, began_s=began_s, **facts)


def judge(operations: Iterable[Operation]) -> Iterator[tuple[str, float, str]]:
    """Give the invariants that what readers showed of the table breaks; when, and how."""
    answered: dict[int, int] = {}
    read: list[Operation] = []
    for each in operations:
        if each.f == "rows" and each.outcome == "ok":
            answered[each.value["number"]] = each.value["generation"]
        elif each.f == "rows" and each.outcome == "fail":
            yield "I8", each.ended_s, f"good rows were refused: {each.value}"
        elif each.f == "read" and "numbers" in each.value:
            read.append(each)
    for each in read:
        generation = each.value["generation"]
        counts = Counter(each.value["numbers"])
        found = {
            "lacks": ("I1", {n for n, of in answered.items() if of <= generation} - counts.keys()),
            "has half of": ("I2", {n for n, count in counts.items() if count < ROWS}),
            "has too early": ("I2", {n for n in counts if answered.get(n, 0) > generation}),
            "has twice": ("I6", {n for n, count in counts.items() if count > ROWS}),
        }
        for what, (invariant, numbers) in found.items():
            if numbers:
                where = f"{each.value['reader']} in generation {generation}"
                yield invariant, each.ended_s, f"{where} {what} {sorted(numbers)}"
