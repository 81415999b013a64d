"""What a request of the write API asks for, once it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

Row = dict[str, Any]


class RowWrite(Protocol):
    """One request; each kind has a function of ``ingest.rows.batch``.

    Attributes:
        rows_count: Rows that it holds.
    """

    @property
    def rows_count(self) -> int:
        """Rows that it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertRows:
    """Rows for a table that is there.

    Attributes:
        table: Its name.
        rows: As they were sent, values decoded.
        upsert: Whether rows of the same key are changed.
        ignore: Whether rows of the same key are skipped.
        replace: Whether rows of the same key are replaced.
        alter: Whether columns that are missing are added.
        returning: Whether the answer holds the rows.
    """

    table: str
    rows: list[Row]
    upsert: bool = False
    ignore: bool = False
    replace: bool = False
    alter: bool = False
    returning: bool = False

    @property
    def rows_count(self) -> int:
        """Rows that it holds."""
        return len(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRow:
    """New values for columns of one row.

    Attributes:
        table: Its name.
        pks: Values of its key, as the path has them.
        update: The values.
        alter: Whether columns that are missing are added.
        returning: Whether the answer holds the row.
    """

    table: str
    pks: tuple[str, ...]
    update: Row
    alter: bool = False
    returning: bool = False
    rows_count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRow:
    """One row less.

    Attributes:
        table: Its name.
        pks: Values of its key, as the path has them.
    """

    table: str
    pks: tuple[str, ...]
    rows_count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DropTable:
    """A table less.

    Attributes:
        table: Its name.
        database: Its database's, for the answer.
        confirm: Whether it is meant; else only its rows are counted.
    """

    table: str
    database: str
    confirm: bool
    rows_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table that is made.

    Attributes:
        name: Its name.
        type: ``text``, ``integer``, ``float`` or ``blob``.
        not_null: Whether it must have a value.
        default: Value that it has otherwise; None: none.
        default_sql: The same as an SQL expression.
        fk: Table, and perhaps column, that it refers to.
    """

    name: str
    type: str
    not_null: bool = False
    default: Any = None
    default_sql: str | None = None
    fk: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTable:
    """A table, made of columns or of rows; rows may also go into one that is there.

    Attributes:
        table: Its name.
        database: Its database's, for the answer.
        url: Address of the reader that was asked, for the answer.
        pks: Columns of its key, in the order of the key.
        columns: What it is made of, if there are no rows.
        rows: What it is made of, and holds.
        ignore: Whether rows of the same key are skipped.
        replace: Whether rows of the same key are replaced.
        alter: Whether columns that are missing in a table that is there are added.
    """

    table: str
    database: str
    url: str
    pks: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    rows: list[Row] = field(default_factory=list)
    ignore: bool = False
    replace: bool = False
    alter: bool = False

    @property
    def rows_count(self) -> int:
        """Rows that it holds."""
        return len(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderWrite:
    """Rows by the form of datasette-insert, which makes the table if it is missing.

    Attributes:
        table: Its name.
        rows: As they were sent.
        pk: Column of the key; None: the table's own.
        upsert: Whether rows of the same key are changed, else they are replaced.
        alter: Whether columns that are missing are added.
    """

    table: str
    rows: list[Row]
    pk: str | None
    upsert: bool
    alter: bool

    @property
    def rows_count(self) -> int:
        """Rows that it holds."""
        return len(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request is answered with.

    Attributes:
        status: Of HTTP.
        document: JSON; blobs as ``bytes``.
    """

    status: int
    document: Mapping[str, Any]
