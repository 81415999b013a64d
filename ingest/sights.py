"""What there is to see of an upload at one moment, and the events that it makes for who watches.

The id of an event says how far the upload was: ``2.0`` that it came to its second state,
``2.1764244463123`` that it got on in it at that time, ``5.1`` that a first region is live. Ids
grow, over restarts of the primary as well, so whoever says the last one that it saw gets what came
after it, and nothing twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.receipt import UploadState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from headrace import documents

    EventId = tuple[int, int]

RANKS = {
    UploadState.RECEIVED: 1,
    UploadState.CONVERTING: 2,
    UploadState.MERGING: 3,
    UploadState.REPLICATING: 4,
    UploadState.PUBLISHED: 5,
    UploadState.FAILED: 5,
}
NOTHING: EventId = (0, 0)
END: EventId = (6, 0)

_ID = re.compile(r"([0-9]{1,2})\.([0-9]{1,15})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event.

    Attributes:
        id: Greater than those of all before it.
        name: ``state``, ``progress``, ``live`` or ``end``.
        data: What it says.
    """

    id: EventId
    name: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """An upload as it is now.

    Attributes:
        receipt: As clients see it, with ``progress`` and ``live``.
        state: Of the receipt.
        progressed_at: Since when ``progress`` is what it is; None if there is none.
        missing: Regions that do not show it yet, as far as they are known.
    """

    receipt: documents.Receipt
    state: UploadState
    progressed_at: datetime | None
    missing: frozenset[str]

    @property
    def live(self) -> Mapping[str, str]:
        """The regions that show it, and since when."""
        found: dict[str, str] = self.receipt["live"]
        return found

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come: it failed, or every known region shows it."""
        return self.state.final and not self.missing


def events_after(seen: EventId, sight: Sight) -> list[Event]:
    """Give the events that somebody did not see yet; states that passed in between as well."""
    rank = RANKS[sight.state]
    events = [
        Event(id=(RANKS[state], 0), name="state", data=_state_data(state, sight))
        for state in UploadState
        if (state is sight.state or RANKS[state] < rank) and not _is_skipped(state, sight)
    ]
    if sight.progressed_at is not None and sight.receipt["progress"] is not None:
        at_ms = int(sight.progressed_at.timestamp() * 1000)
        # A conversion that begins again after a restart is not back in a state that was seen.
        place = (max(rank, seen[0]), at_ms)
        events.append(Event(id=place, name="progress", data=sight.receipt["progress"]))
    regions = sorted(sight.live.items(), key=lambda each: (each[1], each[0]))
    for number, (region, at) in enumerate(regions, 1):
        data = {"region": region, "at": at, "live": sight.live}
        events.append(Event(id=(RANKS[UploadState.PUBLISHED], number), name="live", data=data))
    if sight.is_over:
        end = {"state": sight.state.value, "live": sight.live}
        events.append(Event(id=END, name="end", data=end))
    return [event for event in events if event.id > seen]


def format_event_id(event_id: EventId) -> str:
    """Give an id as it stands in a stream."""
    return f"{event_id[0]}.{event_id[1]}"


def read_event_id(text: str | None) -> EventId:
    """Read ``Last-Event-ID``; whatever is none of ours counts as nothing seen."""
    found = _ID.fullmatch(text or "")
    return (int(found[1]), int(found[2])) if found else NOTHING


def _is_skipped(state: UploadState, sight: Sight) -> bool:
    """Say whether an upload did not come through a state: nobody knows where one has failed."""
    return sight.state is UploadState.FAILED and state is not UploadState.FAILED


def _state_data(state: UploadState, sight: Sight) -> dict[str, Any]:
    """Give the name of a state; with the whole receipt, if the upload is in it."""
    named: dict[str, Any] = {"state": state.value}
    return {**named, "receipt": sight.receipt} if state is sight.state else named
