"""The invariants of DESIGN.md, section 5, proven from the history of a run and the log.

Pure: nothing is asked, so a history that was kept can be judged again. While a run goes on, what is
not known yet (a generation whose entry was not read, an upload without its last answer) is no
violation; once it is ``settled`` it is.

What counts as a failed read (I7): every read that did not get ``200`` with a generation within
the client's 40 s, whatever was broken meanwhile, except at a reader whose own process was dead:
from just before the nemesis killed it until it was ready again after its restart. A reader that is
paused is not excused, nor is one that lost a worker, its nursery, the primary, the store, or the
room on its disk.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.faults import rows
from tests.faults.model import Digest, Model
from tests.faults.uploads import PAIR, ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from headrace.generation import Entry
    from tests.faults.history import Operation, Outcome
    from tests.faults.model import Shown
    from tests.faults.uploads import Part

# Refusals of good files that are honest: they change nothing, and say so.
HONEST = {
    "create": {"table-exists", "converter-crashed"},
    "bad": {"invalid-file", "converter-crashed"},
}
CRASHED = {"converter-crashed"}  # its process was killed


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """Something that must never be.

    Attributes:
        invariant: ``I1`` to ``I8``.
        what: What was seen.
        at_s: When, in seconds since the history began.
    """

    invariant: str
    what: str
    at_s: float


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What is judged.

    Attributes:
        operations: The history.
        entries: The log, from generation 1.
        sent: Every file that was sent, by its hash.
        settled: Whether everything was healed, and every upload has its last answer.
    """

    operations: Sequence[Operation]
    entries: Sequence[Entry]
    sent: Mapping[str, Part]
    settled: bool = True
    model: Model = field(default_factory=Model)

    def __post_init__(self) -> None:
        for entry in self.entries[self.model.newest :]:
            self.model.apply(entry, self.sent)

    def of(self, *names: str) -> Iterator[Operation]:
        """Give the operations of some names."""
        return (each for each in self.operations if each.f in names)

    def published(self) -> dict[str, list[tuple[Entry, str]]]:
        """Give the entries that uploads made, with the database, by the file's hash."""
        found: defaultdict[str, list[tuple[Entry, str]]] = defaultdict(list)
        for entry in self.entries:
            if entry.cause["kind"] != "ingest":
                continue
            for name, cut in entry.databases.items():
                found[cut.source.sha256 if cut.source else ""].append((entry, name))
        return found


def check(evidence: Evidence) -> list[Violation]:
    """Prove every invariant; give what speaks against one, by time."""
    found = [
        Violation(invariant=name, what=what, at_s=at_s)
        for name, prove in INVARIANTS.items()
        for at_s, what in prove(evidence)
    ]
    found += [
        Violation(invariant=name, what=what, at_s=at_s)
        for name, at_s, what in rows.judge(evidence.operations, evidence.model)
    ]
    return sorted(found, key=lambda each: each.at_s)


def acknowledged_means_kept(evidence: Evidence) -> Iterator[tuple[float, str]]:
    """I1: what was published for a client is in the log; what was taken in gets there."""
    made = {
        (entry.cause.get("receipt"), sha256): entry.number
        for sha256, entries in evidence.published().items()
        for entry, _database in reversed(entries)
    }
    for each in evidence.of("upload", "receipt"):
        for receipt in each.value.get("receipts", ()):
            generation = receipt.get("generation") or 0
            known = evidence.settled or generation <= len(evidence.entries)
            found = made.get((receipt["id"], receipt["sha256"]))
            is_there = found and found <= generation <= len(evidence.entries)
            if generation and known and not is_there:
                yield each.ended_s, f"generation {generation} lacks {each.value['key']}: {receipt}"
    if evidence.settled:
        uploads = list(evidence.of("upload", "receipt"))
        ended = {each.value["key"] for each in uploads if each.outcome in {"ok", "fail"}}
        for each in uploads:
            if each.value["key"] not in ended:
                yield each.ended_s, f"there is no last answer after {each.outcome}: {each.value}"
    for each in evidence.of("settle"):
        if each.outcome != "ok":
            yield each.ended_s, f"readers never showed the newest generation: {each.value}"


def all_or_nothing(evidence: Evidence) -> Iterator[tuple[float, str]]:
    """I2: every answer is what its generation holds, whole files and all databases of one cut."""
    for each in evidence.of("read"):
        if each.outcome != "ok" or "numbers" in each.value:
            continue
        generation = each.value["generation"]
        where = f"{each.value['reader']} in generation {generation}"
        known = generation <= evidence.model.newest
        shown = evidence.model.shown(generation) if known else None
        if shown is None and evidence.settled:
            yield each.ended_s, f"{where} showed what was never published"
        judge = _judge_rows if "rows" in each.value else _judge_tables
        for what in judge(each.value, shown, evidence.model):
            yield each.ended_s, f"{where} showed {what}"


def _judge_rows(value: Mapping[str, Any], shown: Shown | None, model: Model) -> Iterator[str]:
    """Judge the rows of all databases, in one page: two databases of two generations show here."""
    if shown is not None:
        right = {
            name: sum(each.rows for each in tables.values())
            + sum(model.written(value["generation"], name).values())
            for name, tables in shown.items()
        }
        if value["rows"] != right:
            yield f"{value['rows']} and not {right} rows"


def _judge_tables(value: Mapping[str, Any], shown: Shown | None, _model: Model) -> Iterator[str]:
    """Judge the tables of one database, in one answer."""
    tables = {name: Digest(*digest) for name, digest in value["tables"].items()}
    for name, digest in tables.items():
        if name != "stock" and digest.rows != ROWS * digest.batches:
            yield f"half a file: {name} {digest}"
    if sum(tables[name].total for name in PAIR if name in tables) != 0:
        yield f"one table of a pair: {tables}"
    if shown is not None:
        right = shown.get(value["database"], {})
        for name, digest in tables.items():
            if digest != right.get(name):
                yield f"{value['database']}/{name} as {digest} and not {right.get(name)}"


def forward_only(evidence: Evidence) -> Iterator[tuple[float, str]]:
    """I3: what was asked for after an answer is not of an older generation, reader by reader."""
    by_reader: defaultdict[str, list[Operation]] = defaultdict(list)
    for each in evidence.of("read"):
        if each.outcome == "ok":
            by_reader[each.value["reader"]].append(each)
    for reader, reads in by_reader.items():
        ended = sorted(reads, key=lambda each: each.ended_s)
        newest = [0]
        for each in ended:
            newest.append(max(newest[-1], each.value["generation"]))
        times = [each.ended_s for each in ended]
        for each in reads:
            before = newest[bisect_left(times, each.began_s)]
            if each.value["generation"] < before:
                yield (
                    each.ended_s,
                    f"{reader} went back from {before} to {each.value['generation']}",
                )


def proven_copies(evidence: Evidence) -> Iterator[tuple[float, str]]:
    """I4: read page by page at the end, every copy is what its generation says."""
    for each in evidence.of("verify"):
        if each.outcome != "ok":
            yield each.ended_s, f"{each.value['volume']}: {each.value['said']}"


def one_writer(evidence: Evidence) -> Iterator[tuple[float, str]]:
    """I5: the log is unbroken, and no epoch publishes after a later one."""
    for number, entry in enumerate(evidence.entries, 1):
        if entry.number != number:
            yield 0.0, f"entry {entry.number} stands at {number}"
    for before, after in pairwise(evidence.entries):
        if after.epoch < before.epoch:
            yield 0.0, f"generation {after.number} is of epoch {after.epoch} after {before.epoch}"


def exactly_once(evidence: Evidence) -> Iterator[tuple[float, str]]:
    """I6: whatever was sent again is there once, and its answers name the same receipts."""
    for sha256, entries in evidence.published().items():
        receipts = {entry.cause["receipt"] for entry, _database in entries}
        part = evidence.sent.get(sha256)
        if len(receipts) > 1 and part is not None:
            numbers = [entry.number for entry, _database in entries]
            yield 0.0, f"{part.filename} of upload {part.number} was published in {numbers}"
        if len(entries) > 1 and _changed_between(evidence, entries):
            yield 0.0, f"{sha256} was published again after others: {entries}"
    answered: dict[str, list[str]] = {}
    for each in evidence.of("upload"):
        if each.outcome != "ok":
            continue
        key, ids = each.value["key"], [receipt["id"] for receipt in each.value["receipts"]]
        if ids != answered.setdefault(key, ids):
            yield each.ended_s, f"{key} got {ids} after {answered[key]}"


def _changed_between(evidence: Evidence, entries: list[tuple[Entry, str]]) -> bool:
    """Say whether something else was written to a database between publications of one file."""
    (first, database), (last, _database) = entries[0], entries[-1]
    between = evidence.entries[first.number : last.number - 1]
    return any(
        database in entry.databases and entry.cause.get("receipt") != first.cause["receipt"]
        for entry in between
        if entry.cause["kind"] in {"ingest", "rows"}
    )


def no_failed_read(evidence: Evidence) -> Iterator[tuple[float, str]]:
    """I7: every read was answered, unless the reader's own process was dead."""
    dead: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for each in evidence.of("down", "up"):
        spans = dead[each.value["reader"]]
        if each.f == "down":
            spans.append((each.ended_s, float("inf")))
        elif spans:
            spans[-1] = (spans[-1][0], each.ended_s)
    for each in evidence.of("read"):
        if each.outcome == "ok":
            continue
        spans = dead[each.value["reader"]]
        if not any(began_s <= each.ended_s and each.began_s <= end_s for began_s, end_s in spans):
            yield each.ended_s, f"a read failed: {each.value}"


def nothing_lost_on_bad_input(evidence: Evidence) -> Iterator[tuple[float, str]]:
    """I8: a refusal has its reason, changes nothing, and can be read later; good files get none."""
    published = evidence.published()
    for sha256, entries in published.items():
        part = evidence.sent.get(sha256)
        if part is None or not part.good:
            yield 0.0, f"generation {entries[0][0].number} is of {part or 'what nobody sent'}"
    for each in evidence.of("upload", "receipt"):
        value = each.value
        if each.outcome == "ok" and not value["good"]:
            yield each.ended_s, f"a bad file was taken: {value}"
        if each.outcome != "fail":
            continue
        if value["code"] not in HONEST.get(value["kind"], CRASHED):
            yield each.ended_s, f"an upload was refused: {value}"
        for sha256 in value["sha256"] if len(value["sha256"]) == 1 else ():
            if sha256 in published:
                yield each.ended_s, f"what was refused is published: {value}"


INVARIANTS: dict[str, Callable[[Evidence], Iterable[tuple[float, str]]]] = {
    "I1": acknowledged_means_kept,
    "I2": all_or_nothing,
    "I3": forward_only,
    "I4": proven_copies,
    "I5": one_writer,
    "I6": exactly_once,
    "I7": no_failed_read,
    "I8": nothing_lost_on_bad_input,
}


def classify(status: int, document: Mapping[str, Any]) -> Outcome:
    """Give the outcome of an upload's answer, as the history has it."""
    if status == 201:
        return "ok"
    if status == 202:
        return "accepted"
    again = {"in-flight", "too-many-requests", "incomplete-body"}
    if 400 <= status < 500 and document.get("code") not in again:
        return "fail"
    return "info"
