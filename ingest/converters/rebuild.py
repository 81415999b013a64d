"""Rebuild tables of a staging database: columns picked and renamed, types, STRICT, primary keys."""

from __future__ import annotations

import importlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.errors import Refusal
from headrace.names import quote_identifier
from ingest.converters.casting import Value, cast_value
from ingest.converters.matching import columns_of, match_tables, refuse_option
from ingest.converters.staging import unique_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from headrace.wishes import Wishes

MAX_SHOWN = 3  # rows that a refusal names
MAX_SHOWN_CHARACTERS = 20  # of a value


@dataclass(slots=True, kw_only=True)
class _Plan:
    """How one table is rebuilt.

    Attributes:
        columns: Its columns as they are.
        keep: Those that stay, in their new order.
        rename: New names of columns.
        types: Wanted types, lower case.
        pk: The key, by new names; empty: as it is.
    """

    columns: list[str]
    keep: list[str] = field(default_factory=list)
    rename: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    pk: list[str] = field(default_factory=list)

    @property
    def names(self) -> dict[str, str]:
        """The columns as they will be named, with the names that they have."""
        return {self.rename.get(name, name): name for name in self.keep or self.columns}


def rebuild(db: Any, path: Path, tables: Sequence[str], wishes: Wishes) -> bool:
    """Pick, rename and type columns, and set keys, each table once; say whether one was changed.

    Args:
        db: The staging database, as a ``sqlite_utils.Database``.
        path: Its file.
        tables: The tables that may be changed.
        wishes: ``columns`` and ``types`` by the names that the columns have, ``pk`` by those that
            they will have.

    Raises:
        Refusal: ``invalid-option``, ``wrong-type``, ``duplicate-key``.
    """
    plans = {table: _Plan(columns=columns_of(db.conn, table)) for table in tables}
    _plan_columns(plans, wishes.columns)
    _plan_types(plans, wishes.types)
    _plan_keys(db, plans, wishes.pk)
    changed = False
    for table, plan in plans.items():
        strict = wishes.strict and not db[table].strict
        if plan.keep or plan.types or plan.pk or strict:
            _Rebuilding(db, path, table, plan).run(wishes)
            changed = True
    return changed


def check_plain(db: Any, table: str, option: str) -> None:
    """Refuse to rebuild a table that would lose something by it.

    Source: sqlite-utils 4.2, ``Table.transform``: it does not know of these.

    Raises:
        Refusal: ``invalid-option``.
    """
    (sql,) = db.execute("SELECT sql FROM sqlite_schema WHERE name = ?", [table]).fetchone()
    hidden = "SELECT EXISTS (SELECT 1 FROM pragma_table_xinfo(?) WHERE hidden <> 0)"
    without_rowid = "SELECT EXISTS (SELECT 1 FROM pragma_table_list WHERE name = ? AND wr)"
    kinds = {affinity(column.type) for column in db[table].columns}
    obstacles = {
        "triggers": bool(db[table].triggers),
        "generated columns": db.execute(hidden, [table]).fetchone()[0],
        "no rowid": db.execute(without_rowid, [table]).fetchone()[0],
        "columns of type NUMERIC": "numeric" in kinds,
        "collations": "COLLATE" in sql.upper(),
    }
    found = [name for name, there in obstacles.items() if there]
    if found:
        raise refuse_option(
            option, f"the table {table!r} has {' and '.join(found)}, and cannot be rebuilt here"
        )


def affinity(declared: str) -> str:
    """Give a declared type's affinity.

    Source: sqlite.org/datatype3.html, section 3.1.
    """
    upper = declared.upper()
    if "INT" in upper:
        return "integer"
    if any(part in upper for part in ("CHAR", "CLOB", "TEXT")):
        return "text"
    if "BLOB" in upper or upper in ("", "ANY"):
        return "blob"
    return "real" if any(part in upper for part in ("REAL", "FLOA", "DOUB")) else "numeric"


def _plan_columns(plans: Mapping[str, _Plan], columns: Mapping[str, str]) -> None:
    """Plan which columns are kept, in which order, under which names."""
    wanted = list(columns.values())
    for table, keep in _match(plans, "columns", list(columns)).items():
        possible, _ = unique_columns(wanted, table=table)
        if possible != wanted or len({name.lower() for name in keep}) < len(keep):
            raise refuse_option("columns", "a name is there twice, or is none that can be had")
        plans[table].keep = keep
        plans[table].rename = {
            old: new for old, new in zip(keep, wanted, strict=True) if old != new
        }


def _plan_types(plans: Mapping[str, _Plan], types: Mapping[str, str]) -> None:
    """Plan the types of columns, by the names that they have or will have."""
    named = {
        table: list(dict.fromkeys((*plan.columns, *plan.names))) for table, plan in plans.items()
    }
    for name, wanted in types.items():
        for table, (column,) in match_tables(named, "types", [name]).items():
            plan = plans[table]
            plan.types[column if column in plan.columns else plan.names[column]] = wanted


def _plan_keys(db: Any, plans: Mapping[str, _Plan], pk: Sequence[str]) -> None:
    """Plan the primary key; a table that has it already needs nothing."""
    named = {table: list(plan.names) for table, plan in plans.items()}
    for table, key in match_tables(named, "pk", pk).items():
        plan = plans[table]
        if db[table].use_rowid or db[table].pks != [plan.names[name] for name in key]:
            plan.pk = key


def _match(plans: Mapping[str, _Plan], option: str, wanted: Sequence[str]) -> dict[str, list[str]]:
    """Find the tables that have columns, by the names that the columns have now."""
    return match_tables({table: plan.columns for table, plan in plans.items()}, option, wanted)


class _Rebuilding:
    """One table that is rebuilt as planned."""

    def __init__(self, db: Any, path: Path, table: str, plan: _Plan) -> None:
        self._db = db
        self._path = path
        self._table = table
        self._plan = plan

    def run(self, wishes: Wishes) -> None:
        """Check that it can be done without loss, and do it."""
        plan, table = self._plan, self._db[self._table]
        check_plain(self._db, self._table, _first_option(wishes))
        strict = wishes.strict or table.strict
        declared = {column.name: column.type for column in table.columns}
        kept = list(plan.names.values())
        types = {name: wanted for name, wanted in plan.types.items() if name in kept}
        stated = {name: affinity(declared[name]) for name in kept if strict and declared[name]}
        self._cast({**stated, **types}, empty_is_null=wishes.empty != "text")
        self._check_no_nulls()
        # sqlite-utils would make a column without a type TEXT, which turns numbers into texts.
        untyped = {name: "ANY" if strict else "BLOB" for name in kept if not declared[name]}
        arguments: dict[str, Any] = {
            "types": {
                **untyped,
                **{name: wanted.upper() for name, wanted in {**stated, **types}.items()},
            },
            "rename": plan.rename,
            "drop": set(plan.columns) - set(kept),
            "column_order": kept,
            "strict": strict,
        }
        if plan.pk:
            arguments["pk"] = plan.pk[0] if len(plan.pk) == 1 else plan.pk
        self._transform(arguments)

    def _transform(self, arguments: Mapping[str, Any]) -> None:
        """Let sqlite-utils do it; say why it could not."""
        errors = importlib.import_module("sqlite_utils.db")
        try:
            self._db[self._table].transform(**arguments)
        except sqlite3.IntegrityError as exc:
            if self._plan.pk and "UNIQUE" in str(exc):
                raise self._refuse_duplicates() from exc
            raise self._refuse(exc) from exc
        except (errors.TransformError, errors.AlterError, ValueError) as exc:
            raise self._refuse(exc) from exc
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode == sqlite3.SQLITE_ERROR:
                raise self._refuse(exc) from exc
            raise

    def _refuse(self, exc: Exception) -> Refusal:
        return Refusal(
            "invalid-option", f"the table {self._table!r} cannot be rebuilt as asked for: {exc}"
        )

    def _cast(self, targets: Mapping[str, str], *, empty_is_null: bool) -> None:
        """Turn values that are of another type than their column will be.

        Raises:
            Refusal: ``wrong-type``: some cannot be had without loss.
        """
        misfits = self._find_misfits(targets)
        if not misfits:
            return
        loose = dict.fromkeys(misfits, "BLOB")  # so that values stay as they are put in
        self._db[self._table].transform(types=loose, strict=False)
        table = quote_identifier(self._table)
        for column, wanted in misfits.items():
            casting = _Casting(wanted, empty_is_null=empty_is_null)
            self._db.conn.create_function("cast_value", 2, casting)
            name = quote_identifier(column)
            self._db.execute(
                f"UPDATE {table} SET {name} = cast_value(rowid, {name})"  # noqa: S608 - quoted
                f" WHERE typeof({name}) NOT IN ('null', '{wanted}')"
            )
            if casting.failed:
                raise _refuse_values(column, wanted, casting)

    def _find_misfits(self, targets: Mapping[str, str]) -> dict[str, str]:
        """Find the columns that hold a value of another type than the wanted one, in one pass."""
        if not targets:
            return {}
        flags = ", ".join(
            f"max(typeof({quote_identifier(name)}) NOT IN ('null', '{wanted}'))"
            for name, wanted in targets.items()
        )
        query = f"SELECT {flags} FROM {quote_identifier(self._table)}"  # noqa: S608 - quoted
        found = self._db.execute(query).fetchone()
        return {
            name: wanted
            for (name, wanted), misfit in zip(targets.items(), found, strict=True)
            if misfit
        }

    def _check_no_nulls(self) -> None:
        """Refuse a key that some rows do not have.

        Raises:
            Refusal: ``duplicate-key``.
        """
        if not self._plan.pk:
            return
        key = [quote_identifier(self._plan.names[name]) for name in self._plan.pk]
        where = " OR ".join(f"{name} IS NULL" for name in key)
        query = f"SELECT rowid FROM {quote_identifier(self._table)} WHERE {where} LIMIT ?"  # noqa: S608 - quoted
        rows = [row for (row,) in self._db.execute(query, [MAX_SHOWN])]
        if rows:
            raise Refusal(
                "duplicate-key",
                f"rows without a value for the key {_shown_key(self._plan.pk)}:"
                f" {_shown_rows(rows)}",
            )

    def _refuse_duplicates(self) -> Refusal:
        """Name the first keys that several rows share.

        The connection on which a statement has failed cannot be read any more without a journal.
        """
        key = ", ".join(quote_identifier(self._plan.names[name]) for name in self._plan.pk)
        query = (
            f"SELECT min(rowid), max(rowid), {key} FROM {quote_identifier(self._table)}"  # noqa: S608 - quoted
            f" GROUP BY {key} HAVING count(*) > 1 ORDER BY min(rowid) LIMIT ?"
        )
        uri = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as reader:
            shared = reader.execute(query, (MAX_SHOWN,)).fetchall()
        shown = "; ".join(
            f"{', '.join(_shown(value) for value in values)} in rows {first} and {last}"
            for first, last, *values in shared
        )
        return Refusal(
            "duplicate-key", f"rows share a value of the key {_shown_key(self._plan.pk)}: {shown}"
        )


class _Casting:
    """Casts one column's values; remembers those that it cannot.

    Attributes:
        failed: How many.
        first: The first of them, with their rows.
    """

    def __init__(self, wanted: str, *, empty_is_null: bool) -> None:
        self._wanted = wanted
        self._empty_is_null = empty_is_null
        self.failed = 0
        self.first: list[tuple[int, Value]] = []

    def __call__(self, row: int, value: Value) -> Value:
        try:
            return cast_value(value, self._wanted, empty_is_null=self._empty_is_null)
        except ValueError:
            self.failed += 1
            if self.failed <= MAX_SHOWN:
                self.first.append((row, value))
            return None


def _refuse_values(column: str, wanted: str, casting: _Casting) -> Refusal:
    """Name the first values that cannot be had as the type that is wanted."""
    shown = ", ".join(f"{_shown(value)} in row {row}" for row, value in casting.first)
    return Refusal(
        "wrong-type",
        f"{casting.failed:,} value{'s' if casting.failed > 1 else ''} of {column!r} cannot be"
        f" {wanted} without loss: {shown}",
    )


def _first_option(wishes: Wishes) -> str:
    """Name the first wish that rebuilds a table."""
    return next(name for name in ("columns", "types", "pk", "strict") if getattr(wishes, name))


def _shown(value: Value) -> str:
    """Show the start of a value."""
    if isinstance(value, str | bytes) and len(value) > MAX_SHOWN_CHARACTERS:
        return f"{value[:MAX_SHOWN_CHARACTERS]!r}…"
    return repr(value)


def _shown_key(pk: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in pk)


def _shown_rows(rows: Iterable[int]) -> str:
    return f"row {', '.join(str(row) for row in rows)}"
