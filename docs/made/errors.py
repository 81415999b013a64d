"""The codes of problems."""

from __future__ import annotations

from docs.made.table import code, table
from headrace.errors import REFUSALS


def codes() -> str:
    """Give the table of codes, in the order of their statuses."""
    by_status = sorted(REFUSALS.items(), key=lambda item: item[1].status)
    rows = ((code(name), str(int(each.status)), each.when) for name, each in by_status)
    return table(("code", "status", "when"), rows)
