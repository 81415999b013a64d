"""What every generation has to show: the log's entries, applied to what was sent.

The log says in which order uploads were published, and nothing else is believed of it: what is in
them is known from what was sent. Of tables that rows are written to nobody knows how many there are
in a generation; what the log says of these is compared with what is read of them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tests.faults.uploads import FLEETING, NUMBERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.generation import Entry
    from tests.faults.uploads import Part, Row


class Digest(NamedTuple):
    """What of a table is compared: values are large and random, so their sum names the batches."""

    rows: int
    batches: int
    total: int


Shown = dict[str, dict[str, Digest]]  # every database's tables


class Table:
    """The rows of one table; a digest costs nothing."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[int, int]] = {}
        self._batches: Counter[int] = Counter()
        self._total = 0

    def put(self, row: Row) -> None:
        """Insert a row, or have it instead of the one with its key."""
        key, batch, value = row
        if key in self._rows:
            old_batch, old_value = self._rows[key]
            self._total -= old_value
            self._batches[old_batch] -= 1
            if not self._batches[old_batch]:
                del self._batches[old_batch]
        self._rows[key] = (batch, value)
        self._batches[batch] += 1
        self._total += value

    def digest(self) -> Digest:
        """Give what is compared."""
        return Digest(len(self._rows), len(self._batches), self._total)


class Model:
    """What the generations show, as far as the log is known.

    Attributes:
        newest: The last generation that is known.
    """

    def __init__(self) -> None:
        self.newest = 0
        self._tables: dict[str, dict[str, Table]] = {}
        self._shown: list[Shown] = [{}]
        self._written: list[dict[str, dict[str, int]]] = [{}]
        self._last: dict[str, str] = {}  # receipt that a database was last changed by

    def apply(self, entry: Entry, sent: Mapping[str, Part]) -> None:
        """Go on by one generation; what nobody sent changes nothing."""
        shown, written = dict(self._shown[-1]), dict(self._written[-1])
        for name, cut in entry.databases.items():
            receipt = entry.cause.get("receipt", "")
            part = sent.get(cut.source.sha256) if cut.source else None
            # A crash before the receipt was written down has it published once more.
            again = self._last.get(name) == receipt
            if entry.cause["kind"] == "ingest" and part is not None and not again:
                self._change(name, part)
                self._last[name] = receipt
            tables = self._tables.get(name, {})
            shown[name] = {table: rows.digest() for table, rows in tables.items()}
            written[name] = {
                table: count for table, count in cut.tables.items() if table in (NUMBERS, FLEETING)
            }
        for name in entry.removed:
            shown.pop(name, None)
            written.pop(name, None)
        self._shown.append(shown)
        self._written.append(written)
        self.newest = entry.number

    def shown(self, generation: int) -> Shown:
        """Give every database's tables in a generation that is known."""
        return self._shown[generation]

    def written(self, generation: int, database: str) -> dict[str, int]:
        """Give what the log says of the tables of a database that rows are written to."""
        return self._written[generation].get(database, {})

    def _change(self, database: str, part: Part) -> None:
        tables = self._tables.setdefault(database, {})
        if part.effect == "whole":
            tables.clear()
        for name, rows in part.tables.items():
            if part.effect == "replace" or name not in tables:
                tables[name] = Table()
            for row in rows:
                tables[name].put(row)
