"""One run of the suite: a seed, for so long, and what the checker says of it."""

from __future__ import annotations

import signal
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.faults.checker import Evidence, check
from tests.faults.clients import UPLOADERS, Uploader, Watcher
from tests.faults.history import History
from tests.faults.model import Model
from tests.faults.nemesis import Nemesis, schedule_breaks, schedule_kills
from tests.faults.rows import ROW_CLIENTS, RowClient, make_tables
from tests.faults.system import LOOK_S, READERS, running
from tests.faults.uploads import WHOLE, make_upload

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence
    from pathlib import Path

    from tests.faults.checker import Violation
    from tests.faults.system import System
    from tests.faults.uploads import Part
    from tests.integration.s3_kit import S3

    Client = Uploader | RowClient | Watcher | Nemesis

SETTLE_S = 120.0  # until readers show the newest generation after everything was healed
CHECK_EVERY_S = 5.0
CHECK_SHARE = 20  # the time between checks is so many times what one takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        violations: What must not be; empty if all is well.
        counted: Operations by name and outcome.
        generations: That were published while things were broken.
        history: The file that holds all operations.
    """

    violations: list[Violation]
    counted: Counter[str]
    generations: int
    history: Path

    @property
    def kills(self) -> int:
        """Processes that were killed, volumes that were lost included."""
        return sum(
            number
            for name, number in self.counted.items()
            if name.startswith(("fault kill ", "fault lose "))
        )

    def __str__(self) -> str:
        """Give a few lines for people."""
        faults = {
            name.removeprefix("fault "): number
            for name, number in sorted(self.counted.items())
            if name.startswith("fault ")
        }
        others = {
            name: number
            for name, number in sorted(self.counted.items())
            if not name.startswith("fault ")
        }
        lines = [
            f"{self.kills} kills, {sum(faults.values())} faults: {_listed(faults)}",
            f"operations: {_listed(others)}; {self.generations} generations",
            f"{len(self.violations)} violations; history: {self.history}",
        ]
        lines += [
            f"  {each.invariant} at {each.at_s:.2f} s: {each.what}" for each in self.violations[:20]
        ]
        return "\n".join(lines)


def _listed(counted: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counted.items())


def run(root: Path, *, seed: int, seconds: float, s3: S3 | None) -> Outcome:
    """Run the system under faults, and judge it.

    Args:
        root: An empty folder.
        seed: Of everything that is drawn.
        seconds: How long things are broken.
        s3: Where the store is; None for a folder.
    """
    history = History(root / "history.jsonl")
    sent: dict[str, Part] = {}
    model = Model()
    with running(root, history, s3) as system:
        prepare(system, seed, sent)
        before = len(system.read_log())
        uploaders = [Uploader(system, seed, number, sent) for number in range(UPLOADERS)]
        row_clients = [RowClient(system, seed, number) for number in range(ROW_CLIENTS)]
        watchers = [Watcher(system, seed, reader) for reader in READERS]
        nemeses = [
            Nemesis(system, "killer", schedule_kills(seed)),
            Nemesis(system, "breaker", schedule_breaks(seed, s3=s3 is not None)),
        ]
        threads: list[Client] = [*uploaders, *row_clients, *watchers, *nemeses]
        for thread in threads:
            thread.start()
        try:
            watch(system, sent, model, seconds)
            end(nemeses)
            end([*uploaders, *row_clients])
            settle(system)
        finally:
            end(threads)
        for nemesis in nemeses:
            if nemesis.failure is not None:
                raise nemesis.failure
        for reader in READERS:
            with closing(Watcher(system, seed, reader)) as watcher:
                watcher.read_all()
        entries = system.read_log()
        system.stop(signal.SIGTERM)
        system.verify()
    operations = history.operations()
    history.close()
    return Outcome(
        violations=check(Evidence(operations=operations, entries=entries, sent=sent, model=model)),
        counted=history.count(),
        generations=len(entries) - before,
        history=history.path,
    )


def end(threads: Sequence[Client]) -> None:
    """Let threads come to their end."""
    for thread in threads:
        thread.done.set()
    for thread in threads:
        thread.join()


def prepare(system: System, seed: int, sent: dict[str, Part]) -> None:
    """Make the tables that are read all the while, and wait until every reader shows them."""
    wanted = [
        *(
            (kind, name)
            for name in ("red", "green")
            for kind in ("append", "replace", "upsert", "pair")
        ),
        ("transfer", ""),
        ("whole", WHOLE),
    ]
    with closing(Uploader(system, seed, 0, sent)) as first:
        for number, (kind, database) in enumerate(wanted):
            first.deliver(make_upload(seed, number, kind, database))
    make_tables(system)
    settle(system)


def watch(system: System, sent: dict[str, Part], model: Model, seconds: float) -> None:
    """Judge what has happened so far, again and again, until the time is over or it is clear."""
    end_s = time.monotonic() + seconds
    pause_s = CHECK_EVERY_S
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(pause_s, left_s))
        began_s = time.monotonic()
        evidence = Evidence(
            operations=system.history.operations(),
            entries=system.read_log(),
            sent=dict(sent),
            settled=False,
            model=model,
        )
        if check(evidence):
            return
        pause_s = max(CHECK_EVERY_S, CHECK_SHARE * (time.monotonic() - began_s))


def settle(system: System) -> None:
    """Wait until every reader shows the newest generation, and it stays the newest; note it."""
    began_s = system.history.now_s()
    deadline_s = time.monotonic() + SETTLE_S
    outcome: Literal["ok", "fail"] = "fail"
    while outcome == "fail" and time.monotonic() < deadline_s:
        newest = len(system.read_log())
        shown = {reader: system.generation(reader) for reader in READERS}
        if set(shown.values()) == {newest} and len(system.read_log()) == newest:
            outcome = "ok"
        time.sleep(LOOK_S)
    system.history.note("settle", "harness", outcome, began_s=began_s, newest=newest, shown=shown)
