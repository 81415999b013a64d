"""One row by its key: update, delete.

Source: Datasette 1.0a41, ``views/row.py`` and ``app.py`` (``resolve_row``).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sqlite_utils.db import jsonify_if_needed

from headrace.errors import RowsError
from headrace.names import quote_identifier
from ingest.rows.changes import Applied, Change
from ingest.rows.insert import add_columns, read_by_key, where_key
from ingest.rows.writes import Answer

if TYPE_CHECKING:
    import sqlite3

    from ingest.rows.schema import Schema, Table
    from ingest.rows.writes import DeleteRow, UpdateRow


def update_row(db: sqlite3.Connection, schema: Schema, write: UpdateRow) -> Applied:
    """Apply one request.

    Raises:
        RowsError: There is no such row.
        sqlite3.Error: SQLite refused it.
    """
    table = _get_table_of_row(db, schema, write.table, write.pks)
    change = Change(table=table.name, rows=1, recount=table.replaces)
    if write.alter and add_columns(db, table, [write.update]):
        schema.forget()
        change.altered = True
    if write.update:
        sets = ", ".join(f"{quote_identifier(each)} = ?" for each in write.update)
        values = (*map(jsonify_if_needed, write.update.values()), *write.pks)
        db.execute(
            f"UPDATE {quote_identifier(table.name)} SET {sets} WHERE {where_key(table)}",  # noqa: S608
            values,
        )
        change.changed = 1
    document: dict[str, Any] = {"ok": True}
    if write.returning:
        key = [write.update.get(name, old) for name, old in zip(table.keys, write.pks, strict=True)]
        document["rows"] = [read_by_key(db, table, key)]
    return Applied(answer=Answer(status=200, document=document), changes=[change])


def delete_row(db: sqlite3.Connection, schema: Schema, write: DeleteRow) -> Applied:
    """Apply one request.

    Raises:
        RowsError: There is no such row.
        sqlite3.Error: SQLite refused it.
    """
    table = _get_table_of_row(db, schema, write.table, write.pks)
    statement = f"DELETE FROM {quote_identifier(table.name)} WHERE {where_key(table)}"  # noqa: S608
    removed = db.execute(statement, write.pks).rowcount
    change = Change(table=table.name, removed=removed)
    return Applied(answer=Answer(status=200, document={"ok": True}), changes=[change])


def _get_table_of_row(
    db: sqlite3.Connection, schema: Schema, name: str, pks: tuple[str, ...]
) -> Table:
    table = schema.get_table(name)
    if len(pks) != len(table.keys):
        raise RowsError("URL row identifier does not match the primary key for this table")
    if read_by_key(db, table, pks) is None:
        raise RowsError(f"Record not found: {list(pks)}", status=HTTPStatus.NOT_FOUND)
    return table
