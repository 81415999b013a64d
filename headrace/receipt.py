"""What an uploader gets and can verify later, and the states that an upload goes through."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from headrace.generation import format_time, format_txid, parse_time, parse_txid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from headrace import documents


class UploadState(StrEnum):
    """Where an upload is on its way."""

    RECEIVED = "received"
    CONVERTING = "converting"
    MERGING = "merging"
    REPLICATING = "replicating"
    PUBLISHED = "published"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether nothing comes after it."""
        return self in {UploadState.PUBLISHED, UploadState.FAILED}


# The one table of transitions; every state but a final one may also end in FAILED.
NOTHING_CHANGED = "nothing changed: no new generation was published"  # a warning

NEXT_STATE = {
    UploadState.RECEIVED: UploadState.CONVERTING,
    UploadState.CONVERTING: UploadState.MERGING,
    UploadState.MERGING: UploadState.REPLICATING,
    UploadState.REPLICATING: UploadState.PUBLISHED,
}


def new_receipt_id(now: datetime) -> str:
    """Make an id: 32 hex digits that sort by time and cannot be guessed (80 random bits).

    Uploads that were interrupted are gone on with in this order: so the time is one that never
    jumps (headrace/clock.py).
    """
    milliseconds = int(now.timestamp() * 1000)
    return f"{milliseconds:012x}{secrets.token_hex(10)}"


def made_s(receipt_id: str) -> float:
    """Say when an id was made, in seconds since 1970."""
    return int(receipt_id[:12], 16) / 1000


READING = frozenset({"look", "read", "read again"})  # steps that go through the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an upload's conversion or merge is.

    Attributes:
        step: What is being done: one of ``READING``, or another word.
        rows: Rows that are done; 0 also where the converter does not count them.
        bytes: Bytes of the file that are done; outside of ``READING``, bytes that this step has
            read and written.
        of_bytes: How many there will be; None: nobody knows.
    """

    step: str
    rows: int
    bytes: int
    of_bytes: int | None

    def encode(self) -> documents.Progress:
        """Give the JSON form that clients see."""
        return {
            "step": self.step,
            "rows": self.rows,
            "bytes": self.bytes,
            "of_bytes": self.of_bytes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOutcome:
    """What an upload did to one table.

    Attributes:
        name: As it is read.
        rows: Rows that the file had.
        added: Rows that are new; None, as those below, until it is merged.
        changed: Rows that have another value.
        removed: Rows that are gone.
        unchanged: Rows of the table that are as they were; nothing of them was written.
    """

    name: str
    rows: int
    added: int | None = None
    changed: int | None = None
    removed: int | None = None
    unchanged: int | None = None

    def encode(self) -> documents.TableOutcome:
        """Give the JSON form that clients see."""
        return {
            "name": self.name,
            "rows": self.rows,
            "added": self.added,
            "changed": self.changed,
            "removed": self.removed,
            "unchanged": self.unchanged,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One upload of one file.

    Attributes:
        id: 32 hex digits.
        state: Where it is on its way.
        filename: As the client named it.
        bytes: Size of the file; what had arrived, if it did not arrive whole.
        sha256: Of the file, 64 hex digits; None if it did not arrive whole.
        database: Where it goes; None if it was refused before that was known.
        mode: ``replace``, ``append``, ``upsert`` or ``create``.
        created_at: When its bytes had all arrived, or it was refused.
        archive: Key of its bytes in the object store; None if they are not kept there.
        format: As detected; None before that.
        encoding: What a text file was in; None before that is known, and of other files.
        tables: What it did to each table.
        generation: A generation that shows it; None until it is published. If nothing changed, the
            newest there was.
        lineage: The database's lineage in that generation.
        txid: The database's TXID in that generation.
        url: Path on any reader where it is read.
        warnings: What was changed or noticed.
        error: The problem document, if it failed.
        timings_s: Seconds of each step.
        published_at: When it was published, or found to change nothing.
        source_url: Where it was fetched from, without user, password and query; None if it was
            sent.
        metadata: What it said about the database, besides its rows; None if nothing.
        from_receipt: Id of the receipt whose archived bytes were taken once more; None if they were
            sent.
    """

    id: str
    state: UploadState
    filename: str
    bytes: int
    sha256: str | None
    database: str | None
    mode: str
    created_at: datetime
    archive: str | None = None
    format: str | None = None
    encoding: str | None = None
    tables: tuple[TableOutcome, ...] = ()
    generation: int | None = None
    lineage: str | None = None
    txid: int | None = None
    url: str | None = None
    warnings: tuple[str, ...] = ()
    error: dict[str, Any] | None = None
    timings_s: dict[str, float] = field(default_factory=dict)
    published_at: datetime | None = None
    from_receipt: str | None = None
    metadata: dict[str, Any] | None = None
    source_url: str | None = None

    def encode(self) -> documents.KeptReceipt:
        """Give the JSON form that clients see."""
        return {
            "id": self.id,
            "state": self.state.value,
            "filename": self.filename,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "archive": self.archive,
            "from_receipt": self.from_receipt,
            "source_url": self.source_url,
            "format": self.format,
            "encoding": self.encoding,
            "database": self.database,
            "tables": [table.encode() for table in self.tables],
            "mode": self.mode,
            "metadata": self.metadata,
            "generation": self.generation,
            "lineage": self.lineage,
            "txid": None if self.txid is None else format_txid(self.txid),
            "url": self.url,
            "warnings": list(self.warnings),
            "error": self.error,
            "timings_s": self.timings_s,
            "created_at": format_time(self.created_at),
            "published_at": None if self.published_at is None else format_time(self.published_at),
        }

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> Receipt:
        """Read the JSON form."""
        values = dict(document)
        values["state"] = UploadState(values["state"])
        values["tables"] = tuple(TableOutcome(**table) for table in values["tables"])
        values["txid"] = None if values["txid"] is None else parse_txid(values["txid"])
        values["warnings"] = tuple(values["warnings"])
        values["created_at"] = parse_time(values["created_at"])
        values["published_at"] = values["published_at"] and parse_time(values["published_at"])
        return cls(**values)
