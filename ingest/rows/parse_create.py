"""Reads requests that make a table.

Source: Datasette 1.0a41, ``views/table_create_alter.py`` (``CreateTableRequest``).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from headrace.errors import RowsError
from ingest.rows.names import check_new_table
from ingest.rows.writes import Column, CreateTable

if TYPE_CHECKING:
    from collections.abc import Collection

TYPES = ("text", "integer", "float", "blob")
DEFAULT_SQL = {
    "current_timestamp": "CURRENT_TIMESTAMP",
    "current_date": "CURRENT_DATE",
    "current_time": "CURRENT_TIME",
    "current_unixtime": "(CAST(strftime('%s', 'now') AS INTEGER))",
    "current_unixtime_ms": "(CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))",
}
_KEYS = ("table", "rows", "row", "columns", "pk", "pks", "ignore", "replace", "alter")
_COLUMN_KEYS = (*("name", "type", "fk_table", "fk_column", "not_null", "default", "default_expr"),)


def parse_create(data: Any, *, database: str, url: str) -> CreateTable:
    """Read the body of a request.

    Raises:
        RowsError: It is none of the write API.
    """
    if not isinstance(data, dict):
        raise RowsError("JSON must be an object")
    if unknown := sorted(data.keys() - set(_KEYS)):
        raise RowsError(f"Invalid keys: {', '.join(unknown)}")
    columns = _columns_of(data)
    _check_booleans(data, ("ignore", "replace", "alter"))
    _check_whole(data)
    _check_rows(data)
    _check_key(data)
    _check_conflicts(data)
    rows = [data["row"]] if data.get("row") else list(data.get("rows") or ())
    pks = (data["pk"],) if data.get("pk") else tuple(data.get("pks") or ())
    return CreateTable(
        table=data["table"],
        database=database,
        url=url,
        pks=pks,
        columns=tuple(map(_read_column, columns)),
        rows=rows,
        ignore=bool(data.get("ignore")),
        replace=bool(data.get("replace")),
        alter=bool(data.get("alter")),
    )


def _columns_of(data: dict[str, Any]) -> list[dict[str, Any]]:
    columns = data.get("columns")
    if columns is None:
        return []
    _require(isinstance(columns, list), "columns must be a list")
    _require(all(isinstance(each, dict) for each in columns), "columns must be a list of objects")
    errors = [
        error for index, column in enumerate(columns) for error in _column_errors(index, column)
    ]
    if errors:
        raise RowsError(*errors)
    return list(columns)


def _column_errors(index: int, column: dict[str, Any]) -> list[str]:
    where = f"columns.{index}"
    errors = [f"{where}.{each}" for each in _type_errors(column)]
    if errors:
        return errors
    if "default" in column and "default_expr" in column:
        return [f"{where}: Value error, default and default_expr cannot both be provided"]
    if "default_expr" in column and column["default_expr"] is None:
        return [f"{where}: Value error, default_expr cannot be null"]
    if not column.get("name") or not isinstance(column["name"], str):
        return ["Column name is required"]
    if column.get("type") and column["type"] not in TYPES:
        return [f"Unsupported column type: {column['type']}"]
    needs_table = column.get("fk_column") and not column.get("fk_table")
    return [f"{where}: fk_column requires fk_table"] if needs_table else []


def _type_errors(column: dict[str, Any]) -> list[str]:
    errors = [f"{key}: Extra inputs are not permitted" for key in column if key not in _COLUMN_KEYS]
    errors += [
        f"{key}: Input should be a valid string"
        for key in ("fk_table", "fk_column", "default_expr")
        if not isinstance(column.get(key), str | None)
    ]
    if not isinstance(column.get("not_null", False), bool):
        errors.append("not_null: Input should be a valid boolean")
    expression = column.get("default_expr")
    if isinstance(expression, str) and expression not in DEFAULT_SQL:
        *first, last = DEFAULT_SQL
        quoted = ", ".join(f"'{each}'" for each in first)
        errors.append(f"default_expr: Input should be {quoted} or '{last}'")
    return errors


def _check_whole(data: dict[str, Any]) -> None:
    _require(bool(data.get("table")), "Table is required")
    _require(isinstance(data["table"], str), "Invalid table name")
    check_new_table(data["table"])
    columns, rows, row = (data.get(key) for key in ("columns", "rows", "row"))
    _require(bool(columns or rows or row), "columns, rows or row is required")
    _require(not (rows and row), "Cannot specify both rows and row")
    _require(not (columns and (rows or row)), "Cannot specify columns with rows or row")
    counts = Counter(each["name"] for each in columns or ())
    duplicates = [name for name, count in counts.items() if count > 1]
    _require(not duplicates, f"Duplicate column name: {', '.join(duplicates)}")


def _check_rows(data: dict[str, Any]) -> None:
    rows, row = data.get("rows"), data.get("row")
    if rows is not None:
        _require(isinstance(rows, list), "rows must be a list")
        _require(all(isinstance(each, dict) for each in rows), "rows must be a list of objects")
    # Datasette fails at such a row later, in words of Python.
    _require(not row or isinstance(row, dict), "row must be an object")


def _check_key(data: dict[str, Any]) -> None:
    pk, pks = data.get("pk"), data.get("pks")
    _require(isinstance(pk, str | None), "pk must be a string")
    _require(not (pk and pks), "Cannot specify both pk and pks")
    if pks is not None:
        _require(isinstance(pks, list), "pks must be a list")
        _require(all(isinstance(each, str) for each in pks), "pks must be a list of strings")


def _check_conflicts(data: dict[str, Any]) -> None:
    _require(
        not (data.get("ignore") and data.get("replace")),
        "ignore and replace are mutually exclusive",
    )
    if data.keys() & {"ignore", "replace"}:
        _require(
            bool(data.get("row") or data.get("rows")), "ignore and replace require row or rows"
        )
        _require(bool(data.get("pk") or data.get("pks")), "ignore and replace require pk or pks")


def _check_booleans(data: dict[str, Any], keys: Collection[str]) -> None:
    for key in keys:
        if not isinstance(data.get(key), bool | None):
            raise RowsError(f"{key}: Input should be a valid boolean")


def _read_column(column: dict[str, Any]) -> Column:
    return Column(
        name=column["name"],
        type=column.get("type") or "text",
        not_null=column.get("not_null", False),
        default=column.get("default"),
        default_sql=DEFAULT_SQL.get(column.get("default_expr") or ""),
        fk=tuple(column[key] for key in ("fk_table", "fk_column") if column.get(key)),
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RowsError(message)
