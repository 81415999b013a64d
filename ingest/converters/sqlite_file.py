"""SQLite files: hostile until proven, then rewritten page by page into a clean one."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing, contextmanager
from math import log2
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from headrace.names import INTERNAL_TABLES, quote_identifier, without_brackets
from ingest.converters import Conversion, Converted, TableRows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC = b"SQLite format 3\x00"
_SECTOR_BYTES = 512  # the smallest page; an encrypted database is a whole number of pages
_SAMPLE_BYTES = 64 * 1024
_RANDOM_BITS = 7.0  # of 8, a byte: what encrypted (or compressed) bytes have, and data does not

# Source: sqlite.org/security.html, "untrusted SQLite database files".
_GUARDS = ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "foreign_keys = OFF")

# As the header has them; 1 stands for 65536. Source: sqlite.org/fileformat2.html, 1.3.2.
_PAGE_SIZES = {size.to_bytes(2, "big") for size in (1, *(512 << shift for shift in range(7)))}


def convert(conversion: Conversion) -> Converted:
    """Check a SQLite file, and rewrite it; tables, indexes, views and triggers keep their names.

    A file in WAL mode is taken as what it holds: a ``-wal`` file beside it was not sent.

    Raises:
        Refusal: ``invalid-file``, ``encrypted-file`` or ``no-rows`` (no table).
    """
    _check_header(conversion.input)
    warnings: list[str] = []
    try:
        with _open(f"{conversion.input.absolute().as_uri()}?mode=ro&immutable=1") as source:
            _check_content(source)
            source.execute("VACUUM INTO ?", (str(conversion.output),))
        with _open(conversion.output.absolute().as_uri()) as staging:
            warnings += _drop_internal_tables(staging)
            warnings += _rename_brackets(staging)
            warnings += _unknown_virtual_tables(staging)
            tables = _count_rows(staging)
    except sqlite3.DatabaseError as exc:
        raise _refusal(exc) from exc
    except UnicodeDecodeError as exc:  # in a name, or in SQLite's own message about one
        raise Refusal("invalid-file", "the database's schema has bytes that are no text") from exc
    if not tables:
        raise Refusal("no-rows", "the database holds no table")
    return Converted(tables=tables, warnings=tuple(warnings))


@contextmanager
def _open(uri: str) -> Iterator[sqlite3.Connection]:
    """Open a database of which nothing is believed."""
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        # A text that is not UTF-8 (SQLite does not check) must not stop the checks.
        connection.text_factory = lambda data: data.decode(errors="replace")
        for guard in _GUARDS:
            connection.execute(f"PRAGMA {guard}")
        yield connection


def _check_header(path: Path) -> None:
    """Refuse a file that does not begin as SQLite files do."""
    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    if sample.startswith(MAGIC):
        if sample[16:18] not in _PAGE_SIZES:
            raise Refusal("invalid-file", "the database's header is damaged")
        return
    size_bytes = path.stat().st_size
    if size_bytes % _SECTOR_BYTES == 0 and _bits_a_byte(sample) >= _RANDOM_BITS:
        raise Refusal(
            "encrypted-file",
            "the file has a database's size and random bytes: it seems to be encrypted",
            hint="decrypt the database and send it again",
        )
    raise Refusal("invalid-file", "the file does not begin with SQLite's header")


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


def _drop_internal_tables(staging: sqlite3.Connection) -> list[str]:
    """Drop the tables that Litestream and Headrace keep for themselves."""
    names = [
        name
        for (name,) in staging.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        if name.lower() in INTERNAL_TABLES
    ]
    for name in names:
        staging.execute(f"DROP TABLE {quote_identifier(name)}")
    return [f"table {name!r} was left out: it is kept for internal use" for name in names]


def _rename_brackets(staging: sqlite3.Connection) -> list[str]:
    """Rename the tables that Datasette could not name."""
    warnings = []
    names = staging.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'view'"
    ).fetchall()
    taken = {name.lower() for (name,) in names}
    for (name,) in names:
        plain = without_brackets(name)
        if plain == name:
            continue
        if plain.lower() in taken:
            raise Refusal("invalid-file", f"the tables {name!r} and {plain!r} cannot both be kept")
        staging.execute(f"ALTER TABLE {quote_identifier(name)} RENAME TO {quote_identifier(plain)}")
        warnings.append(f"table {name!r} was renamed to {plain!r}")
    return warnings


def _unknown_virtual_tables(staging: sqlite3.Connection) -> list[str]:
    """Name the virtual tables that cannot be read here, because their module is not there."""
    virtual = staging.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage = 0"
    ).fetchall()
    warnings = []
    for (name,) in virtual:
        try:
            staging.execute(f"SELECT 1 FROM {quote_identifier(name)} LIMIT 0")  # noqa: S608 - quoted
        except sqlite3.OperationalError as exc:
            warnings.append(f"virtual table {name!r} cannot be read here: {exc}")
    return warnings


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
    return Refusal("invalid-file", f"the database cannot be read: {exc}")
