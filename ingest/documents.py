"""The JSON that only the primary answers, as types. See ``headrace/documents.py``."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from headrace.documents import Receipt  # noqa: TC001 - types are made of it


class Invitation(TypedDict):
    """What can be sent.

    Attributes:
        version: Of Headrace.
        formats: Names of those that are known.
        modes: What ``mode`` can be.
        options: Names of all options of an upload.
        fetch: Whether files are fetched from URLs.
        max_upload_bytes: The largest file that is taken.
        default_wait_s: For how long an upload is waited for, where the request does not say.
        idempotency_key_s: For how long an ``Idempotency-Key`` is known.
        databases: Those that are published.
    """

    version: str
    formats: list[str]
    modes: list[str]
    options: list[str]
    fetch: bool
    max_upload_bytes: int
    default_wait_s: float
    idempotency_key_s: float
    databases: list[str]


class ReceiptPage(TypedDict):
    """The newest receipts.

    Attributes:
        receipts: The newest first.
        next: Where older ones are; null: there are none.
    """

    receipts: list[Receipt]
    next: str | None


class Removed(TypedDict):
    """What is gone.

    Attributes:
        removed: The database, or ``database/table``.
        generation: The first one without it.
    """

    removed: str
    generation: int


class CutSource(TypedDict):
    """The file by which a database was last changed."""

    filename: str
    sha256: str


class TableSize(TypedDict):
    """How large a table is.

    Attributes:
        rows: That it has.
    """

    rows: int


class Cut(TypedDict):
    """One database in a generation."""

    lineage: str
    txid: str
    page_size: int
    pages: int
    checksum: str | None
    tables: dict[str, TableSize]
    updated_at: str
    source: CutSource | None
    metadata: NotRequired[dict[str, Any]]


class Generation(TypedDict):
    """One entry of the log: what a generation changes.

    Attributes:
        generation: Its number, from 1.
    """

    generation: int
    epoch: NotRequired[int]
    created_at: str
    cause: dict[str, Any]
    databases: dict[str, Cut]
    removed: list[str]


class GenerationPage(TypedDict):
    """The newest entries of the log.

    Attributes:
        generations: The newest first.
        next: Where older ones are; null: there are none.
    """

    generations: list[Generation]
    next: str | None


class Metadata(TypedDict):
    """What is said about a database, as Datasette's metadata has it."""


class Said(TypedDict):
    """What is said about a database.

    Attributes:
        database: Its name.
        generation: That says so.
        metadata: As Datasette knows it.
        warnings: What of it was left out, after a change.
    """

    database: str
    generation: int
    metadata: dict[str, Any]
    warnings: NotRequired[list[str]]


class Schedule(TypedDict):
    """What is fetched when.

    Attributes:
        url: What is fetched, without user, password and query.
        options: What becomes of it.
    """

    id: str
    url: str
    options: dict[str, str]
    cron: str
    timezone: str
    made_by: str
    created_at: str
    next_at: str
    last_at: str | None
    last_receipt: str | None
    last_outcome: str | None
    last_error: dict[str, Any] | None
    failures: int


class ScheduleList(TypedDict):
    """All schedules of the databases that one may write to.

    Attributes:
        schedules: Each with what came of its last run.
    """

    schedules: list[Schedule]


class ScheduleRemoved(TypedDict):
    """A schedule that is gone.

    Attributes:
        removed: Its id.
    """

    removed: str


class RolledBack(TypedDict):
    """A generation that holds what an earlier one held.

    Attributes:
        generation: The new one.
        rolled_back_to: The earlier one.
        nearest: The TXID of each database of which that very state is not kept any more, and the
            nearest before it was taken.
    """

    generation: int
    rolled_back_to: int
    nearest: dict[str, str]


class PrunedThing(TypedDict):
    """Something that nobody needs any more.

    Attributes:
        kind: What it is: ``lineage``, ``archive``, …
        name: A key of the object store, or what its keys begin with.
        objects: How many there are.
        size_bytes: Of all of them.
    """

    kind: str
    name: str
    objects: int
    size_bytes: int


class PruneReport(TypedDict):
    """What was deleted, or would be.

    Attributes:
        dry_run: Whether nothing was deleted.
        pruned: What it is about.
        objects: How many in all.
        bytes: Of all of them.
    """

    dry_run: bool
    pruned: list[PrunedThing]
    objects: int
    bytes: int


class Session(TypedDict):
    """Who one is; only ``signed_in``, and false, if nobody knows.

    Attributes:
        signed_in: Whether the request said so by a token, a cookie, or Datasette's own sign-in.
        scopes: What one may do: ``admin``, ``ingest:*``, ``ingest:<database>``.
        by: How the request says so.
    """

    signed_in: bool
    id: NotRequired[str]
    name: NotRequired[str]
    scopes: NotRequired[list[str]]
    by: NotRequired[Literal["token", "session", "actor"]]


class SignIn(TypedDict):
    """What a token is shown with.

    Attributes:
        token: Its text.
        next: A path of this host, where a browser goes on.
    """

    token: str
    next: NotRequired[str]


class SignOut(TypedDict):
    """What one signs out with.

    Attributes:
        next: A path of this host, where a browser goes on.
    """

    next: NotRequired[str]


class Token(TypedDict):
    """A token that was given out."""

    id: str
    name: str
    scopes: list[str]
    created_at: str
    created_by: str
    expires_at: str | None
    revoked_at: str | None
    used_at: str | None


class NewToken(Token):
    """A token that was made, with its text.

    Attributes:
        token: Its text, shown this once.
    """

    token: str


class TokenList(TypedDict):
    """All tokens.

    Attributes:
        tokens: The oldest first.
    """

    tokens: list[Token]


class TokenWish(TypedDict):
    """A token to make.

    Attributes:
        scopes: ``admin``, ``ingest:*``, ``ingest:<database>``.
        name: What people call it; its scopes, if nothing is said.
        expires: ``90d`` (the default), ``12h``, ``30m``, ``never``.
    """

    scopes: list[str]
    name: NotRequired[str]
    expires: NotRequired[str]


class AuditEntry(TypedDict):
    """One write, or several that are alike.

    Attributes:
        id: In the order of writing.
    """

    id: int
    at: str
    who: str
    name: str
    address: str
    what: str
    database: str | None
    receipt: str | None
    detail: str | None
    outcome: str
    times: int


class AuditPage(TypedDict):
    """The newest rows of the audit log.

    Attributes:
        audit: The newest first.
        next: Where older ones are; null: there are none.
    """

    audit: list[AuditEntry]
    next: str | None
