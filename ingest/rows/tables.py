"""Whole tables: create, also by rows, and drop; and rows by the form of datasette-insert.

sqlite-utils makes the tables, as for Datasette, so that they are the same.

Source: Datasette 1.0a41, ``views/table_create_alter.py`` (``TableCreateView``) and
``views/table.py`` (``TableDropView``); datasette-insert 0.8.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import sqlite_utils

from headrace.errors import RowsError
from headrace.names import quote_identifier, tilde_encode
from ingest.rows.changes import Applied, Change
from ingest.rows.names import check_new_columns, check_new_table
from ingest.rows.writes import Answer

if TYPE_CHECKING:
    import sqlite3

    from ingest.rows.schema import Schema
    from ingest.rows.writes import Column, CreateTable, DropTable, OlderWrite, Row


def create_table(db: sqlite3.Connection, schema: Schema, write: CreateTable) -> Applied:
    """Apply one request.

    Raises:
        RowsError: The table cannot be made so, or not be written to.
        sqlite3.Error: SQLite refused it.
    """
    utils = sqlite_utils.Database(db)
    table = utils.table(write.table)
    exists = schema.has_table(write.table)
    pks = write.pks
    if exists:
        pks = _check_key(schema, write)
    check_new_columns(_new_columns(schema, write.table, write.rows, exists=exists))
    check_new_columns([*(each.name for each in write.columns), *([] if exists else pks)])
    if write.rows:
        table.insert_all(
            write.rows,
            pk=_pk(pks),
            ignore=write.ignore,
            replace=write.replace,
            alter=write.alter or not exists,
        )
    else:
        _create_empty(utils, write)
    schema.forget()
    address = f"{write.url}/{tilde_encode(write.database)}/{tilde_encode(write.table)}"
    document: dict[str, Any] = {
        "ok": True,
        "database": write.database,
        "table": write.table,
        "table_url": address,
        "table_api_url": f"{address}.json",
        "schema": table.schema,
    }
    if write.rows:
        document["row_count"] = len(write.rows)
    change = _recounted(write.table, write.rows)
    return Applied(answer=Answer(status=HTTPStatus.CREATED, document=document), changes=[change])


def drop_table(db: sqlite3.Connection, schema: Schema, write: DropTable) -> Applied:
    """Apply one request.

    Raises:
        RowsError: There is no such table.
        sqlite3.Error: SQLite refused it.
    """
    name = schema.get_table(write.table).name
    if not write.confirm:
        document = {
            "ok": True,
            "database": write.database,
            "table": name,
            "row_count": _count(db, name),
            "message": 'Pass "confirm": true to confirm',
        }
        return Applied(answer=Answer(status=200, document=document))
    table = sqlite_utils.Database(db).table(name)
    removed = _count(db, name)
    table.disable_fts()
    table.drop()
    schema.forget()
    change = Change(table=name, removed=removed, dropped=True)
    return Applied(answer=Answer(status=200, document={"ok": True}), changes=[change])


def write_older(db: sqlite3.Connection, schema: Schema, write: OlderWrite) -> Applied:
    """Apply one request.

    Raises:
        RowsError: The rows do not fit the table.
        sqlite3.Error: SQLite refused them.
    """
    exists = schema.has_table(write.table)
    if exists:
        schema.get_table(write.table)  # refuses what is no ordinary table
    else:
        check_new_table(write.table)
    if write.alter or not exists:
        check_new_columns(_new_columns(schema, write.table, write.rows, exists=exists))
    table = sqlite_utils.Database(db).table(write.table)
    if write.upsert:
        table.upsert_all(write.rows, pk=write.pk, alter=write.alter)
    else:
        table.insert_all(write.rows, replace=True, pk=write.pk, alter=write.alter)
    schema.forget()
    document = {"table_count": _count(db, write.table) if schema.has_table(write.table) else 0}
    changes = [_recounted(write.table, write.rows)] if write.rows else []
    return Applied(answer=Answer(status=200, document=document), changes=changes)


def _check_key(schema: Schema, write: CreateTable) -> tuple[str, ...]:
    """Give the key of a table that is there, if that is the one that was asked for."""
    actual = schema.get_table(write.table).pks
    one, several = write.pks[:1], write.pks
    if len(actual) == 1 and len(several) == 1 and one != actual:
        raise RowsError("pk cannot be changed for existing table")
    if len(actual) > 1 and len(several) > 1 and set(several) != set(actual):
        raise RowsError("pk cannot be changed for existing table")
    return actual


def _create_empty(utils: sqlite_utils.Database, write: CreateTable) -> None:
    defaults = {
        each.name: value for each in write.columns if (value := _default(utils, each)) is not None
    }
    foreign_keys: Any = [(each.name, *each.fk) for each in write.columns if each.fk]
    utils.table(write.table).create(
        {each.name: each.type for each in write.columns},
        pk=_pk(write.pks),
        foreign_keys=foreign_keys or None,
        not_null=[each.name for each in write.columns if each.not_null] or None,
        defaults=defaults or None,
    )


def _default(utils: sqlite_utils.Database, column: Column) -> Any:
    if column.default_sql is not None:
        return column.default_sql
    return utils.quote(column.default) if isinstance(column.default, str) else column.default


def _new_columns(schema: Schema, table: str, rows: list[Row], *, exists: bool) -> set[str]:
    known = schema.get_table(table).columns if exists else frozenset()
    return {key for row in rows for key in row} - known


def _recounted(table: str, rows: list[Row]) -> Change:
    """Give the change of a table that sqlite-utils wrote to: it does not say what it did."""
    return Change(table=table, rows=len(rows), altered=True, recount=True)


def _count(db: sqlite3.Connection, table: str) -> int:
    query = f"SELECT count(*) FROM {quote_identifier(table)}"  # noqa: S608
    return int(db.execute(query).fetchone()[0])


def _pk(pks: tuple[str, ...]) -> Any:
    """Give a key as sqlite-utils has it."""
    return (pks[0] if len(pks) == 1 else pks) or None if pks else None
