"""The JSON of Datasette's write API, as types. See ``headrace/documents.py``."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

# A keyword of Python, so no class has it.
_Returning = TypedDict("_Returning", {"return": NotRequired[bool]})


class RowsWish(_Returning):
    """Rows to write: ``row`` or ``rows``.

    Attributes:
        row: One of them.
        rows: Several.
        ignore: Leave rows alone whose key is there.
        replace: Replace rows whose key is there.
        alter: Add columns that are missing.
        return: Answer with the rows as they are then.
    """

    row: NotRequired[dict[str, Any]]
    rows: NotRequired[list[dict[str, Any]]]
    ignore: NotRequired[bool]
    replace: NotRequired[bool]
    alter: NotRequired[bool]


class UpsertWish(_Returning):
    """Rows to write, with their key: ``row`` or ``rows``.

    Attributes:
        row: One of them.
        rows: Several.
        alter: Add columns that are missing.
        return: Answer with the rows as they are then.
    """

    row: NotRequired[dict[str, Any]]
    rows: NotRequired[list[dict[str, Any]]]
    alter: NotRequired[bool]


class RowUpdate(_Returning):
    """What is to change of a row.

    Attributes:
        update: New values, by column.
        alter: Add columns that are missing.
        return: Answer with the rows as they are then.
    """

    update: dict[str, Any]
    alter: NotRequired[bool]


class DropWish(TypedDict):
    """Whether a table is really to be dropped.

    Attributes:
        confirm: Without it its rows are counted, and it stays.
    """

    confirm: NotRequired[bool]


class NewColumn(TypedDict):
    """A column to make.

    Attributes:
        name: Its name.
        type: Its type.
        fk_table: The table that it refers to.
        fk_column: The column that it refers to; its table's key, if nothing is said.
        not_null: Whether it takes no NULL.
        default: What it is where nothing is said.
        default_expr: The same, as the name of an expression.
    """

    name: str
    type: NotRequired[Literal["text", "integer", "float", "blob"]]
    fk_table: NotRequired[str]
    fk_column: NotRequired[str]
    not_null: NotRequired[bool]
    default: NotRequired[Any]
    default_expr: NotRequired[str]


class NewTable(TypedDict):
    """A table to make: out of ``columns``, ``row`` or ``rows``.

    Attributes:
        table: Its name.
        columns: Its columns.
        row: One row of it.
        rows: Several.
        pk: The column of its key.
        pks: Columns of its key.
        ignore: Leave rows alone whose key is there.
        replace: Replace rows whose key is there.
        alter: Add columns that are missing.
    """

    table: str
    columns: NotRequired[list[NewColumn]]
    row: NotRequired[dict[str, Any]]
    rows: NotRequired[list[dict[str, Any]]]
    pk: NotRequired[str]
    pks: NotRequired[list[str]]
    ignore: NotRequired[bool]
    replace: NotRequired[bool]
    alter: NotRequired[bool]


class RowsWritten(TypedDict):
    """Rows that are written.

    Attributes:
        ok: Always true.
        rows: As they are then, where that is asked for.
    """

    ok: bool
    rows: NotRequired[list[dict[str, Any]]]


class TableMade(TypedDict):
    """A table that is made.

    Attributes:
        ok: Always true.
        database: Its database.
        table: Its name.
        table_url: Where people read it.
        table_api_url: Where programs read it.
        schema: Its SQL.
        row_count: Rows that were written.
    """

    ok: bool
    database: str
    table: str
    table_url: str
    table_api_url: str
    schema: str
    row_count: NotRequired[int]


class TableDropped(TypedDict):
    """A table that is gone, or would be.

    Attributes:
        ok: Always true.
        database: Its database, if it would be.
        table: Its name, if it would be.
        row_count: Its rows, if it would be.
        message: What to send to have it dropped.
    """

    ok: bool
    database: NotRequired[str]
    table: NotRequired[str]
    row_count: NotRequired[int]
    message: NotRequired[str]


# One row, or a list of them.
OLDER_ROWS = {"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}


class OlderWritten(TypedDict):
    """Rows that are written, as datasette-insert says it.

    Attributes:
        table_count: Rows of the table then.
    """

    table_count: int


class RowsProblem(TypedDict):
    """What is wrong, as Datasette says it.

    Attributes:
        ok: Always false; not in the older form.
        error: All of it.
        errors: Each by itself; not in the older form.
        status: The HTTP status.
        code: Of the problem, where Datasette knows no such thing.
        hint: What can be done about it.
    """

    ok: NotRequired[bool]
    error: str
    errors: NotRequired[list[str]]
    status: int
    code: NotRequired[str]
    hint: NotRequired[str]
