"""What a file would become: its beginning goes through detect and convert, and nothing is kept.

It is the same detection, and the same conversion in the same cage, as of an upload.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from headrace.errors import Refusal
from headrace.names import quote_identifier
from ingest.convert import convert
from ingest.converters import Conversion, find_honoured
from ingest.converters.sniff import sniff
from ingest.detect import HEAD_BYTES, decode_head, detect
from ingest.head import cut_head, why_not
from ingest.merge import find_texts
from ingest.merge.kept_columns import find_kept_columns
from ingest.nursery import bare_environment
from ingest.outcome import is_sqlite
from ingest.recognising import ask_apart
from ingest.turns import Turns

if TYPE_CHECKING:
    from headrace.options import Target
    from ingest.converters import Limits, TableRows
    from ingest.converters.registry import Registry
    from ingest.disk import Disk
    from ingest.nursery import Nursery

MAX_HEAD_BYTES = 1024**2
MAX_ROWS = 20  # of a table
MAX_COLUMNS = 200  # of a table
MAX_TABLES = 20
MAX_TEXT = 200  # characters of a value
AT_ONCE = 2
WAITING = 64  # for a turn; more are refused
WALL_S = 10.0  # of one conversion
READ_S = 1.0  # of reading back what it made: a strange database may take for ever
_SAFE_INTEGER = 2**53  # beyond, JavaScript's numbers are not exact
_DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "pipe"}
_STEPS_BETWEEN_LOOKS = 10_000  # instructions of SQLite's machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The beginning of a file that somebody might upload.

    Attributes:
        body: Its first bytes, at most ``MAX_HEAD_BYTES``.
        complete: Whether that is all of it.
        target: Where it would go, and how it is read.
        media_type: As the client says.
        sender: Id of who asks.
        live: The database that it would be merged into; None: there is none yet.
    """

    body: bytes
    complete: bool
    target: Target
    media_type: str | None
    sender: str
    live: Path | None = None


class Previews:
    """Makes previews, a few at once.

    Args:
        staging: Folder for what lives as long as one preview.
        registry: The converters.
        limits: What a conversion may use.
        nursery: Forks the processes.
        disk: Ends what would fill it.
    """

    def __init__(
        self, staging: Path, *, registry: Registry, limits: Limits, nursery: Nursery, disk: Disk
    ) -> None:
        self._staging = staging
        self._registry = registry
        self._limits = replace(limits, wall_s=min(WALL_S, limits.wall_s), cpu_s=int(WALL_S))
        self._nursery = nursery
        self._disk = disk
        self._turns = Turns(AT_ONCE)

    async def make(self, head: Head) -> dict[str, Any]:
        """Give what a file would become.

        Raises:
            Refusal: What an upload of these bytes would be refused for; ``overloaded``.
        """
        if self._turns.waiting >= WAITING:
            raise Refusal("overloaded", "too many previews wait already", hint="ask again later")
        async with self._turns.turn(head.sender):
            # Not in a thread: whoever is cancelled meanwhile would leave it behind.
            scratch = Path(tempfile.mkdtemp(prefix="preview-", dir=self._staging))
            try:
                return await self._make(head, scratch)
            finally:
                await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    async def _make(self, head: Head, scratch: Path) -> dict[str, Any]:
        path, target = scratch / "head", head.target
        await asyncio.to_thread(path.write_bytes, head.body)
        found = await asyncio.to_thread(
            detect,
            path,
            filename=target.filename,
            media_type=head.media_type,
            encoding=target.wishes.encoding,
            registry=self._registry,
            asking=partial(ask_apart, environment=partial(bare_environment, scratch)),
        )
        preview = {
            "filename": target.filename,
            "format": found,
            "options": sorted(find_honoured(found)),
            "database": target.database,
            "mode": target.mode,
            "complete": head.complete,
        }
        if not head.complete:
            body = await asyncio.to_thread(cut_head, head.body, found)
            if body is None:
                said = {"previewable": False, "reason": why_not(found), "tables": []}
                return preview | said | {"warnings": list(target.warnings)}
            await asyncio.to_thread(path.write_bytes, body)
        output = scratch / "staging.db"
        merges = head.live if target.mode != "create" else None
        texts: dict[str, frozenset[str]] = {}
        if merges is not None:
            with suppress(sqlite3.Error):  # it was replaced just now
                texts = await asyncio.to_thread(find_texts, merges, target.mode)
        conversion = Conversion(
            input=path,
            output=output,
            format=found,
            table=target.table,
            table_given=target.table_given,
            filename=target.filename,
            media_type=head.media_type,
            wishes=target.wishes,
            texts=texts,
            registry=self._registry,
        )
        converted = await self._disk.run(
            convert(conversion, limits=self._limits, nursery=self._nursery)
        )
        shown = converted.tables[:MAX_TABLES]
        tables = await asyncio.to_thread(_read_tables, output, shown)
        kept: dict[str, list[str]] = {}
        if merges is not None and not is_sqlite(found):
            kept = await asyncio.to_thread(
                find_kept_columns, merges, output, shown, mode=target.mode
            )
        return preview | {
            "previewable": True,
            "format": converted.format or found,
            "encoding": converted.encoding,
            "delimiter": _find_delimiter(head, found),
            "tables": [{**each, "kept_columns": kept.get(each["name"], [])} for each in tables],
            "more_tables": max(0, len(converted.tables) - MAX_TABLES),
            "warnings": [*target.warnings, *converted.warnings],
        }


def _find_delimiter(head: Head, found: str) -> str | None:
    """Give the name of what divides the fields; None if nothing does."""
    if found != "csv":
        return None
    delimiter = head.target.wishes.delimiter
    if delimiter is None:
        complete = head.complete and len(head.body) <= HEAD_BYTES
        text = decode_head(head.body[:HEAD_BYTES], head.target.wishes.encoding, complete=complete)
        sniffed = sniff(text or "", complete=complete)
        delimiter = None if sniffed is None else sniffed.delimiter
    return None if delimiter is None else _DELIMITERS.get(delimiter, delimiter)


def _read_tables(path: Path, tables: tuple[TableRows, ...]) -> list[dict[str, Any]]:
    """Read the first rows of each table; what is slow to read has none."""
    deadline_s = monotonic() + READ_S
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        db.execute("PRAGMA trusted_schema = OFF")  # it may be somebody's own database
        db.text_factory = partial(str, encoding="utf-8", errors="replace")
        db.set_progress_handler(lambda: monotonic() > deadline_s, _STEPS_BETWEEN_LOOKS)
        return [_read_table(db, each) for each in tables]


def _read_table(db: sqlite3.Connection, table: TableRows) -> dict[str, Any]:
    try:
        info = db.execute("SELECT name, type FROM pragma_table_info(?)", [table.name]).fetchall()
        columns = info[:MAX_COLUMNS]
        names = ", ".join(quote_identifier(name) for name, _ in columns)
        rows = db.execute(
            f"SELECT {names} FROM {quote_identifier(table.name)} LIMIT {MAX_ROWS}"  # noqa: S608
        ).fetchall()
    except sqlite3.Error:
        columns, info, rows = [], [], []
    return {
        "name": table.name,
        "columns": [{"name": name, "type": kind} for name, kind in columns],
        "more_columns": len(info) - len(columns),
        "rows": [list(map(_shown, row)) for row in rows],
        "row_count": table.rows,
    }


def _shown(value: float | str | bytes | None) -> float | str | None:
    """Give a value as a person is shown it, in JSON that every client reads alike."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}…"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return value if abs(value) < _SAFE_INTEGER else str(value)
    return value
