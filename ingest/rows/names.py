"""Names of new columns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headrace.errors import RowsError
from headrace.names import MAX_COLUMN_NAME, without_brackets

if TYPE_CHECKING:
    from collections.abc import Iterable

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_new_columns(names: Iterable[str]) -> None:
    """Refuse names that Datasette's pages could not show (``without_brackets``).

    Raises:
        RowsError: One of them.
    """
    for name in names:
        bad = not name or len(name) > MAX_COLUMN_NAME or _CONTROL.search(name)
        if bad or without_brackets(name) != name:
            raise RowsError(f"Invalid column name: {name[:MAX_COLUMN_NAME]}")
