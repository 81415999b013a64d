"""The JSON of previews, as types. See ``headrace/documents.py``."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class PreviewColumn(TypedDict):
    """A column that a table would have.

    Attributes:
        name: Of the column.
        type: As SQLite has it.
    """

    name: str
    type: str


class PreviewTable(TypedDict):
    """A table that a file would become.

    Attributes:
        name: Of the table.
        columns: The first of them.
        more_columns: How many more there are.
        rows: The first of them. Long texts are cut, large numbers are texts.
        row_count: How many the beginning of the file holds.
        rows_there: Rows of the table that has this name now; null: there is none.
        kept_columns: Columns of that table which the file does not have, and which stay.
    """

    name: str
    columns: list[PreviewColumn]
    more_columns: int
    rows: list[list[float | str | None]]
    row_count: int
    rows_there: int | None
    kept_columns: list[str]


class Preview(TypedDict):
    """What a file would become, out of its beginning.

    Attributes:
        filename: As it would be shown.
        format: As detected.
        options: Those that the format knows.
        database: Where it would go.
        database_exists: Whether that is published.
        mode: What would be done to a table that is there.
        complete: Whether the beginning was said to be all.
        previewable: Whether tables can be told from the beginning.
        reason: Why not.
        encoding: Of a text file.
        delimiter: What divides the fields of a delimited file.
        tables: The first of them.
        more_tables: How many more there are.
        warnings: What would be changed, or was noticed.
    """

    filename: str
    format: str
    options: list[str]
    database: str
    database_exists: bool
    mode: str
    complete: bool
    previewable: bool
    reason: NotRequired[str]
    encoding: NotRequired[str | None]
    delimiter: NotRequired[str | None]
    tables: list[PreviewTable]
    more_tables: NotRequired[int]
    warnings: list[str]
