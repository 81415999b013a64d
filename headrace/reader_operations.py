"""What a reader answers by itself, declared for the document that the primary makes."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from headrace.operation import Answer, Operation


class ReaderHealth(TypedDict):
    """Whether a reader is there.

    Attributes:
        ok: Always true: a reader that is not says nothing.
        generation: That it serves, where it is asked whether it is ready.
    """

    ok: bool
    generation: NotRequired[int]


class ReaderDatabase(TypedDict):
    """A database, as a reader serves it.

    Attributes:
        lineage: 16 hex digits.
        txid: 16 hex digits.
        updated_at: When it was last changed.
    """

    lineage: str
    txid: str
    updated_at: str


class ReaderFailure(TypedDict):
    """Why the newest generation is not served.

    Attributes:
        generation: That was to be served.
        step: Which one failed.
        message: Why.
        at: When.
    """

    generation: int
    step: str
    message: str
    at: str


class ReaderCrash(TypedDict):
    """The last crash of a worker.

    Attributes:
        message: What is known of it.
        at: When.
    """

    message: str
    at: str


class ReaderDraining(TypedDict):
    """Workers that still answer requests for an earlier generation.

    Attributes:
        generation: That one.
        requests: That they are answering.
        seconds: Since it was replaced.
    """

    generation: int
    requests: int
    seconds: float


class ReaderStatus(TypedDict):
    """What a reader serves, what it knows of, and why they differ if they do.

    Attributes:
        version: Of Headrace.
        region: Where it is.
        machine: The name of its machine, if that was said.
        generation: That it serves; None: none yet.
        newest_generation: The newest that it knows of.
        switched_at: When it began to serve it.
        seconds_behind: Age of the newest generation if that is not served, else 0.
        seconds_stale: Since it last knew that it was up to date.
        step: What it does now.
        databases: By name.
        workers: Processes that answer.
        spares: Processes that are ready for the next generation.
        draining: What earlier generations are still needed for, the oldest first.
        waits_for_drains: Whether the newest is not served yet because of too many of those.
        push_connected: Whether the primary tells it of generations.
        following_errors: Why it does not hear of any, by source.
        last_error: Why the newest is not served.
        last_crash: Of a worker of this generation.
    """

    version: str
    region: str
    machine: str | None
    generation: int | None
    newest_generation: int | None
    switched_at: str | None
    seconds_behind: float | None
    seconds_stale: float
    step: str
    databases: dict[str, ReaderDatabase]
    workers: int
    spares: int
    draining: list[ReaderDraining]
    waits_for_drains: bool
    push_connected: bool
    following_errors: dict[str, str]
    last_error: ReaderFailure | None
    last_crash: ReaderCrash | None


def _own(answer: Answer, about: str, *refuses: str) -> Operation:
    return Operation(answers={200: answer}, refuses=refuses, checked=False, about=about)


READER = {
    "/ingest/docs": _own(
        Answer(what="The page.", schema={"type": "string"}, kinds=("text/html",)),
        "Describe all of this, for people.",
        *("primary-away", "not-ready", "worker-failed", "overloaded", "timeout", "internal-error"),
    ),
    "/-/headrace.json": _own(
        Answer(what="What it knows.", schema=ReaderStatus),
        "Say what this reader serves, and why that is not the newest if it is not.",
    ),
    "/-/healthz": _own(Answer(what="It is there.", schema=ReaderHealth), "Say that it lives."),
    "/-/readyz": _own(
        Answer(what="It serves a generation.", schema=ReaderHealth),
        "Say whether a generation is served.",
        *("not-ready", "stopping"),
    ),
}
