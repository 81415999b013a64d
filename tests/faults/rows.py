"""Rows by Datasette's write API: who sends them, and what readers may show of them.

They go to databases that uploads go to as well. Each request has a number, which both of its rows
hold, and is sent once: without an answer nobody knows whether it is there. Now and then a client
deletes another table, or makes it again.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx

from tests.faults.system import READERS, TOKEN
from tests.faults.uploads import FLEETING, NUMBERS, PAIRED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.faults.history import Operation, Outcome
    from tests.faults.model import Model
    from tests.faults.system import System

ROWS = 2  # of each request
ROW_CLIENTS = 2
TABLES = 0.1  # of what a client does
TIMEOUT_S = 8.0  # after which a client knows nothing
QUERY = f"select json_group_array(number) as numbers from {NUMBERS}"
_AUTH = {"Authorization": f"Bearer {TOKEN}"}


def make_tables(system: System) -> None:
    """Make the tables that stay."""
    for database in PAIRED:
        body = {"table": NUMBERS, "columns": [{"name": "number", "type": "integer"}]}
        answer = httpx.post(f"{system.clients_url}/{database}/-/create", json=body, headers=_AUTH)
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
            database = self._noise.choice(PAIRED)
            if self._noise.random() < TABLES:
                self._change_table(database)
            else:
                self._write(database, self._number)
                self._number += ROW_CLIENTS
        self._client.close()

    def _write(self, database: str, number: int) -> None:
        body = {"rows": [{"number": number}] * ROWS}
        path = f"/{database}/{NUMBERS}/-/insert"
        self._ask("rows", {201}, "POST", path, json=body, database=database, number=number)

    def _change_table(self, database: str) -> None:
        if self._noise.random() < 0.5:
            path = f"/ingest/databases/{database}/{FLEETING}"
            self._ask("table", {200, 404}, "DELETE", path, database=database)
        else:
            body = {"table": FLEETING, "rows": [{"number": 0}] * ROWS}
            path = f"/{database}/-/create"
            self._ask("table", {201}, "POST", path, json=body, database=database)

    def _ask(
        self, f: str, right: set[int], method: str, path: str, *, json: Any = None, **facts: Any
    ) -> None:
        """Ask once, and note what came of it."""
        via = self._noise.choice([*READERS, "clients"])
        base = self._system.clients_url if via == "clients" else self._system.url(via)
        history = self._system.history
        began_s = history.now_s()
        facts |= {"method": method, "via": via}
        outcome: Outcome = "info"
        try:
            answer = self._client.request(method, f"{base}{path}", json=json)
        except httpx.TransportError as exc:
            facts["error"] = repr(exc)
        else:
            facts["status"] = answer.status_code
            generation = answer.headers.get("Headrace-Generation")
            if answer.status_code in right:
                if generation is not None:  # a reader that shows none yet hands an answer on, too
                    outcome = "ok"
                    facts["generation"] = int(generation)
            elif answer.status_code < 500:
                outcome = "fail"
                facts["error"] = answer.text[:500]
        history.note(f, self.name, outcome, began_s=began_s, **facts)


def judge(operations: Iterable[Operation], model: Model) -> Iterator[tuple[str, float, str]]:
    """Give the invariants that what readers showed of the tables breaks; when, and how."""
    answered: dict[str, dict[int, int]] = {database: {} for database in PAIRED}
    read: list[Operation] = []
    for each in operations:
        if each.f == "rows" and each.outcome == "ok":
            answered[each.value["database"]][each.value["number"]] = each.value["generation"]
        elif each.f in {"rows", "table"} and each.outcome == "fail":
            yield "I8", each.ended_s, f"good rows were refused: {each.value}"
        elif each.f == "read" and "numbers" in each.value:
            read.append(each)
    for each in read:
        database, generation = each.value["database"], each.value["generation"]
        of_rows, numbers = answered[database], each.value["numbers"]
        counts = Counter(numbers)
        found = {
            "lacks": ("I1", {n for n, of in of_rows.items() if of <= generation} - counts.keys()),
            "has half of": ("I2", {n for n, count in counts.items() if count < ROWS}),
            "has too early": ("I2", {n for n in counts if of_rows.get(n, 0) > generation}),
            "has twice": ("I6", {n for n, count in counts.items() if count > ROWS}),
        }
        where = f"{each.value['reader']} in generation {generation} of {database}"
        for what, (invariant, wrong) in found.items():
            if wrong:
                yield invariant, each.ended_s, f"{where} {what} {sorted(wrong)}"
        if generation <= model.newest:
            said = model.written(generation, database).get(NUMBERS)
            if said != len(numbers):
                yield "I2", each.ended_s, f"{where} has {len(numbers)} numbers and says {said}"
