"""Merge the tables of a staging database into a live one, each by the mode, in one transaction."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from headrace.names import INTERNAL_TABLES
from ingest.merge import difference, rebuild, search
from ingest.merge.columns import (
    add_columns,
    find_missing,
    find_widenings,
    register_functions,
    warn_of_another,
    warn_of_missing,
    warn_of_widening,
)
from ingest.merge.database import attach, connect, limit_values, record, transaction
from ingest.merge.difference import CannotDiffError, Counts
from ingest.merge.lookups import find_references, keep_lookups, merge_values, value_column
from ingest.merge.replacing import replace_table
from ingest.merge.schema import count_rows, find_table, find_taken, get_table, may_replace
from ingest.merge.triggers import drop_triggers, put_back, set_aside

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ingest.merge.schema import Table

REJECTS = "_rejects"  # ends the name of a table of rows that were put aside
REJECTS_COLUMNS = ("line", "raw", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedTable:
    """What a merge did to one table.

    Attributes:
        name: As it is written in the live database.
        staged: Its name in the staging database.
        before: Rows that it had.
        added: Rows that are new.
        changed: Rows that have another value.
        removed: Rows that are gone.
    """

    name: str
    staged: str
    before: int
    added: int = 0
    changed: int = 0
    removed: int = 0

    @property
    def rows(self) -> int:
        """Rows that it has now."""
        return self.before + self.added - self.removed

    @property
    def unchanged(self) -> int:
        """Rows that are as they were."""
        return self.before - self.changed - self.removed


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What a merge did.

    Attributes:
        tables: What became of each table of the file.
        warnings: What was skipped, filled in, or widened.
        written: Whether anything was: if not, the live database is what it was, to the byte.
    """

    tables: tuple[MergedTable, ...]
    warnings: tuple[str, ...] = ()
    written: bool = True

    def encode(self) -> str:
        """Give the JSON form."""
        return json.dumps({"tables": [asdict(each) for each in self.tables],
                           "warnings": self.warnings})  # fmt: skip

    @classmethod
    def decode(cls, text: str) -> Merged:
        """Read the JSON form."""
        document = json.loads(text)
        return cls(
            tables=tuple(MergedTable(**each) for each in document["tables"]),
            warnings=tuple(document["warnings"]),
        )


class _NothingNewError(Exception):
    """Nothing was written, so nothing is committed."""


def merge(
    primary: Path,
    staging: Path,
    *,
    mode: str,
    receipt_id: str,
    before: Mapping[str, int],
    key: Sequence[str] = (),
    unwanted: Mapping[str, Collection[str] | None] = MappingProxyType({}),
    settled: bool = True,
    writing: Callable[[Callable[[], object]], AbstractContextManager[object]] = nullcontext,
) -> Merged:
    """Merge every table of a staging database into a live one, in one transaction.

    Args:
        primary: The live database.
        staging: The staging database; it is written to.
        mode: ``replace`` (a table takes the place of the one of its name), ``append`` (rows are
            added, by column name), ``upsert`` (rows are added or changed, by a key) or ``create``
            (there must be no such table).
        receipt_id: The upload's.
        before: Rows of each table before the merge, so that nothing needs counting.
        key: The columns that the request names as the key.
        unwanted: Columns that a replaced table loses where the staging table of this name does not
            have them; None: all that it does not have. Other columns stay, and hold NULL.
        settled: Whether what is in the live database is published: else the upload is noted, and to
            be published, also if it changes nothing.
        writing: Is in force while the merge writes; it is told how to interrupt it.

    Raises:
        Refusal: ``table-exists``, ``cannot-append``, ``invalid-option``, ``limit-exceeded`` or
            ``disk-full``; then nothing is changed.
    """
    with closing(connect(primary, staging)) as db:
        register_functions(db)
        attach(db, staging)
        merging = _Merging(db, mode=mode, before=before, key=key, unwanted=unwanted)
        try:
            with writing(db.interrupt), transaction(db):
                merged = merging.run()
                if not merged.written and settled:
                    raise _NothingNewError
                record(db, receipt_id, merged.encode())
        except _NothingNewError:
            pass
    return merged


def require_keys(staging: Path, key: Sequence[str]) -> None:
    """Check that every table of a staging database has a key to upsert by.

    Raises:
        Refusal: ``invalid-option``.
    """
    with closing(connect(staging)) as db:
        db.execute("ATTACH ? AS staging", (str(staging),))
        merging = _Merging(db, mode="upsert", before={}, key=key)
        merging.require_keys()


class _Merging:
    """One merge, within its transaction."""

    def __init__(
        self,
        db: sqlite3.Connection,
        *,
        mode: str,
        before: Mapping[str, int],
        key: Sequence[str],
        unwanted: Mapping[str, Collection[str] | None] = MappingProxyType({}),
    ) -> None:
        self._db = db
        self._mode = mode
        self._before = {name.lower(): rows for name, rows in before.items()}
        self._key = key
        self._unwanted = unwanted
        self._warnings: list[str] = []
        self._written = False  # besides rows
        self._rejects: set[str] = set()  # staged tables of rows that were put aside

    def run(self) -> Merged:
        staged = self._staged_tables()
        limit_values(self._db, "main", "staging")
        drop_triggers(self._db, "staging")
        aside = set_aside(self._db)
        lookups = self._lookups(staged)
        # Lookup tables first: the ids in the others are then those of the live ones.
        ordered = sorted(staged, key=lambda each: each.name not in lookups)
        merged = {each.name: self._merge_table(each, lookups) for each in ordered}
        tables = tuple(merged[each.name] for each in staged)
        written = [each.name for each in tables if each.added or each.changed or each.removed]
        self._warnings += put_back(self._db, aside, written)
        for table in tables:
            self._warn_of_emptied(table)
        return Merged(
            tables=tables,
            warnings=tuple(dict.fromkeys(self._warnings)),
            written=self._written or bool(written),
        )

    def require_keys(self) -> None:
        staged = self._staged_tables()
        lookups = self._lookups(staged)
        for each in staged:
            if each.name not in lookups | self._rejects:
                self._upsert_key(None, each)

    def _staged_tables(self) -> list[Table]:
        """List the staging tables that can be merged; warn of what is left out."""
        query = "SELECT name, type FROM pragma_table_list WHERE schema = 'staging'"
        kinds = dict(self._db.execute(query).fetchall())
        stored = self._db.execute(
            "SELECT type, name, tbl_name, sql FROM staging.sqlite_schema WHERE sql IS NOT NULL "
            "ORDER BY rowid"
        ).fetchall()
        searches = [name for _, name, _, sql in stored
                    if kinds.get(name) == "virtual" and " using fts" in sql.lower()]  # fmt: skip
        virtual = [name.lower() for name, kind in kinds.items() if kind == "virtual"]
        tables = []
        for kind, name, _, sql in stored:
            if kinds.get(name) == "shadow":
                if not any(name.lower().startswith(f"{each}_") for each in virtual):
                    raise _refuse_taken(name, "part of a virtual table")  # of the live database
                continue
            if kind == "table" and name.startswith("sqlite_"):
                continue
            of_search = name in searches and "content" in sql.lower()
            of_search = of_search or (
                kind == "trigger" and any(each.lower() in sql.lower() for each in searches)
            )
            if kind in {"view", "trigger"} or kinds.get(name) == "virtual":
                if not of_search:
                    self._warnings.append(
                        f"left out the {kind} {name!r}: only ordinary tables are merged"
                    )
            elif kind == "table" and name not in INTERNAL_TABLES:
                tables.append(get_table(self._db, "staging", name))
        names = {each.name for each in tables}
        self._rejects = {f"{name}{REJECTS}" for name in names} & names
        return tables

    def _lookups(self, staged: list[Table]) -> set[str]:
        """Give the names of the staged tables that others look values up in."""
        return {
            reference.lookup for each in staged for reference in find_references(self._db, each)
        }

    def _merge_table(self, staged: Table, lookups: set[str]) -> MergedTable:
        if kind := find_taken(self._db, staged.name):
            raise _refuse_taken(staged.name, kind)
        table = find_table(self._db, "main", staged.name)
        if table is None:
            return self._create(staged, lookups)
        if staged.name in self._rejects:
            _check_rejects(table, staged)
        rows = self._before.get(table.name.lower())
        rows = count_rows(self._db, table) if rows is None else rows
        name = table.name
        if staged.name in lookups and value_column(table):
            added, warnings = merge_values(self._db, table, staged)
            self._warnings += warnings
            self._written |= bool(warnings)
            counts = Counts(added=added)
        elif self._mode == "replace":
            unwanted = self._unwanted.get(staged.name, ())
            replaced = replace_table(self._db, table, staged, unwanted=unwanted)
            self._warnings += replaced.warnings
            self._written |= replaced.written
            counts, name = replaced.counts, replaced.name
        elif self._mode == "create":
            raise Refusal("table-exists", f"the table {table.name!r} exists already")
        else:
            counts = self._add(table, staged)
        table = get_table(self._db, "main", name)
        if counts.any:
            search.refresh_search(self._db, table)
        removed = counts.removed
        if may_replace(table.sql):
            removed = rows + counts.added - count_rows(self._db, table)
        return MergedTable(
            name=name,
            staged=staged.name,
            before=rows,
            added=counts.added,
            changed=counts.changed,
            removed=removed,
        )

    def _warn_of_emptied(self, merged: MergedTable) -> None:
        """Warn of a table that loses all rows; that no row is put aside any more is good news."""
        if merged.removed and not merged.rows and merged.staged not in self._rejects:
            were = "1 row was" if merged.removed == 1 else f"{merged.removed:,} rows were"
            self._warnings.append(f"{were} removed from {merged.name!r}: the file has none")

    def _create(self, staged: Table, lookups: set[str]) -> MergedTable:
        if self._mode == "upsert" and staged.name not in lookups | self._rejects:
            self._upsert_key(None, staged)
        rows, warnings = rebuild.create(self._db, staged)
        self._warnings += warnings
        self._written = True
        return MergedTable(name=staged.name, staged=staged.name, before=0, added=rows)

    def _add(self, table: Table, staged: Table) -> Counts:
        """Append or upsert.

        Raises:
            Refusal: ``cannot-append`` or ``invalid-option``.
        """
        upsert = self._mode == "upsert" and staged.name not in self._rejects
        key = self._upsert_key(table, staged) if upsert else ()
        source, widened = keep_lookups(self._db, table, staged)
        self._warnings += [*warn_of_another(table, source), *widened]
        table, added = add_columns(self._db, table, source)
        self._warnings += added
        self._warnings += warn_of_missing(find_missing(table, source), upsert=upsert)
        if types := find_widenings(self._db, table, source):
            for name, kind in types.items():
                self._warnings.append(warn_of_widening(table.column(name), kind))
            table, warnings = rebuild.widen(self._db, table, types)
            self._warnings += warnings
            self._written = True
        self._written |= bool(added or widened)
        try:
            if not upsert:
                counts = difference.append(self._db, table, source)
            else:
                self._written |= difference.require_unique(self._db, table, key)
                source = difference.with_rowid(self._db, source)
                counts = difference.by_key(self._db, table, source, key, remove=False)
        except sqlite3.IntegrityError as exc:
            hint = "mode=upsert changes the rows that have the same key"
            raise Refusal(
                "cannot-append",
                f"the rows break a rule of {table.name!r}: {exc}",
                hint=hint if self._mode == "append" and "UNIQUE" in str(exc) else None,
            ) from exc
        except CannotDiffError as exc:
            raise Refusal("cannot-append", f"the rows cannot be told apart: {exc}") from exc
        made, warnings = rebuild.add_missing(self._db, table, staged)
        self._written |= made
        self._warnings += warnings
        return counts

    def _upsert_key(self, table: Table | None, staged: Table) -> tuple[str, ...]:
        """Give the columns to upsert by: those of the request, else the table's or the file's key.

        A request's key is for the tables that have its columns, as all wishes are.

        Raises:
            Refusal: ``invalid-option``: there are none that the file and the table have.
        """
        for key in (tuple(self._key), table.key if table else (), staged.key):
            tables = [each for each in (table, staged) if each is not None]
            if key and all(each.find_column(name) for name in key for each in tables):
                return key
        missing = f"no column {', '.join(self._key)}" if self._key else "none"
        raise Refusal(
            "invalid-option",
            f"mode=upsert needs a key: the table {staged.name!r} has {missing}",
            hint="name its columns: ?pk=id",
        )


def _check_rejects(table: Table, staged: Table) -> None:
    """Refuse to write rows that were put aside into a table that somebody made for other ones."""
    aside = tuple(each.name for each in staged.columns)
    if aside == REJECTS_COLUMNS != tuple(each.name for each in table.columns):
        raise Refusal(
            "table-exists",
            f"the table {table.name!r} exists already, and is none of rows that were put aside",
            hint="rename that table, or send the file to another one with ?table=",
        )


def _refuse_taken(name: str, kind: str) -> Refusal:
    """Give the refusal of a table that something else of the live database is called like."""
    article = "an" if kind == "index" else "a"
    return Refusal(
        "table-exists",
        f"the database has {article} {kind} of the name {name!r}, so no table can have it",
        hint="send the rows to another table with ?table=",
    )
