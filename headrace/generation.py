"""The record of a published cut, and its JSON form (DESIGN.md, section 4).

An entry of the log holds only what changed; the ``State`` is what all entries up to one number add
up to. Both are immutable.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.errors import LogError

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = TypeVar("Kind")

_LINEAGE = re.compile(r"[0-9a-f]{16}")

# What else than an entry's JSON can make of it; the last two: nested too deep, and too large.
_NOT_AN_ENTRY = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    OverflowError,
)


def format_txid(txid: int) -> str:
    """Give a TXID as Litestream writes it: 16 hex digits."""
    return f"{txid:016x}"


def parse_txid(text: str) -> int:
    """Read a TXID of 16 hex digits."""
    return int(text, 16)


def format_time(at: datetime) -> str:
    """Give an aware UTC datetime as RFC 3339 with milliseconds and ``Z``."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time, which has a zone; may raise ValueError or OverflowError."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no zone")
    return at.astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The file that a database was last changed by.

    Attributes:
        filename: As the client named it.
        sha256: Of its bytes, 64 hex digits.
    """

    filename: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One database in a generation: which lineage, at which TXID, and what is in it.

    Attributes:
        lineage: 16 hex digits, new for every unbroken run of TXIDs.
        txid: Litestream's transaction id, from 1.
        page_size: Bytes a page, 512 to 65536.
        pages: Size of the database in pages.
        checksum: Of the whole database at that TXID (checksum.py); None if its primary knew none.
        tables: Rows of each public table.
        updated_at: When it was last changed; by a rollback, too.
        source: The file it was last changed by; None after a deletion of a table.
        metadata: What people say about it (metadata.py). It belongs to the cut: so whatever
            compares, keeps or brings back a database does so with what is said about it.
        generation: The one that it came with; None before that, and where nobody kept it. An entry
            does not say it again: ``State.apply`` sets it.
    """

    lineage: str
    txid: int
    page_size: int
    pages: int
    checksum: int | None = None
    tables: Mapping[str, int]
    updated_at: datetime
    source: Source | None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    generation: int | None = None

    def encode(self) -> dict[str, Any]:
        """Give the JSON form."""
        document: dict[str, Any] = {
            "lineage": self.lineage,
            "txid": format_txid(self.txid),
            "page_size": self.page_size,
            "pages": self.pages,
            "checksum": None if self.checksum is None else f"{self.checksum:016x}",
            "tables": {name: {"rows": rows} for name, rows in self.tables.items()},
            "updated_at": format_time(self.updated_at),
            "source": self.source
            and {"filename": self.source.filename, "sha256": self.source.sha256},
        }
        if self.metadata:
            document["metadata"] = dict(self.metadata)
        if self.generation is not None:
            document["generation"] = self.generation
        return document

    @classmethod
    def decode(cls, document: dict[str, Any]) -> Cut:
        """Read the JSON form; may raise any of ``_NOT_AN_ENTRY``."""
        source, generation = document["source"], document.get("generation")
        if not _LINEAGE.fullmatch(document["lineage"]):
            raise ValueError(f"{document['lineage']!r} is no lineage")
        return cls(
            lineage=document["lineage"],
            txid=parse_txid(document["txid"]),
            page_size=int(document["page_size"]),
            pages=int(document["pages"]),
            checksum=None if document["checksum"] is None else int(document["checksum"], 16),
            tables={name: int(table["rows"]) for name, table in document["tables"].items()},
            updated_at=parse_time(document["updated_at"]),
            source=None
            if source is None
            else Source(
                filename=_take(str, source["filename"]), sha256=_take(str, source["sha256"])
            ),
            metadata=_take(dict, document.get("metadata", {})),
            generation=None if generation is None else int(generation),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the log: what generation ``number`` changes.

    Attributes:
        number: The generation, from 1.
        epoch: The publishing primary's fencing number.
        created_at: When it was published.
        cause: Why: ``{"kind": "ingest", "receipt": …, "arrived_at": …}`` or ``{"kind": "delete"}``.
        databases: Databases set to a new cut.
        removed: Names of databases that are gone.
    """

    number: int
    epoch: int
    created_at: datetime
    cause: Mapping[str, str]
    databases: Mapping[str, Cut] = field(default_factory=dict)
    removed: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {
            "generation": self.number,
            "epoch": self.epoch,
            "created_at": format_time(self.created_at),
            "cause": dict(self.cause),
            "databases": {
                name: replace(cut, generation=None).encode() for name, cut in self.databases.items()
            },
            "removed": list(self.removed),
        }

    def encode(self) -> bytes:
        """Give the bytes of the log's object."""
        document = self.document()
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, body: bytes) -> Entry:
        """Read the bytes of a log's object.

        Raises:
            LogError: They are not an entry.
        """
        try:
            document = json.loads(body)
            return cls(
                number=int(document["generation"]),
                epoch=int(document["epoch"]),
                created_at=parse_time(document["created_at"]),
                cause={name: _take(str, said) for name, said in document["cause"].items()},
                databases=_decode_cuts(document["databases"]),
                removed=tuple(_take(str, name) for name in _take(list, document["removed"])),
            )
        except _NOT_AN_ENTRY as exc:
            raise LogError(f"it is no entry of the log: {exc!r}") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a generation holds: every database at its cut.

    Attributes:
        number: The generation; 0 is the empty one before the first.
        created_at: When it was published; None for generation 0.
        databases: Every database's cut.
        cause: That of the last entry, if this was made of it; a checkpoint has none.
    """

    number: int = 0
    epoch: int = 0
    created_at: datetime | None = None
    databases: Mapping[str, Cut] = field(default_factory=lambda: MappingProxyType({}))
    cause: Mapping[str, str] = field(default_factory=dict, compare=False)

    def apply(self, entry: Entry) -> State:
        """Give the state after the next entry.

        Raises:
            LogError: The entry is not the next one, or comes from an older epoch.
        """
        if entry.number != self.number + 1:
            raise LogError(f"cannot apply entry {entry.number} to generation {self.number}")
        if entry.epoch < self.epoch:
            raise LogError(f"entry {entry.number} has epoch {entry.epoch} after {self.epoch}")
        changed = {
            name: replace(cut, generation=entry.number) for name, cut in entry.databases.items()
        }
        databases = {**self.databases, **changed}
        for name in entry.removed:
            databases.pop(name, None)
        return replace(
            self,
            number=entry.number,
            epoch=entry.epoch,
            created_at=entry.created_at,
            databases=MappingProxyType(databases),
            cause=entry.cause,
        )

    def encode(self) -> bytes:
        """Give the bytes of a checkpoint."""
        document = {
            "generation": self.number,
            "epoch": self.epoch,
            "created_at": self.created_at and format_time(self.created_at),
            "databases": {name: cut.encode() for name, cut in self.databases.items()},
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, body: bytes) -> State:
        """Read the bytes of a checkpoint.

        Raises:
            LogError: They are not one.
        """
        try:
            document = json.loads(body)
            created_at = document["created_at"]
            return cls(
                number=int(document["generation"]),
                epoch=int(document["epoch"]),
                created_at=None if created_at is None else parse_time(created_at),
                databases=MappingProxyType(_decode_cuts(document["databases"])),
            )
        except _NOT_AN_ENTRY as exc:
            raise LogError(f"it is no checkpoint of the log: {exc!r}") from exc


def _decode_cuts(document: dict[str, Any]) -> dict[str, Cut]:
    return {name: Cut.decode(cut) for name, cut in document.items()}


def _take(kind: type[Kind], value: Any) -> Kind:
    """Give what is of one type; JSON may hold any."""
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
