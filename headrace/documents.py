"""The JSON that is answered, as types: what code that makes it is checked against.

The OpenAPI document is made of them (``headrace/json_schema.py``). What their members mean is said
by the records that they are made of. ``…_at`` is a time of RFC 3339.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class Problem(TypedDict):
    """What went wrong, as RFC 9457 has it.

    Attributes:
        type: A URN that ends in the code.
        title: What the code means.
        status: The HTTP status.
        code: Stable, for programs.
        detail: One sentence about this occurrence.
        hint: What can be done about it.
        line: 1-based line in the file.
        column: 1-based column in that line.
        instance: The receipt of an upload that failed.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: NotRequired[str]
    line: NotRequired[int]
    column: NotRequired[int]
    instance: NotRequired[str]


class Progress(TypedDict):
    """How far an upload's conversion or merge is."""

    step: str
    rows: int
    bytes: int
    of_bytes: int | None


class TableOutcome(TypedDict):
    """What an upload did to one table."""

    name: str
    rows: int
    added: int | None
    changed: int | None
    removed: int | None
    unchanged: int | None


State = Literal["received", "converting", "merging", "replicating", "published", "failed"]


class KeptReceipt(TypedDict):
    """One upload of one file, as it is kept."""

    id: str
    state: State
    filename: str
    bytes: int
    sha256: str | None
    archive: str | None
    from_receipt: str | None
    source_url: str | None
    format: str | None
    encoding: str | None
    database: str | None
    tables: list[TableOutcome]
    mode: str
    metadata: dict[str, Any] | None
    generation: int | None
    lineage: str | None
    txid: str | None
    url: str | None
    warnings: list[str]
    error: dict[str, Any] | None
    timings_s: dict[str, float]
    created_at: str
    published_at: str | None


class Receipt(KeptReceipt):
    """One upload of one file.

    Attributes:
        progress: How far it is; null when there is nothing to tell.
        live: Since when each region shows it.
    """

    progress: Progress | None
    live: dict[str, str]


class ReceiptList(TypedDict):
    """The receipts of one form.

    Attributes:
        receipts: One for each file, in the order of the files.
    """

    receipts: list[Receipt]
