"""Live and staging databases for tests of the merge."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from headrace.wishes import Wishes
from ingest.converters import Conversion, Converted
from ingest.converters.process import convert_file
from ingest.merge import adopt, find_texts, merge

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest.merge import Merged, MergedTable


def write(path: Path, *statements: str) -> Path:
    """Run statements on a SQLite file."""
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
    return path


def fill(path: Path, sql: str, rows: Sequence[Sequence[Any]], table: str = "t") -> Path:
    """Make a SQLite file of one table, with rows."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(sql)
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            db.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        db.commit()
    return path


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask a SQLite file."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


class Live:
    """A live database, and uploads into it.

    Attributes:
        path: The live file.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "dbs" / "sales" / "0123456789abcdef"
        self._staging = folder / "staging.db"
        self._number = 0

    @property
    def staging(self) -> Path:
        """A path for the next staging database; nothing is there."""
        for end in ("", "-journal", "-wal", "-shm"):
            self._staging.with_name(self._staging.name + end).unlink(missing_ok=True)
        return self._staging

    def begin(self, *statements: str) -> None:
        """Make the first state."""
        adopt(write(self.staging, *statements), self.path, "r0")

    def begin_with(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Make the first state, of one table."""
        adopt(fill(self.staging, sql, rows), self.path, "r0")

    def merge(
        self,
        mode: str,
        *statements: str,
        key: Sequence[str] = (),
        unwanted: Sequence[str] | None = (),
    ) -> Merged:
        """Merge an upload; ``unwanted`` is for its table ``t``."""
        return self._merge(write(self.staging, *statements), mode, key, unwanted)

    def merge_rows(
        self,
        mode: str,
        sql: str,
        rows: Sequence[Sequence[Any]],
        *,
        key: Sequence[str] = (),
        table: str = "t",
    ) -> MergedTable:
        """Merge an upload of one table; give what became of that."""
        return self._merge(fill(self.staging, sql, rows, table), mode, key).tables[0]

    def send(
        self,
        mode: str,
        text: str,
        *,
        kind: str = "csv",
        wishes: Wishes | None = None,
        table: str = "",
    ) -> Merged | None:
        """Convert a file, and merge it; the first one begins the database, and merges nothing.

        Args:
            mode: What it is merged by.
            text: The file.
            kind: Its format.
            wishes: What is asked for.
            table: The table that its uploader names.
        """
        wishes = wishes or Wishes()
        begun = self.path.exists()
        texts = find_texts(self.path, mode) if begun else {}
        output = self.staging
        source = output.with_name("file")
        source.write_bytes(text.encode())
        conversion = Conversion(
            input=source,
            output=output,
            format=kind,
            table=table or "t",
            table_given=bool(table),
            wishes=wishes,
            texts=texts,
        )
        outcome = convert_file(conversion)
        assert isinstance(outcome, Converted), outcome
        if begun:
            return self._merge(output, mode, wishes.pk)
        adopt(output, self.path, "r0")
        return None

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask it."""
        return query(self.path, sql)

    def _merge(
        self,
        staging: Path,
        mode: str,
        key: Sequence[str],
        unwanted: Sequence[str] | None = (),
    ) -> Merged:
        self._number += 1
        return merge(
            self.path,
            staging,
            mode=mode,
            receipt_id=f"r{self._number}",
            before={},
            key=key,
            unwanted={"t": unwanted},
        )


def counts(table: MergedTable) -> tuple[int, int, int, int]:
    """Give added, changed, removed, unchanged."""
    return table.added, table.changed, table.removed, table.unchanged
