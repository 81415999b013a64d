"""One file through one converter, in this process."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import Refusal
from headrace.wishes import Wishes
from ingest.converters import Conversion, Converted, load_converter

DATA = Path(__file__).parents[1] / "data"


class Loaded:
    """A file that was converted, and what came of it.

    Attributes:
        converted: What the converter said.
        tables: The rows of each table, by its name.
        types: The declared type of each column, by table and column.
    """

    def __init__(self, data: str | bytes, kind: str, *, filename: str = "", **wishes: Any) -> None:
        self.tables: dict[str, list[tuple[Any, ...]]] = {}
        self.types: dict[str, dict[str, str]] = {}
        with tempfile.TemporaryDirectory() as folder:
            source, output = Path(folder) / "in", Path(folder) / "out.db"
            source.write_bytes(data.encode() if isinstance(data, str) else data)
            self.converted: Converted = load_converter(kind)(
                Conversion(
                    input=source,
                    output=output,
                    format=kind,
                    table="t",
                    filename=filename,
                    wishes=Wishes(**wishes),
                )
            )
            with closing(sqlite3.connect(output)) as connection:
                for table in self.converted.tables:
                    rows = connection.execute(f'SELECT * FROM "{table.name}"').fetchall()
                    assert len(rows) == table.rows
                    self.tables[table.name] = rows
                    columns = connection.execute(f'PRAGMA table_info("{table.name}")').fetchall()
                    self.types[table.name] = {column[1]: column[2] for column in columns}

    def records(self, table: str = "t") -> list[dict[str, Any]]:
        """Give the rows by column; what is NULL is left out."""
        names = list(self.types[table])
        return [
            {name: value for name, value in zip(names, row, strict=True) if value is not None}
            for row in self.tables[table]
        ]


def refuse(data: str | bytes, kind: str, **wishes: Any) -> Refusal:
    """Convert a file that is refused, and give the refusal."""
    with pytest.raises(Refusal) as caught:
        Loaded(data, kind, **wishes)
    return caught.value
