"""SQL dumps of SQLite: run in a database of their own, where little is allowed, then checked.

Only statements that dumps are made of are run, one at a time. The database that they make is as
hostile as one that was uploaded, and goes the same way (``sqlite_file``).
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from ingest.converters import Conversion, Converted, sqlite_file
from ingest.converters.encodings import reads_text
from ingest.converters.recognise import foreign_sql
from ingest.converters.staging import PRAGMAS
from ingest.converters.text import open_text

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_STATEMENT_CHARACTERS = 1_000_000_000  # what SQLite takes
MAX_TRIGGER_CHARACTERS = 100_000
_MAX_MESSAGE = 80  # characters of SQLite's message: it may show what the dump holds

# Statements that dumps are made of, by their first word; those of a transaction are left to us.
_RUN = frozenset({"CREATE", "INSERT", "REPLACE", "DELETE", "UPDATE", "ALTER", "DROP"})
_PASSED_OVER = frozenset({"BEGIN", "COMMIT", "END", "SAVEPOINT", "RELEASE", "ANALYZE"})
# About how SQLite works, and not about what the dump holds.
_HARMLESS_PRAGMAS = frozenset({
    "foreign_keys", "defer_foreign_keys", "journal_mode", "synchronous", "cache_size", "encoding",
    "page_size", "auto_vacuum", "locking_mode", "temp_store", "legacy_alter_table",
    "writable_schema",
    "ignore_check_constraints", "recursive_triggers", "case_sensitive_like", "mmap_size",
})  # fmt: skip
_KEPT_PRAGMA = re.compile(r"(?i)PRAGMA\s+(user_version|application_id)\s*=\s*(-?\d{1,10})")
_PRAGMA = re.compile(r"(?i)PRAGMA\s+(?:main\s*\.\s*)?(\w+)")
# In a statement that SQLite does not take.
_OF_MYSQL = re.compile(r"(?is)(?:CREATE|ALTER)\s.*(?:\)\s*ENGINE\s*=|\bAUTO_INCREMENT\b)")
_SCHEMA_INSERT = re.compile(
    r"(?is)INSERT\s+INTO\s+\"?sqlite_(?:schema|master)\"?\s*"
    r"\(\s*type\s*,\s*name\s*,\s*tbl_name\s*,\s*rootpage\s*,\s*sql\s*\)\s*VALUES\s*\("
    r"'table','(?P<name>(?:[^']|'')+)','(?:[^']|'')+',0,'(?P<sql>(?:[^']|'')+)'\);?"
)
_INSERT = re.compile(r"(?i)INSERT\s+INTO\s+\"(?P<name>(?:[^\"]|\"\")+)\"\s+VALUES\b")
_VIRTUAL = re.compile(
    r"(?i)CREATE\s+VIRTUAL\s+TABLE\s+.+?\bUSING\s+(fts[345]|rtree|rtree_i32)\s*\("
)
_TRIGGER = re.compile(r"(?i)\s*CREATE\s+(?:TEMP(?:ORARY)?\s+)?TRIGGER\b")
_TRIGGER_END = re.compile(r"(?i)\bEND\s*;\Z")
_WORD = re.compile(r"[A-Za-z]+")
# What may stand between two semicolons; a quote or a comment that does not end is the last group.
_PART = re.compile(
    r"""'(?:[^']|'')*+'|"(?:[^"]|"")*+"|`[^`]*+`|\[[^\]]*+\]|--[^\n]*+\n|/\*.*?\*/|(?P<end>;)"""
    r"""|(?P<open>['"`\[]|--|/\*)""",
    re.DOTALL,
)
_LEADING = re.compile(r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)

_DENIED = {
    sqlite3.SQLITE_ATTACH: "ATTACH",
    sqlite3.SQLITE_DETACH: "DETACH",
    sqlite3.SQLITE_PRAGMA: "PRAGMA",
    sqlite3.SQLITE_CREATE_TEMP_TABLE: "CREATE TEMP TABLE",
    sqlite3.SQLITE_CREATE_TEMP_INDEX: "CREATE TEMP INDEX",
    sqlite3.SQLITE_CREATE_TEMP_VIEW: "CREATE TEMP VIEW",
    sqlite3.SQLITE_CREATE_TEMP_TRIGGER: "CREATE TEMP TRIGGER",
    sqlite3.SQLITE_RECURSIVE: "a recursive query",
}
_DENIED_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"})
_CHUNK_CHARACTERS = 64 * 1024
_MODULES = frozenset({"fts3", "fts4", "fts5", "rtree", "rtree_i32"})


@reads_text
def convert(conversion: Conversion) -> Converted:
    """Convert a dump as ``sqlite3 x.db .dump`` writes it.

    Raises:
        Refusal: ``unknown-format``: another database's dump; ``invalid-file`` with the line: a
            statement that fails, or that no dump has; ``limit-exceeded``; ``no-rows``.
    """
    with tempfile.TemporaryDirectory(prefix="dump-") as folder:
        database = Path(folder) / "dump.db"
        with closing(
            sqlite3.connect(database, isolation_level=None, cached_statements=0)
        ) as connection:
            _Dump(connection, conversion).run()
        return sqlite_file.convert(replace(conversion, input=database))


def _connect(database: Path) -> sqlite3.Connection:
    """Create the database; hardly any statement comes twice, so none is cached."""
    return sqlite3.connect(database, isolation_level=None, cached_statements=0)


class _Dump:
    """A dump that is run."""

    def __init__(self, connection: sqlite3.Connection, conversion: Conversion) -> None:
        self._connection = connection
        self._conversion = conversion
        self._denied: str | None = None
        self._virtual: list[tuple[str, str]] = []  # tables whose module keeps them in other tables
        self._begun = False
        self._line = 1

    def run(self) -> None:
        """Run all of it in one transaction."""
        connection = self._connection
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA legacy_alter_table = ON")
        connection.execute("BEGIN")
        connection.set_authorizer(self._authorize)
        try:
            for line, statement in _statements(self._read()):
                self._line = line
                self._run(statement)
        finally:
            connection.set_authorizer(None)
        if self._begun:
            raise self._broken("the dump ends before its COMMIT")
        if self._virtual:
            connection.execute("PRAGMA writable_schema = ON")
            connection.executemany(
                "INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql)"
                " VALUES ('table', ?1, ?1, 0, ?2)",
                self._virtual,
            )
        connection.execute("COMMIT")
        if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
            raise Refusal("no-rows", "the dump makes no table")

    def _read(self) -> Iterator[str]:
        """Read the file; a dump of another database is refused at once."""
        done_bytes = 0
        with open_text(self._conversion.input) as file:
            while chunk := file.read(_CHUNK_CHARACTERS):
                if not done_bytes and (foreign := foreign_sql(chunk)):
                    raise _refuse_foreign(foreign)
                done_bytes += len(chunk.encode())
                self._conversion.report(0, done_bytes)
                yield chunk

    def _run(self, statement: str) -> None:
        """Run one statement, if dumps have such."""
        word = _WORD.match(statement)
        first = word[0].upper() if word else statement[:1]
        if first == "PRAGMA":
            self._run_pragma(statement)
        elif first in _PASSED_OVER:
            self._begun = first == "BEGIN" or (self._begun and first not in ("COMMIT", "END"))
        elif first == "ROLLBACK":
            raise self._broken("the dump was ended by an error when it was made (ROLLBACK)")
        elif first not in _RUN:
            raise self._broken(f"{first[:20]} is no statement of a dump")
        elif schema := _SCHEMA_INSERT.fullmatch(statement):
            self._keep_virtual(schema["name"].replace("''", "'"), schema["sql"].replace("''", "'"))
        elif self._is_kept_elsewhere(statement):
            return
        else:
            self._execute(statement)

    def _execute(self, statement: str) -> None:
        self._denied = None
        try:
            self._connection.execute(statement)
        except (sqlite3.Error, sqlite3.Warning) as exc:
            if self._denied == "a recursive query":
                raise Refusal(
                    "limit-exceeded",
                    "the dump has a recursive query, which may never end",
                    line=self._line,
                    extra={"limit": "statements"},
                ) from exc
            if self._denied is not None:
                raise self._broken(f"{self._denied} is not allowed in a dump") from exc
            code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM):
                raise
            if code == sqlite3.SQLITE_TOOBIG:
                raise Refusal(
                    "limit-exceeded",
                    "a value is larger than SQLite can hold",
                    line=self._line,
                    extra={"limit": "value"},
                ) from exc
            if _OF_MYSQL.match(statement):
                raise _refuse_foreign("MySQL", line=self._line) from exc
            raise self._broken(" ".join(str(exc).split())[:_MAX_MESSAGE]) from exc
        except (UnicodeError, ValueError) as exc:
            raise self._broken("the statement has characters that SQLite does not take") from exc

    def _run_pragma(self, statement: str) -> None:
        """Run a pragma that says something about the data; pass over the harmless ones."""
        if kept := _KEPT_PRAGMA.match(statement):
            self._connection.set_authorizer(None)
            self._connection.execute(f"PRAGMA {kept[1]} = {int(kept[2])}")
            self._connection.set_authorizer(self._authorize)
            return
        name = _PRAGMA.match(statement)
        if name is None or name[1].lower() not in _HARMLESS_PRAGMAS:
            raise self._broken("the PRAGMA is not allowed in a dump")

    def _keep_virtual(self, name: str, sql: str) -> None:
        """Keep a virtual table for the end: only then are the tables there that it stands on."""
        if not _VIRTUAL.match(sql):
            raise self._broken("a virtual table is of no kind that is known")
        self._virtual.append((name, sql))

    def _is_kept_elsewhere(self, statement: str) -> bool:
        """Say whether a statement fills a virtual table whose own tables are in the dump as well.

        Python's ``iterdump`` writes both.
        """
        if not self._virtual or (insert := _INSERT.match(statement)) is None:
            return False
        return insert["name"].replace('""', '"') in {name for name, _ in self._virtual}

    def _authorize(
        self,
        action: int,
        _first: str | None,
        second: str | None,
        _database: str | None,
        _by: str | None,
    ) -> int:
        """Say whether SQLite may do what a statement wants. Called by SQLite."""
        denied = _DENIED.get(action)
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _DENIED_FUNCTIONS:
            denied = f"the function {second}"
        if action == sqlite3.SQLITE_CREATE_VTABLE and (second or "").lower() not in _MODULES:
            denied = "a virtual table of this kind"
        if denied is None:
            return sqlite3.SQLITE_OK
        self._denied = denied
        return sqlite3.SQLITE_DENY

    def _broken(self, detail: str) -> Refusal:
        return Refusal("invalid-file", f"the dump cannot be read: {detail}", line=self._line)


def _refuse_foreign(name: str, *, line: int | None = None) -> Refusal:
    """Give the refusal of another database's dump."""
    return Refusal(
        "unknown-format",
        f"the file is a dump of {name}: only those of SQLite can be read",
        hint="send its tables as CSV, or a dump that was converted to SQLite",
        line=line,
    )


def _statements(chunks: Iterator[str]) -> Iterator[tuple[int, str]]:
    """Divide a dump into its statements, each with the line that it begins on."""
    line = 1
    waiting: list[str] = []
    waiting_characters = enough = 0
    for chunk in chain(chunks, (None,)):
        waiting.append(chunk or "")
        waiting_characters += len(chunk or "")
        if waiting_characters > MAX_STATEMENT_CHARACTERS:
            raise Refusal(
                "limit-exceeded", "a statement is too long", line=line, extra={"limit": "statement"}
            )
        if chunk is not None and waiting_characters < enough:
            continue
        text = "".join(waiting)
        start = 0
        is_trigger = _is_trigger(text, start)
        for end in _ends(text):
            if is_trigger and _is_open_trigger(text, start, end):
                continue
            statement = text[start:end]
            yield from _stripped(statement, line)
            line += statement.count("\n")
            start = end
            is_trigger = _is_trigger(text, start)
        rest = text[start:]
        if chunk is None:
            yield from _stripped(rest, line)
        # A statement that is still open is looked at again when it is twice as long.
        waiting, waiting_characters, enough = [rest], len(rest), 2 * len(rest)


def _ends(text: str) -> Iterator[int]:
    """Give the place after each semicolon that is not in a text, a name or a comment."""
    for match in _PART.finditer(text):
        if match["open"] is not None:
            return
        if match["end"] is not None:
            yield match.end()


def _is_trigger(text: str, start: int) -> bool:
    """Say whether the statement that begins at a place is a trigger, which holds others."""
    leading = _LEADING.match(text, start)
    return leading is not None and _TRIGGER.match(text, leading.end()) is not None


def _is_open_trigger(text: str, start: int, end: int) -> bool:
    """Say whether a semicolon ends a statement within a trigger, and not the trigger."""
    if end - start > MAX_TRIGGER_CHARACTERS:
        raise Refusal("limit-exceeded", "a trigger is too long", extra={"limit": "statement"})
    if not _TRIGGER_END.search(text, max(start, end - 100), end):
        return True
    return not sqlite3.complete_statement(text[start:end])


def _stripped(statement: str, line: int) -> Iterator[tuple[int, str]]:
    """Give a statement without the comments before it, if anything is left."""
    leading = _LEADING.match(statement)
    start = 0 if leading is None else leading.end()
    if statement[start:].strip("; \t\r\n"):
        yield line + statement[:start].count("\n"), statement[start:].strip()
