"""What an upload did, as its receipt and its generation say it. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.errors import LitestreamError, Refusal
from headrace.generation import Source, format_time
from headrace.names import tilde_encode
from headrace.receipt import TableOutcome
from headrace.tracing import carried
from ingest.disk import refusal_of_full

if TYPE_CHECKING:
    from headrace.receipt import Receipt
    from ingest.merge import Merged


def source_of(receipt: Receipt) -> Source:
    """Give the file that a database was last changed by, as a generation has it."""
    return Source(filename=receipt.filename, sha256=receipt.sha256 or "")


def cause_of(kind: str, receipt: Receipt) -> dict[str, str]:
    """Give why a generation is published that shows an upload, as its entry of the log has it."""
    return {
        "kind": kind,
        "receipt": receipt.id,
        "arrived_at": format_time(receipt.created_at),
        **carried(),
    }


def is_sqlite(found: str | None) -> bool:
    """Say whether an upload was SQLite files alone, also where they were packed."""
    return (found or "").partition(".")[0] == "sqlite"


def with_merged(receipt: Receipt, merged: Merged) -> Receipt:
    """Give the receipt with what its merge did."""
    rows = {table.name: table.rows for table in receipt.tables}
    tables = tuple(
        TableOutcome(
            name=each.name,
            rows=rows.get(each.staged, rows.get(each.name, each.added)),
            added=each.added,
            changed=each.changed,
            removed=each.removed,
            unchanged=each.unchanged,
        )
        for each in merged.tables
    )
    warnings = dict.fromkeys((*receipt.warnings, *merged.warnings))  # resumed, it has them already
    return replace(receipt, tables=tables, warnings=tuple(warnings))


def with_nothing(receipt: Receipt) -> Receipt:
    """Give the receipt of a merge that had nothing to do."""
    return replace(
        receipt,
        tables=tuple(
            replace(each, added=0, changed=0, removed=0, unchanged=each.rows)
            for each in receipt.tables
        ),
    )


def url_of(receipt: Receipt) -> str:
    """Give the path on any reader: of the table, or of the database if there are several."""
    database = tilde_encode(receipt.database or "")
    if len(receipt.tables) == 1:
        return f"/{database}/{tilde_encode(receipt.tables[0].name)}"
    return f"/{database}"


def refusal_of(exc: Exception) -> Refusal:
    """Give the refusal that an unexpected failure means to the client."""
    if (full := refusal_of_full(exc)) is not None:
        return full
    if isinstance(exc, LitestreamError):
        return Refusal("replication-down", "Litestream did not answer")
    return Refusal("internal-error", "the failure is in the server's log")
