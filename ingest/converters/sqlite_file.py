"""SQLite files: hostile until proven, then rewritten page by page into a clean one.

No view or trigger of the file is ever run here, and the file itself is only read. What is proven:
the header, every page (``quick_check``), what search tables keep, and that the schema can be
prepared in bounded time, since the primary and the readers will do that again and again.
"""

from __future__ import annotations

import resource
import sqlite3
import sys
from collections import Counter
from contextlib import closing, contextmanager
from math import log2
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from headrace.names import quote_identifier
from ingest.converters import Conversion, Converted, TableRows
from ingest.converters.sqlite_objects import (
    check_rows,
    check_search,
    check_values,
    drop_internal,
    drop_unreadable,
    rebuild_indexes,
    rename_unnameable,
    report_triggers,
)
from ingest.converters.staging import MAX_ROW_BYTES
from ingest.converters.utf16 import copy_as_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC = b"SQLite format 3\x00"
MAX_OBJECTS = 5_000  # tables, indexes, views and triggers: SQLite lists them in quadratic time
MAX_SCHEMA_BYTES = 8 * 1024 * 1024  # every connection of every reader parses it
SCHEMA_CPU_S = 4  # to prepare all views: each may name others twice, and so on
_SECTOR_BYTES = 512  # the smallest page; an encrypted database is a whole number of pages
_SAMPLE_BYTES = 64 * 1024
_RANDOM_BITS = 7.0  # of 8, a byte: what encrypted (or compressed) bytes have, and data does not

# Source: sqlite.org/security.html, "untrusted SQLite database files".
_GUARDS = ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "foreign_keys = OFF")
# Far above what real schemas need, far below what SQLite allows. One file more can be attached:
# the one that VACUUM INTO writes.
_LIMITS = {
    sqlite3.SQLITE_LIMIT_ATTACHED: 1,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_ROW_BYTES,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 10,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 10_000_000,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}

# As the header has them; 1 stands for 65536. Source: sqlite.org/fileformat2.html, 1.3.2.
_PAGE_SIZES = {size.to_bytes(2, "big") for size in (1, *(512 << shift for shift in range(7)))}
_WAL_VERSION = 2  # of the read and write versions in the header; 1 is a rollback journal
_WAL_WARNING = (
    "the file is in WAL mode: what only its -wal file held was not sent with it; if a program had "
    "it open, send a copy made by VACUUM INTO"
)


def convert(conversion: Conversion) -> Converted:
    """Check a SQLite file, and rewrite it; tables, indexes, views and triggers keep their names.

    A file in WAL mode is taken as what it holds: a ``-wal`` file beside it was not sent. A file of
    UTF-16 text becomes one of UTF-8.

    Raises:
        Refusal: ``invalid-file``, ``encrypted-file``, ``limit-exceeded`` or ``no-rows`` (no table).
    """
    warnings = [_WAL_WARNING] if _is_wal(conversion.input) else []
    try:
        _check_header(conversion.input)
        warnings += _rewrite(conversion)
        conversion.begin("check")
        with _open(conversion.output.absolute().as_uri()) as staging:
            warnings += drop_internal(staging)
            with _bounded_cpu(SCHEMA_CPU_S):
                warnings += drop_unreadable(staging)
                warnings += rename_unnameable(staging)
            tables = _count_rows(staging)
            check_values(staging, [table.name for table in tables])
            rebuild_indexes(staging)
            warnings += check_search(staging)
            warnings += report_triggers(staging)
            check_rows(staging, [table.name for table in tables])
        if not tables:
            raise Refusal("no-rows", "the database holds no table")
    except sqlite3.DatabaseError as exc:
        raise _with_hint(_refusal(exc), warnings) from exc
    except UnicodeDecodeError as exc:  # in a name, or in SQLite's own message about one
        raise Refusal("invalid-file", "the database's schema has bytes that are no text") from exc
    except Refusal as refusal:
        raise _with_hint(refusal, warnings) from None
    return Converted(tables=tables, warnings=tuple(warnings))


def _rewrite(conversion: Conversion) -> list[str]:
    """Check the file's content, and write it anew; say what was changed by that."""
    with _open(f"{conversion.input.absolute().as_uri()}?mode=ro&immutable=1") as source:
        _check_schema(source)
        conversion.begin("check")
        _check_content(source)
        conversion.begin("write")
        encoding: str = source.execute("PRAGMA encoding").fetchone()[0]
        if encoding == "UTF-8":
            source.execute("VACUUM INTO ?", (str(conversion.output),))
            return []
        with _open(conversion.output.absolute().as_uri()) as target:
            copy_as_utf8(source, target)
    return [f"the database held {encoding} text, and holds UTF-8 now"]


@contextmanager
def _open(uri: str) -> Iterator[sqlite3.Connection]:
    """Open a database of which nothing is believed."""
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        # A text that is not UTF-8 (SQLite does not check) must not stop the checks.
        connection.text_factory = lambda data: data.decode(errors="replace")
        for guard in _GUARDS:
            connection.execute(f"PRAGMA {guard}")
        for limit, value in _LIMITS.items():
            connection.setlimit(limit, value)
        if sys.version_info >= (3, 12):
            # Python 3.11 has no way to it. It would keep SQL of the file from writing to the schema
            # or to shadow tables, and none is run here.
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        yield connection


@contextmanager
def _bounded_cpu(seconds: int) -> Iterator[None]:
    """Let this process be ended (SIGXCPU) if the block takes longer: SQLite cannot be interrupted.

    A few views that each name another one twice take longer to prepare than anybody waits.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(usage.ru_utime + usage.ru_stime) + seconds
    if soft == resource.RLIM_INFINITY or limit < soft:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _check_header(path: Path) -> None:
    """Refuse a file that does not begin as SQLite files do, or that is shorter than it says.

    Source: sqlite.org/fileformat2.html, 1.3; the size is only valid beside the change counter.
    """
    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    size_bytes = path.stat().st_size
    if not sample.startswith(MAGIC):
        if size_bytes % _SECTOR_BYTES == 0 and _bits_a_byte(sample) >= _RANDOM_BITS:
            raise Refusal(
                "encrypted-file",
                "the file has a database's size and random bytes: it seems to be encrypted",
                hint="decrypt the database and send it again",
            )
        raise Refusal("invalid-file", "the file does not begin with SQLite's header")
    if sample[16:18] not in _PAGE_SIZES or len(sample) < _SECTOR_BYTES:
        raise Refusal("invalid-file", "the database's header is damaged")
    if max(sample[18:20]) > _WAL_VERSION:
        raise Refusal("invalid-file", "the database's header is damaged, or of a newer SQLite")
    page_bytes = int.from_bytes(sample[16:18], "big")
    page_bytes = 65536 if page_bytes == 1 else page_bytes
    stated_bytes = int.from_bytes(sample[28:32], "big") * page_bytes
    if sample[24:28] == sample[92:96] and stated_bytes > size_bytes:
        raise Refusal(
            "invalid-file",
            f"the database is cut short: its header says {stated_bytes:,} bytes,"
            f" and the file has {size_bytes:,}",
        )


def _is_wal(path: Path) -> bool:
    """Say whether a database's header says that it is in WAL mode."""
    with path.open("rb") as file:
        head = file.read(20)
    return head.startswith(MAGIC) and _WAL_VERSION in head[18:]


def _with_hint(refusal: Refusal, warnings: list[str]) -> Refusal:
    """Add what may explain a refusal: the rest lies in a WAL file."""
    if _WAL_WARNING in warnings and refusal.code in ("invalid-file", "no-rows"):
        refusal.hint = _WAL_WARNING
    return refusal


def _check_schema(source: sqlite3.Connection) -> None:
    """Refuse a schema that is too large to be read again and again, or that is no text.

    Raises:
        UnicodeDecodeError: It is no text.
    """
    objects, size_bytes = source.execute(
        "SELECT count(*), coalesce(sum(length(CAST(sql AS BLOB))), 0) FROM sqlite_schema"
    ).fetchone()
    if objects > MAX_OBJECTS:
        raise Refusal(
            "limit-exceeded",
            f"the database has {objects:,} tables, indexes, views and triggers: at most"
            f" {MAX_OBJECTS:,} can be taken",
            extra={"limit": "objects"},
        )
    if size_bytes > MAX_SCHEMA_BYTES:
        raise Refusal(
            "limit-exceeded",
            f"the database's schema has {size_bytes:,} bytes: at most {MAX_SCHEMA_BYTES:,} can be"
            " taken",
            extra={"limit": "schema"},
        )
    lenient = source.text_factory
    source.text_factory = bytes.decode
    source.execute("SELECT name, sql FROM sqlite_schema").fetchall()
    source.text_factory = lenient


def _bits_a_byte(sample: bytes) -> float:
    """Give the entropy of a sample, from 0 (one byte over and over) to 8 (random)."""
    shares = [count / len(sample) for count in Counter(sample).values()]
    return -sum(share * log2(share) for share in shares)


def _check_content(source: sqlite3.Connection) -> None:
    """Refuse a database that fails SQLite's quick check."""
    problems = [text for (text,) in source.execute("PRAGMA quick_check(10)") if text != "ok"]
    if problems:
        raise Refusal(
            "invalid-file",
            f"the database is damaged: {' '.join(problems[0].split())[:200]}",
            hint="sqlite3's .recover command may save what is left",
        )


def _count_rows(staging: sqlite3.Connection) -> tuple[TableRows, ...]:
    """Count the rows of each ordinary table; what virtual tables keep inside is not counted."""
    tables = staging.execute(
        "SELECT listed.name FROM pragma_table_list AS listed"
        " JOIN sqlite_schema AS stored ON stored.type = 'table' AND stored.name = listed.name"
        " WHERE listed.schema = 'main' AND listed.type = 'table'"
        " AND listed.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY stored.rowid"
    ).fetchall()
    return tuple(TableRows(name=name, rows=_count(staging, name)) for (name,) in tables)


def _count(staging: sqlite3.Connection, table: str) -> int:
    """Count the rows of a table."""
    query = f"SELECT count(*) FROM {quote_identifier(table)}"  # noqa: S608 - quoted
    rows: int = staging.execute(query).fetchone()[0]
    return rows


def _refusal(exc: sqlite3.DatabaseError) -> Refusal:
    """Turn SQLite's error about the file into a refusal; errors about the machine are raised on."""
    code = getattr(exc, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
    ):
        raise exc
    if code == sqlite3.SQLITE_NOTADB:
        return Refusal(
            "encrypted-file",
            "the file is encrypted, or its header is damaged",
            hint="decrypt the database and send it again",
        )
    if "unsafe use" in str(exc):  # SQLite before 3.41 counts those of JSON among them
        return Refusal(
            "invalid-file",
            f"a table or an index uses a function that files from outside may not: {exc}",
            hint="make it a view, or a plain column",
        )
    return Refusal("invalid-file", f"the database cannot be read: {exc}")
