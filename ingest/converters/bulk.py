"""Arrow batches of texts into a staging table: typed without loss, inserted by C code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ingest.converters.arrow_insert import insert_batches, one_ahead
from ingest.converters.lossless import EXACT_DIGITS, REAL_PATTERN, parse_integer, parse_real
from ingest.converters.staging import (
    Kind,
    create_table,
    insert_statement,
    open_staging,
)

if TYPE_CHECKING:
    from pathlib import Path

TextBatches = Callable[[], Iterator[pa.RecordBatch]]  # each call reads the file from its start

_ARROW_TYPES = {Kind.INTEGER: pa.int64(), Kind.REAL: pa.float64(), Kind.BLOB: pa.binary()}


class MisfitError(Exception):
    """A value is not what its column must hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns of a table to be.

    Attributes:
        names: What they are called.
        fixed: The kinds of those, by their place, that are not to be found out.
        empty: What an empty text is: one of those in ``wishes.CHOICES``.
        strict: Whether the table is STRICT.
        leave_misfits: Leave out rows with values that do not fit ``fixed``; else they are an error.
    """

    names: list[str]
    fixed: Mapping[int, Kind] = field(default_factory=dict)
    empty: str = "auto"
    strict: bool = False
    leave_misfits: bool = False


def load_batches(
    path: Path,
    table: str,
    columns: Columns,
    batches: TextBatches,
    *,
    report: Callable[[int], None],
    again: Callable[[], None],
) -> tuple[int, int]:
    """Create a staging database of one table, and load batches of text columns into it.

    The types of the first batch are taken for those of all. When a later value does not fit, the
    rest is only looked at, and everything is loaded again with types that fit all of it.

    Args:
        path: The staging database; what is there is removed.
        table: The table's name.
        columns: Its columns.
        batches: The rows.
        report: Called with the rows done so far.
        again: Called before they are read once more.

    Returns:
        The number of rows, and of those that were left out.

    Raises:
        MisfitError: A value does not fit a kind that is fixed.
    """
    kinds = [columns.fixed.get(place, Kind.EMPTY) for place in range(len(columns.names))]
    first = next(batches(), None)
    if first is not None:
        kinds, _ = _type_batch(_fitting_rows(first, columns), kinds, columns)
    while True:
        path.unlink(missing_ok=True)
        with open_staging(path) as connection:
            create_table(connection, table, columns.names, kinds, strict=columns.strict)
        load = _Load(batches, kinds, columns, report)
        insert_batches(path, insert_statement(table, len(kinds)), load.schema, load)
        if load.needed == kinds:
            return load.rows, load.misfits
        kinds = load.needed
        again()


class _Load:
    """One pass over the file: gives typed batches as long as the kinds hold.

    Attributes:
        needed: The kinds that all batches so far need.
        rows: The rows given.
        misfits: The rows left out.
    """

    def __init__(
        self,
        batches: TextBatches,
        kinds: list[Kind],
        columns: Columns,
        report: Callable[[int], None],
    ) -> None:
        self._batches = batches
        self._kinds = kinds
        self._columns = columns
        self._report = report
        self.needed = kinds
        self.rows = 0
        self.misfits = 0
        self.schema = pa.schema(
            [
                (f"c{number}", _ARROW_TYPES.get(kind, pa.string()))
                for number, kind in enumerate(kinds)
            ]
        )

    def __iter__(self) -> Iterator[list[pa.Array]]:
        for arrays in one_ahead(self._typed()):
            self.rows += len(arrays[0])
            yield arrays
            if self.needed == self._kinds:  # else the rows that are looked at count as well
                self._report(self.rows)

    def _typed(self) -> Iterator[list[pa.Array]]:
        """Type each batch; give those that fit the table as it was created."""
        looked_at = 0
        for batch in self._batches():
            fitting = _fitting_rows(batch, self._columns)
            self.misfits += batch.num_rows - fitting.num_rows
            self.needed, arrays = _type_batch(fitting, self.needed, self._columns)
            if self.needed == self._kinds:
                yield arrays
            else:
                looked_at += len(arrays[0])
                self._report(self.rows + looked_at)


def _fitting_rows(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """Give the rows whose values fit the kinds that are fixed.

    Raises:
        MisfitError: Some do not, and are not to be left out.
    """
    for place, kind in columns.fixed.items():
        if kind not in _NUMBERS:
            continue
        typed, parse = _NUMBERS[kind]
        texts = batch.columns[place]
        values = texts if columns.empty == "text" else _without_empty(texts)
        if values.null_count == len(values) or typed(values) is not None:
            continue
        if not columns.leave_misfits:
            raise MisfitError
        fits = [text is None or parse(text) is not None for text in values.to_pylist()]
        batch = batch.filter(pa.array(fits, pa.bool_()))
    return batch


def _type_batch(
    batch: pa.RecordBatch, kinds: list[Kind], columns: Columns
) -> tuple[list[Kind], list[pa.Array]]:
    """Widen the kinds until they fit a batch, and give its columns as those types."""
    typed = [
        _type_column(texts, kind, columns.empty, fixed=place in columns.fixed)
        for place, (texts, kind) in enumerate(zip(batch.columns, kinds, strict=True))
    ]
    return [kind for kind, _ in typed], [column for _, column in typed]


def _type_column(texts: pa.Array, kind: Kind, empty: str, *, fixed: bool) -> tuple[Kind, pa.Array]:
    """Find the first kind, from this one on, that holds every text."""
    if kind in (Kind.TEXT, Kind.BLOB):
        texts = _without_empty(texts) if empty == "null" else texts
        return kind, texts.cast(pa.binary()) if kind is Kind.BLOB else texts
    values = texts if empty == "text" else _without_empty(texts)
    if empty == "null":
        texts = values
    if values.null_count == len(values):
        return kind, values.cast(_ARROW_TYPES[kind]) if kind in _ARROW_TYPES else texts
    if kind is not Kind.REAL and (integers := _integers(values)) is not None:
        return Kind.INTEGER, integers
    if (reals := _reals(values)) is not None:
        return Kind.REAL, reals
    if fixed:  # the rows that do not fit were left out: one that is here was read otherwise there
        raise MisfitError
    return Kind.TEXT, texts


def _without_empty(texts: pa.Array) -> pa.Array:
    """Give the texts with NULL for those that are empty."""
    return pc.if_else(pc.equal(texts, ""), None, texts)


def _integers(values: pa.Array) -> pa.Array | None:
    """Give the texts as 64-bit integers, if each is written as its integer is."""
    try:
        integers = pc.cast(values, pa.int64())
    except pa.ArrowInvalid:
        return None
    return integers if _all(pc.equal(pc.cast(integers, pa.string()), values)) else None


def _reals(values: pa.Array) -> pa.Array | None:
    """Give the texts as doubles, if each has the same value as its double."""
    try:
        reals = pc.cast(values, pa.float64())
    except pa.ArrowInvalid:
        return None
    if not _all(pc.match_substring_regex(values, REAL_PATTERN)):
        return None
    long = pc.greater(pc.binary_length(values), EXACT_DIGITS)
    written = values.filter(long)
    if len(written):
        changed = pc.not_equal(pc.cast(reals.filter(long), pa.string()), written)
        whole = pc.invert(pc.match_substring(written, "."))
        doubtful = written.filter(pc.or_(changed, whole))
        if any(parse_real(text) is None for text in doubtful.to_pylist()):
            return None
    return reals


def _all(flags: pa.Array) -> bool:
    """Say whether all flags that are not null are true."""
    return bool(pc.all(flags).as_py())


# How a column of texts becomes numbers, and one text does: they agree on every text.
_NUMBERS: dict[
    Kind, tuple[Callable[[pa.Array], pa.Array | None], Callable[[str], float | None]]
] = {
    Kind.INTEGER: (_integers, parse_integer),
    Kind.REAL: (_reals, parse_real),
}
