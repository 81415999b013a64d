"""The events of an upload."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.receipt import UploadState
from ingest.sights import (
    END,
    NOTHING,
    RANKS,
    Sight,
    events_after,
    format_event_id,
    read_event_id,
)

if TYPE_CHECKING:
    from headrace import documents

PROGRESS = {"step": "read", "rows": 1, "bytes": 2, "of_bytes": 3}
AT = datetime(2026, 11, 27, 12, tzinfo=UTC)
ONE, TWO = "2026-11-27T12:00:01.000Z", "2026-11-27T12:00:02.000Z"


def sight(state: str, *missing: str, progress: bool = False, **live: str) -> Sight:
    """See an upload."""
    receipt: dict[str, Any] = {"progress": PROGRESS if progress else None, "live": live}
    return Sight(
        receipt=cast("documents.Receipt", receipt),
        state=UploadState(state),
        progressed_at=AT if progress else None,
        missing=frozenset(missing),
    )


def shown(seen: tuple[int, int], *sights: Sight) -> list[str]:
    """List what somebody is shown who sees an upload several times."""
    found = []
    for each in sights:
        for event in events_after(seen, each):
            assert event.id > seen
            seen = event.id
            what = event.data.get("state") or event.data.get("region") or event.data["step"]
            found.append(f"{event.name} {what}")
    return found


def test_every_state_is_told_also_those_that_passed_unseen() -> None:
    """Who looks too seldom is told of the states in between, and then where it is live."""
    assert shown(NOTHING, sight("received"), sight("merging"), sight("published", "b", a=ONE)) == [
        *(f"state {state}" for state in ("received", "converting", "merging")),
        *(f"state {state}" for state in ("replicating", "published")),
        "live a",
    ]


def test_end_comes_when_every_region_is_live() -> None:
    """A stream ends with the last region, in whatever order they came."""
    some, all_ = sight("published", "b", c=TWO), sight("published", c=TWO, a=ONE)
    assert shown((5, 0), some, all_) == ["live c", "live c", "end published"]
    assert shown(END, all_) == []


def test_failure_is_told_without_states_that_nobody_knows_of() -> None:
    """Where an upload failed is in its receipt."""
    assert shown((2, 0), sight("failed")) == ["state failed", "end failed"]


def test_progress_is_told_once_until_it_changes() -> None:
    """The same progress is not told again, also not to who comes back."""
    reading = sight("converting", progress=True)
    assert shown((1, 0), reading, reading) == ["state converting", "progress read"]
    (event,) = events_after((2, 0), reading)
    assert events_after(read_event_id(format_event_id(event.id)), reading) == []


def test_conversion_that_begins_again_is_no_step_back() -> None:
    """After a restart an upload may be converted once more: who saw it merged sees progress."""
    assert shown((3, 0), sight("converting", progress=True)) == ["progress read"]


STATES = st.sampled_from([state.value for state in UploadState if state is not UploadState.FAILED])


@given(st.lists(STATES), st.integers(0, 20))
def test_stream_that_is_asked_for_again_goes_on_where_it_was(states: list[str], cut: int) -> None:
    """Cut anywhere, both halves together tell what the whole would have, each thing once."""
    sights = [sight(state) for state in sorted(states, key=lambda each: RANKS[UploadState(each)])]
    whole = shown(NOTHING, *sights)
    seen, first = NOTHING, []
    events = [event for each in sights for event in events_after(NOTHING, each)]
    for event in sorted({event.id: event for event in events}.values(), key=lambda each: each.id)[
        :cut
    ]:
        seen = event.id
        first.append(f"{event.name} {event.data['state']}")
    assert first + shown(seen, *sights) == whole


@pytest.mark.parametrize("text", [None, "", "5", "a.b", "1.2.3", "-1.0", "1." + "9" * 16])
def test_event_id_of_somebody_else_counts_as_nothing_seen(text: str | None) -> None:
    """A stream begins anew for who names what was never sent."""
    assert read_event_id(text) == NOTHING
    assert read_event_id(format_event_id((5, 12))) == (5, 12)
