"""Entries, states, and their JSON forms."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import LogError
from headrace.generation import Cut, Entry, Source, State, format_txid, parse_txid

if TYPE_CHECKING:
    from collections.abc import Iterator

AT = datetime(2026, 11, 22, 1, 33, 39, 479000, tzinfo=UTC)


def make_cut(txid: int = 10, lineage: str = "0123456789abcdef") -> Cut:
    """Make a cut."""
    return Cut(
        lineage=lineage,
        txid=txid,
        page_size=4096,
        pages=2775,
        tables={"orders": 1_000_000},
        updated_at=AT,
        source=Source(filename="orders.csv", sha256="ab" * 32),
    )


def make_entry(number: int, epoch: int = 1, **changes: object) -> Entry:
    """Make an entry that sets `sales`, unless told otherwise."""
    values = {"databases": {"sales": make_cut()}, "removed": (), **changes}
    return Entry(number=number, epoch=epoch, created_at=AT, cause={"kind": "ingest"}, **values)  # type: ignore[arg-type]


def test_entry_is_read_back_as_it_was_written() -> None:
    """An entry survives its JSON form."""
    entry = make_entry(42, removed=("old",))
    assert Entry.decode(entry.encode()) == entry


def test_entry_has_the_form_of_the_contract() -> None:
    """The JSON names are those of the log's format."""
    document = json.loads(make_entry(42).encode())
    assert document["generation"] == 42
    assert document["created_at"] == "2026-11-22T01:33:39.479Z"
    assert document["databases"]["sales"]["txid"] == "000000000000000a"
    assert document["databases"]["sales"]["tables"] == {"orders": {"rows": 1_000_000}}


NO_JSON_OBJECTS = [b"", b"nonsense", b"[]", b"null", b"\xff", b"[" * 200_000]
NO_ENTRIES = [b"{}", b'{"generation": "x"}', b'{"generation": 1e999}']


@pytest.mark.parametrize("body", [*NO_JSON_OBJECTS, *NO_ENTRIES])
def test_entry_that_is_none_is_an_error(body: bytes) -> None:
    """Bytes that are not an entry are a LogError, whatever they are."""
    with pytest.raises(LogError):
        Entry.decode(body)


WRONG: list[Any] = [None, True, 5, -1.5, 1e999, "x", "2026-11-22T01:33:39"]
WRONG += [[], [[]], ["x"], {}, {"x": None}]


def damaged(document: Any) -> Iterator[Any]:
    """Give a document with anything else in each place of it, and without each of its members."""
    yield from WRONG
    if isinstance(document, dict):
        for name, value in document.items():
            yield {each: document[each] for each in document if each != name}
            yield from ({**document, name: other} for other in damaged(value))
    if isinstance(document, list):
        for place, value in enumerate(document):
            for other in damaged(value):
                yield [*document[:place], other, *document[place + 1 :]]


def test_entry_of_any_wrong_shape_is_none_or_does_no_harm() -> None:
    """Whatever is read as an entry can be applied, written and read again."""
    cut = replace(make_cut(), checksum=5, metadata={"title": "Sales"})
    entry = make_entry(1, databases={"sales": cut}, removed=("old",))
    shapes = [json.dumps(each).encode() for each in damaged(json.loads(entry.encode()))]
    read = 0
    for body in shapes:
        try:
            found = Entry.decode(body)
            state = State().apply(found)
        except LogError:
            continue
        read += 1
        assert State.decode(state.encode()) == state
        assert Entry.decode(found.encode()) == found
        assert all(isinstance(said, str) for said in found.cause.values())
        assert found.created_at.tzinfo is UTC
    assert len(shapes) > 300
    assert read


def test_state_is_read_back_as_it_was_written() -> None:
    """A checkpoint survives its JSON form."""
    state = State().apply(make_entry(1))
    assert State.decode(state.encode()) == state
    assert State.decode(State().encode()) == State()


def test_state_apply_sets_and_removes() -> None:
    """A state is what all entries add up to."""
    state = State().apply(make_entry(1))
    state = state.apply(make_entry(2, databases={"weather": make_cut()}))
    assert set(state.databases) == {"sales", "weather"}
    state = state.apply(make_entry(3, databases={}, removed=("sales",)))
    assert set(state.databases) == {"weather"}
    assert state.number == 3


def test_state_knows_the_generation_of_each_cut() -> None:
    """A reader knows in which generation a database last changed, also from a checkpoint."""
    state = State().apply(make_entry(1)).apply(make_entry(2, databases={"weather": make_cut()}))
    brought_back = make_entry(3, databases={"sales": state.databases["sales"]})
    assert b'"generation":1' not in brought_back.encode()
    read = State.decode(state.apply(brought_back).encode())
    assert {name: cut.generation for name, cut in read.databases.items()} == {
        "sales": 3,
        "weather": 2,
    }


def test_state_apply_out_of_order_is_an_error() -> None:
    """Entries are applied one by one, and never from an older epoch."""
    state = State().apply(make_entry(1, epoch=2))
    with pytest.raises(LogError, match="cannot apply entry 3"):
        state.apply(make_entry(3))
    with pytest.raises(LogError, match="epoch 1 after 2"):
        state.apply(make_entry(2, epoch=1))


def test_txid_text_is_litestreams() -> None:
    """TXIDs are 16 hex digits in text."""
    assert format_txid(10) == "000000000000000a"
    assert parse_txid("000000000000000a") == 10
