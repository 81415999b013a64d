"""The checker and the schedules, by histories that are made up: each invariant, broken, is seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest

from headrace.generation import Cut, Entry, Source
from tests.faults.checker import INVARIANTS, Evidence, check, classify
from tests.faults.history import Operation, Outcome
from tests.faults.nemesis import BREAKS, KILLS, schedule_breaks, schedule_kills
from tests.faults.uploads import FLEETING, KINDS, NUMBERS, PAIR, ROWS, Part, make_upload

SEED = 7
AT = datetime(2026, 11, 22, tzinfo=UTC)
READER = "reader-0"


class Run:
    """A run that went well, until a test changes something of it.

    Generation 1 is a pair of tables in red, 2 a transfer's file for red, 3 the one for green.
    """

    def __init__(self) -> None:
        self.pair = make_upload(SEED, 1, "pair", "red")
        self.transfer = make_upload(SEED, 2, "transfer")
        self.bad = make_upload(SEED, 3, "bad", "red")
        uploads = (self.pair, self.transfer, self.bad)
        self.sent = {part.sha256: part for upload in uploads for part in upload.parts}
        self.entries: list[Entry] = []
        self.operations: list[Operation] = []
        self.settled = True
        for upload in (self.pair, self.transfer):
            receipts = [self.publish(part, f"r{len(self.entries) + 1}") for part in upload.parts]
            self.answer("upload", upload.key, "ok", receipts=receipts)
        self.answer("upload", self.bad.key, "fail", good=False, kind="bad", code="invalid-file")

    def publish(self, part: Part, receipt: str, *, epoch: int = 1) -> dict[str, Any]:
        """Publish a file; give its receipt."""
        number = len(self.entries) + 1
        cut = Cut(
            lineage="0" * 16,
            txid=number,
            page_size=4096,
            pages=1,
            tables={},
            updated_at=AT,
            source=Source(filename=part.filename, sha256=part.sha256),
        )
        self.entries.append(
            Entry(
                number=number,
                epoch=epoch,
                created_at=AT,
                cause={"kind": "ingest", "receipt": receipt},
                databases={part.database: cut},
            )
        )
        return {"id": receipt, "sha256": part.sha256, "state": "published", "generation": number}

    def answer(self, f: str, key: str, outcome: Outcome, **value: Any) -> None:
        """Have a client get an answer."""
        facts = {"key": key, "kind": "pair", "good": True, "sha256": [], "code": None, **value}
        self.note(f, outcome, **facts)

    def read(self, generation: int, tables: dict[str, list[int]], **value: Any) -> None:
        """Have a reader answer a query."""
        facts = {"reader": READER, "generation": generation, "database": "red", "tables": tables}
        self.note("read", "ok", **{**facts, **value})

    def read_rows(self, generation: int, rows: dict[str, int]) -> None:
        """Have a reader answer with all databases."""
        self.note("read", "ok", reader=READER, generation=generation, rows=rows)

    def note(
        self, f: str, outcome: Outcome = "ok", *, began_s: float | None = None, **value: Any
    ) -> None:
        """Note an operation; each ends a second after the one before it."""
        now_s = float(len(self.operations))
        began_s = now_s if began_s is None else began_s
        self.operations.append(
            Operation(
                f=f, process="p", began_s=began_s, ended_s=now_s, outcome=outcome, value=value
            )
        )

    def digests(self, *numbers: int) -> dict[str, list[int]]:
        """Give what the tables of red show with the files of some generations."""
        found = {}
        for part in (self.pair.parts[0], self.transfer.parts[0])[: len(numbers)]:
            for name, rows in part.tables.items():
                found[name] = [ROWS, 1, sum(value for _key, _batch, value in rows)]
        return found

    def say(self, database: str, tables: dict[str, int]) -> None:
        """Have the log say how many rows a database's tables have."""
        for number, entry in enumerate(self.entries):
            cuts = {
                name: replace(cut, tables=tables) if name == database else cut
                for name, cut in entry.databases.items()
            }
            self.entries[number] = replace(entry, databases=cuts)

    def violations(self) -> list[str]:
        """Give which invariants the checker finds broken, without repeats."""
        evidence = Evidence(
            operations=self.operations,
            entries=self.entries,
            sent=self.sent,
            settled=self.settled,
        )
        return sorted({each.invariant for each in check(evidence)})


@pytest.fixture
def run_() -> Run:
    """Give a run that went well, which is read in every generation."""
    made = Run()
    assert made.violations() == []
    made.read(1, made.digests(1))
    made.read_rows(2, {"red": 3 * ROWS})
    made.read(3, made.digests(1, 2))
    made.read_rows(3, {"red": 3 * ROWS, "green": ROWS})
    made.note("verify", volume=READER, said="")
    assert made.violations() == []
    return made


def test_every_invariant_is_judged() -> None:
    """None of the eight is forgotten."""
    assert list(INVARIANTS) == [f"I{number}" for number in range(1, 9)]


def test_acknowledged_upload_that_is_not_in_the_log_is_seen(run_: Run) -> None:
    """I1: an answer names a generation that is of somebody else, or that never was."""
    sha256 = run_.pair.parts[0].sha256
    lost = {"id": "other", "sha256": sha256, "state": "published", "generation": 2}
    run_.answer("receipt", run_.pair.key, "ok", receipts=[lost])
    assert run_.violations() == ["I1"]
    run_.operations.pop()
    run_.answer("receipt", run_.pair.key, "ok", receipts=[{**lost, "id": "r1", "generation": 9}])
    assert run_.violations() == ["I1"]
    run_.settled = False
    assert run_.violations() == []


@pytest.mark.parametrize("outcome", ["accepted", "info"])
def test_upload_without_a_last_answer_is_seen_in_the_end(run_: Run, outcome: Outcome) -> None:
    """I1: what was taken in comes to an end, and every client gets an answer once all is healed."""
    run_.answer("upload", "never", outcome)
    run_.settled = False
    assert run_.violations() == []
    run_.settled = True
    assert run_.violations() == ["I1"]


def test_reader_that_never_shows_the_newest_generation_is_seen(run_: Run) -> None:
    """I1: rows that no reader shows in the end are not kept for anybody."""
    run_.note("settle", "ok", newest=3, shown={READER: 3})
    assert run_.violations() == []
    run_.note("settle", "fail", newest=3, shown={READER: 2})
    assert run_.violations() == ["I1"]


def test_rows_that_are_missing_or_there_twice_are_seen(run_: Run) -> None:
    """I2: every table is compared with what its generation holds, by the sum of its values."""
    right = run_.digests(1, 2)
    for wrong in (
        {**right, "red": [0, 0, 0]},
        {**right, "red": [2 * ROWS, 1, 2 * right["red"][2]]},
        {**right, "red": [ROWS, 1, right["red"][2] + 1]},
    ):
        run_.read(3, wrong)
        assert run_.violations() == ["I2"]
        run_.operations.pop()


def test_half_a_file_is_seen_before_its_generation_is_known(run_: Run) -> None:
    """I2: files have so many rows, and the sums of a pair of tables are each other's negatives."""
    debit, credit = PAIR
    run_.settled = False
    run_.read(99, {debit: [ROWS - 1, 1, 5], credit: [ROWS, 1, -5]})
    assert run_.violations() == ["I2"]
    run_.operations.pop()
    run_.read(99, {debit: [ROWS, 1, 5], credit: [0, 0, 0]})
    assert run_.violations() == ["I2"]


def test_two_databases_of_two_generations_are_seen(run_: Run) -> None:
    """I2: one page that shows a transfer's one side is of no generation."""
    run_.read_rows(3, {"red": 3 * ROWS})
    assert run_.violations() == ["I2"]


def test_generation_that_was_never_published_is_seen(run_: Run) -> None:
    """I2: while a run goes on it may only not be known yet."""
    run_.read(4, run_.digests(1, 2))
    run_.settled = False
    assert run_.violations() == []
    run_.settled = True
    assert run_.violations() == ["I2"]


def test_reader_that_goes_back_is_seen(run_: Run) -> None:
    """I3: unless the older answer was asked for before the newer one was there."""
    run_.read(2, run_.digests(1, 2), began_s=0.0)
    assert run_.violations() == []
    run_.read(2, run_.digests(1, 2))
    assert run_.violations() == ["I3"]
    run_.operations.pop()
    run_.read(2, run_.digests(1, 2), reader="reader-1")
    assert run_.violations() == []


def test_copy_that_is_not_what_was_published_is_seen(run_: Run) -> None:
    """I4: the reading of all copies says so."""
    run_.note("verify", "fail", volume=READER, said="a page differs")
    assert run_.violations() == ["I4"]


def test_second_writer_is_seen(run_: Run) -> None:
    """I5: an older epoch publishes after a newer one; a number that is left out."""
    good = list(run_.entries)
    more = make_upload(SEED, 4, "append", "green").parts[0]
    run_.sent[more.sha256] = more
    run_.publish(more, "r4", epoch=2)
    assert run_.violations() == []
    more = make_upload(SEED, 5, "append", "green").parts[0]
    run_.sent[more.sha256] = more
    run_.publish(more, "r5", epoch=1)
    assert run_.violations() == ["I5"]
    run_.entries = [*good, run_.entries[4]]
    assert run_.violations() == ["I5"]


def test_file_that_is_published_twice_is_seen(run_: Run) -> None:
    """I6: as two receipts, or as one receipt after something else had come in between."""
    pair = run_.pair.parts[0]
    run_.publish(pair, "r1")
    assert run_.violations() == ["I6"]  # the transfer came in between
    run_.entries.pop()
    run_.publish(pair, "another")
    assert run_.violations() == ["I6"]


def test_file_whose_receipt_was_not_written_down_may_be_published_again(run_: Run) -> None:
    """I6: the same receipt again, with nothing in between, changes nothing."""
    run_.publish(run_.transfer.parts[1], "r3")
    assert run_.violations() == []


def test_other_receipts_for_the_same_key_are_seen(run_: Run) -> None:
    """I6: who sends it again gets the receipts of the first time."""
    run_.answer("upload", run_.pair.key, "ok", receipts=[{"id": "new", "sha256": ""}])
    assert run_.violations() == ["I6"]


def test_failed_read_is_seen_unless_the_reader_is_dead(run_: Run) -> None:
    """I7: only while a reader's process is not there, another reader's death is no excuse."""
    run_.note("down", reader=READER)
    run_.note("read", "fail", reader=READER, error="refused")
    assert run_.violations() == []
    run_.note("up", reader=READER)
    run_.note("down", reader="reader-1")
    run_.note("read", "fail", reader=READER, status=502)
    assert run_.violations() == ["I7"]


def test_bad_file_that_changes_something_is_seen(run_: Run) -> None:
    """I8: it is published, or taken; so is a file that nobody sent."""
    run_.publish(run_.bad.parts[0], "r4")
    assert run_.violations() == ["I8"]
    run_.entries.pop()
    run_.answer("upload", "bad", "ok", good=False, receipts=[])
    assert run_.violations() == ["I8"]
    run_.operations.pop()
    del run_.sent[run_.transfer.parts[1].sha256]
    assert "I8" in run_.violations()


def test_good_file_that_is_refused_is_seen(run_: Run) -> None:
    """I8: only a converter that was killed, and a table that is there, refuse a good file."""
    run_.answer("upload", "a", "fail", kind="append", code="converter-crashed")
    run_.answer("upload", "b", "fail", kind="create", code="table-exists")
    assert run_.violations() == []
    run_.answer("upload", "c", "fail", kind="append", code="key-reused")
    assert run_.violations() == ["I8"]


def test_refused_file_that_is_published_is_seen(run_: Run) -> None:
    """I8: a refusal is for good."""
    sha256 = [run_.pair.parts[0].sha256]
    run_.answer("upload", "a", "fail", code="converter-crashed", sha256=sha256)
    assert run_.violations() == ["I8"]


def test_rows_that_are_lost_halved_early_or_twice_are_seen() -> None:
    """I1, I2, I6: what was written row by row is there from its generation on, each pair once."""
    run_ = Run()

    def seen(generation: int, *numbers: int, said: int | None = None) -> list[str]:
        run_.say("red", {NUMBERS: len(numbers) if said is None else said})
        where: dict[str, Any] = {"reader": "reader-1", "database": "red"}
        run_.note("read", **where, generation=generation, numbers=numbers)
        found = run_.violations()
        run_.operations.pop()
        return found

    run_.note("rows", database="red", number=5, generation=2)
    run_.note("rows", database="green", number=7, generation=2)
    run_.note("rows", "info", database="red", number=6)
    assert seen(1) == seen(2, 5, 5) == seen(3, 5, 5, 6, 6) == []
    assert seen(2) == ["I1"]
    assert seen(2, 5) == seen(1, 5, 5) == seen(2, 5, 5, 6) == ["I2"]
    assert seen(2, 5, 5, said=4) == ["I2"]
    assert seen(3, 5, 5, 5, 5) == ["I6"]


def test_rows_beside_those_of_uploads_are_counted_in_a_page_of_all_databases() -> None:
    """I2: how many there are is what the log says, and what uploads brought is known."""
    run_ = Run()
    run_.say("red", {NUMBERS: 4, FLEETING: 2})
    run_.read_rows(2, {"red": 3 * ROWS + 6})
    assert run_.violations() == []
    run_.read_rows(2, {"red": 3 * ROWS})
    assert run_.violations() == ["I2"]


def test_file_that_is_published_again_after_rows_is_seen(run_: Run) -> None:
    """I6: between its merge and its publication nothing else may be written to its database."""
    cut = run_.entries[2].databases["green"]
    cause = {"kind": "rows", "receipt": "rows-1"}
    run_.entries.append(replace(run_.entries[2], number=4, cause=cause, databases={"green": cut}))
    run_.publish(run_.transfer.parts[1], "r3")
    assert run_.violations() == ["I6"]


@pytest.mark.parametrize("f", ["rows", "table"])
def test_rows_that_are_refused_are_seen(run_: Run, f: str) -> None:
    """I8: nothing is wrong with them."""
    run_.note(f, "fail", database="red", number=5, status=400)
    assert run_.violations() == ["I8"]


def test_answers_are_told_apart() -> None:
    """Only what can never happen any more has failed."""
    assert classify(201, {}) == "ok"
    assert classify(202, {}) == "accepted"
    assert classify(422, {"code": "invalid-file"}) == "fail"
    assert classify(409, {"code": "table-exists"}) == "fail"
    assert classify(409, {"code": "in-flight"}) == "info"
    assert classify(503, {"code": "lease-lapsed"}) == "info"
    assert classify(507, {"code": "disk-full"}) == "info"


def test_seed_repeats_every_choice() -> None:
    """The same seed gives the same faults and uploads, another one others."""

    def drawn(seed: int) -> list[Any]:
        steps = [
            *islice(schedule_kills(seed), 50),
            *islice(schedule_breaks(seed, s3=True), 50),
        ]
        faults = [(step.gap_s, step.name, step.hold_s, step.dice.random()) for step in steps]
        return [*faults, *(make_upload(seed, number) for number in range(50))]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_every_kind_of_fault_and_upload_is_drawn() -> None:
    """A long run leaves none out."""
    breaks = {step.name for step in islice(schedule_breaks(SEED, s3=True), len(BREAKS))}
    assert breaks == set(BREAKS)
    assert {step.name for step in islice(schedule_kills(SEED), 200)} == {
        f"kill {kind}" for kind in KILLS
    }
    assert {make_upload(SEED, number).kind for number in range(200)} == set(KINDS)
