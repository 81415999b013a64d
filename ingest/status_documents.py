"""The JSON of how the primary is doing, and of the places it looks at, as types."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from headrace.documents import Receipt  # noqa: TC001 - types are made of it


class DatabaseStatus(TypedDict):
    """A database that is published.

    Attributes:
        tables: Rows of each public table.
        updated_at: When it was last changed.
    """

    tables: dict[str, int]
    updated_at: str


class PrimaryPlace(TypedDict):
    """Where the primary runs, as far as that was said.

    Attributes:
        region: Its region.
        machine: Its machine's name.
        address: That machine's address in the private network.
    """

    region: str
    machine: str | None
    address: str | None


class ReaderMachine(TypedDict):
    """A reader that was heard of lately.

    Attributes:
        machine: The name of its machine, if that was said.
        address: That machine's address in the private network, if that was said.
        generation: What it shows.
    """

    machine: str | None
    address: str | None
    generation: int


class RegionStatus(TypedDict):
    """A region whose readers were heard of in the last day.

    Attributes:
        generation: The oldest that is shown there; of one that is silent, what it showed last.
        readers: How many were heard of lately; 0: it is silent.
        machines: Each of them.
        seconds_behind: For how long there has been something newer; None if nobody knows any more.
        heard_s_ago: Seconds since one was heard of.
    """

    generation: int
    readers: int
    machines: list[ReaderMachine]
    seconds_behind: float | None
    heard_s_ago: float


class Status(TypedDict):
    """How the primary is doing.

    Attributes:
        epoch: Its fencing number.
        lease_held: Whether it may write.
        primary: Where it is.
        litestream_up: Whether Litestream runs.
        generation: The newest.
        published_at: When that was published.
        databases: By name.
        regions: By name.
        in_flight: Uploads that are on their way.
        uploads: Receipts of the last of these.
        receipts: The newest receipts.
    """

    epoch: int
    lease_held: bool
    primary: PrimaryPlace
    litestream_up: bool
    generation: int
    published_at: str | None
    databases: dict[str, DatabaseStatus]
    regions: dict[str, RegionStatus]
    in_flight: int
    uploads: list[Receipt]
    receipts: list[Receipt]


class WatchedPlace(TypedDict):
    """A bucket or folder that is looked at.

    Attributes:
        url: Where it is.
        after_taking: Whether a file is moved away when it is taken, or kept.
        mirror_deletes: Whether a database goes when its file goes.
        interval_s: Seconds between looks.
        looked_at: When it was last looked at.
        failing: Why it cannot be, if it cannot.
    """

    url: str
    after_taking: str
    mirror_deletes: bool
    interval_s: float
    looked_at: str | None
    failing: str | None


class Watching(TypedDict):
    """What is looked at, and how events are told of.

    Attributes:
        path: Where events go, with the key.
        key: Whoever has it may tell of events.
        confirm: URL by which a subscription is confirmed; None: none waits for that.
        places: The buckets and folders.
    """

    path: str
    key: str
    confirm: str | None
    places: list[WatchedPlace]


class EventsHeard(TypedDict):
    """What came of events.

    Attributes:
        events: How many came.
        used: How many were about a place that is looked at.
        validationResponse: The code of a service that asks whether it is heard, and nothing else.
    """

    events: NotRequired[int]
    used: NotRequired[int]
    validationResponse: NotRequired[str]
