"""Names of new tables and columns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headrace.errors import Refusal, RowsError
from headrace.names import MAX_COLUMN_NAME, check_table_name, without_brackets

if TYPE_CHECKING:
    from collections.abc import Iterable

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_new_table(name: str) -> None:
    """Refuse a name that Datasette refuses, or that its pages could not show.

    Raises:
        RowsError: It is such a name.
    """
    try:
        check_table_name(name)
    except Refusal as refusal:
        raise RowsError("Invalid table name") from refusal
    if without_brackets(name) != name:
        raise RowsError("Invalid table name")


def check_new_columns(names: Iterable[str]) -> None:
    """Refuse names that Datasette's pages could not show (``without_brackets``).

    Raises:
        RowsError: One of them.
    """
    for name in names:
        bad = not name or len(name) > MAX_COLUMN_NAME or _CONTROL.search(name)
        if bad or without_brackets(name) != name:
            raise RowsError(f"Invalid column name: {name[:MAX_COLUMN_NAME]}")
