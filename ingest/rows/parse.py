"""Reads requests of the write API; what is wrong with them is said in Datasette's words.

Source: Datasette 1.0a41, ``views/table.py`` (``TableInsertView``, ``TableDropView``) and
``views/row.py``; datasette-insert 0.8.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from headrace.errors import RowsError
from headrace.row_paths import RowPath, RowVerb
from ingest.rows.parse_create import parse_create
from ingest.rows.writes import DeleteRow, DropTable, InsertRows, OlderWrite, UpdateRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.rows.writes import Row, RowWrite

_EXTRAS = frozenset({"return", "ignore", "replace", "alter"})
_OF_UPDATE = frozenset({"update", "return", "alter"})


def parse(
    path: RowPath, body: bytes, *, query: Mapping[str, str], url: str, max_rows: int
) -> RowWrite:
    """Read one request.

    Args:
        path: What it goes to.
        body: Its body.
        query: Its query, which the older form has.
        url: Scheme and host that it was sent to.
        max_rows: Rows that it may hold.

    Raises:
        RowsError: It is none of the write API.
    """
    if path.older:
        return _parse_older(path, body, query, max_rows)
    if path.verb is RowVerb.DELETE:
        return DeleteRow(table=path.table, pks=path.pks)
    if path.verb is RowVerb.DROP:
        return DropTable(table=path.table, database=path.database, confirm=_confirms(body))
    if path.verb is RowVerb.CREATE:
        write = parse_create(_load(body), database=path.database, url=url)
        _check_count(write.rows, max_rows)
        _decode_rows(write.rows)
        return write
    if path.verb is RowVerb.UPDATE:
        return _parse_update(path, _load(body))
    return _parse_insert(path, _load(body), max_rows)


def _parse_insert(path: RowPath, data: Any, max_rows: int) -> InsertRows:
    data = _dictionary(data)
    rows = _rows_of(data)
    _check_count(rows, max_rows)
    extras = data.keys() - {"row", "rows"}
    if unknown := sorted(extras - _EXTRAS):
        names = '", "'.join(unknown)
        raise RowsError(f'Invalid parameter: "{names}"')
    if data.get("ignore") and data.get("replace"):
        raise RowsError('Cannot use "ignore" and "replace" at the same time')
    upsert = path.verb is RowVerb.UPSERT
    if upsert and (data.get("ignore") or data.get("replace")):
        raise RowsError("Upsert does not support ignore or replace")
    _decode_rows(rows)
    return InsertRows(
        table=path.table,
        rows=rows,
        upsert=upsert,
        ignore=bool(data.get("ignore")),
        replace=bool(data.get("replace")),
        alter=bool(data.get("alter")),
        returning=bool(data.get("return")) or "row" in data,
    )


def _rows_of(data: dict[str, Any]) -> list[Row]:
    if "row" in data:
        if "rows" in data:
            raise RowsError('Cannot use "row" and "rows" at the same time')
        if not isinstance(data["row"], dict):
            raise RowsError('"row" must be a dictionary')
        return [data["row"]]
    if "rows" not in data:
        raise RowsError('JSON must have one or other of "row" or "rows"')
    rows = data["rows"]
    if not isinstance(rows, list):
        raise RowsError('"rows" must be a list')
    if not all(isinstance(row, dict) for row in rows):
        raise RowsError('"rows" must be a list of dictionaries')
    return rows


def _parse_update(path: RowPath, data: Any) -> UpdateRow:
    data = _dictionary(data)
    if not isinstance(data.get("update"), dict):
        raise RowsError("JSON must contain an update dictionary")
    if unknown := sorted(data.keys() - _OF_UPDATE):
        raise RowsError(f"Invalid keys: {', '.join(unknown)}")
    _decode_rows([data["update"]])
    return UpdateRow(
        table=path.table,
        pks=path.pks,
        update=data["update"],
        alter=bool(data.get("alter")),
        returning=bool(data.get("return")),
    )


def _confirms(body: bytes) -> bool:
    """Say whether a table is to be dropped; without a body it is not."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return bool(_dictionary(data).get("confirm"))


def _parse_older(path: RowPath, body: bytes, query: Mapping[str, str], max_rows: int) -> OlderWrite:
    upsert, pk = path.verb is RowVerb.UPSERT, query.get("pk") or None
    if upsert and pk is None:
        raise RowsError("Upsert requires ?pk=")
    rows = _load(body)
    if isinstance(rows, dict):
        rows = [rows]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RowsError("JSON must be a list of dictionaries")
    _check_count(rows, max_rows)
    return OlderWrite(
        table=path.table, rows=rows, pk=pk, upsert=upsert, alter=bool(query.get("alter"))
    )


def _load(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError as exc:
        raise RowsError("Invalid JSON: it is nested too deeply") from exc
    except ValueError as exc:  # also of bytes that are no UTF-8
        raise RowsError(f"Invalid JSON: {exc}") from exc


def _dictionary(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise RowsError("JSON must be a dictionary")
    return data


def _check_count(rows: list[Row], max_rows: int) -> None:
    if len(rows) > max_rows:
        raise RowsError(f"Too many rows, maximum allowed is {max_rows}")


def _decode_rows(rows: list[Row]) -> None:
    """Decode values that JSON has no form for, in place."""
    for row in rows:
        for key, value in row.items():
            if isinstance(value, dict):
                row[key] = _decode_cell(value)


def _decode_cell(value: dict[str, Any]) -> Any:
    if value.keys() == {"$raw"}:
        return value["$raw"]
    if value.keys() != {"$base64", "encoded"} or value["$base64"] is not True:
        return value
    if not isinstance(value["encoded"], str):
        raise RowsError("$base64 encoded value must be a string")
    try:
        return base64.b64decode(value["encoded"], validate=True)
    except binascii.Error as exc:
        raise RowsError("Invalid $base64 encoded value") from exc
