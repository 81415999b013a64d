"""Parameters, answers and refusals that several handlers have in common."""

from __future__ import annotations

from typing import Any

from headrace import documents
from headrace.idempotency import HEADER as IDEMPOTENCY_KEY
from headrace.names import MAX_DATABASE_NAME, MAX_TABLE_NAME
from headrace.operation import JSON, Answer, Body, header, in_path
from headrace.option_parameters import option_parameters
from ingest.api.allowing import FORM

_DATABASE_NAME = f"^[A-Za-z0-9_][A-Za-z0-9_-]{{0,{MAX_DATABASE_NAME - 1}}}$"
RECEIPT_ID = "^[0-9a-f]{32}$"
GENERATION = 10**18 - 1  # the largest number that is taken for one
_EXAMPLE = "019abc0123456789abcdef0123456789"

RECEIPT = in_path("id", "Id of the receipt.", pattern=RECEIPT_ID, example=_EXAMPLE)
IN_DATABASE = in_path("database", "Name of the database.", pattern=_DATABASE_NAME, example="sales")
IN_TABLE = in_path(
    "table", "Name of the table.", minLength=1, maxLength=MAX_TABLE_NAME, example="orders"
)

OPTIONS = option_parameters()
PREFER = header(
    "Prefer",
    "`wait=N`: answer within N seconds. `respond-async`: answer as soon as the bytes are kept.",
    example="wait=10",
)
KEY = header(
    IDEMPOTENCY_KEY,
    "The same request with the same key counts once.",
    pattern="^[!-~]([ -~]{0,253}[!-~])?$",
)
DISPOSITION = header(
    "Content-Disposition", "Names the file.", example='attachment; filename="orders.csv"'
)
DIGESTS = tuple(
    header(name, "`sha-256=:…:` is compared with what arrived.")
    for name in ("Content-Digest", "Repr-Digest")
)

BYTES = {"type": "string", "format": "binary"}
FILE = Body(kind="application/octet-stream", schema=BYTES)
FILES = Body(
    kind=FORM,
    schema={
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "array", "items": BYTES, "minItems": 1},
            **{each.name: {**each.schema, "description": each.what} for each in OPTIONS},
        },
    },
)

FETCHED: dict[str, Any] = {
    "type": "object",
    "required": ["url"],
    "properties": {
        "url": {"type": "string", "description": "Where the file is."},
        **{each.name: {"description": each.what} for each in OPTIONS},
    },
}
FETCH = Body(kind=JSON, schema=FETCHED)

_SAID = (documents.Receipt, documents.ReceiptList)
_LOCATION = {"Location": "The receipt; of several files that of the first."}
UPLOADED = {
    201: Answer(what="Published, and in object storage.", schema=_SAID, headers=_LOCATION),
    202: Answer(what="On its way: the bytes are kept.", schema=_SAID, headers=_LOCATION),
}

# What a file can be refused for once it is there.
UNUSABLE = (
    "unknown-format",
    "invalid-file",
    "encrypted-file",
    "unsafe-archive",
    "no-rows",
    "limit-exceeded",
    "converter-failed",
    "converter-crashed",
    "wrong-type",
    "duplicate-key",
    "cannot-append",
    "table-exists",
    "invalid-metadata",
)
# What fetching a file can be refused for.
NOT_FETCHED = ("fetch-off", "fetch-forbidden", "fetch-failed")
# What becomes of any request that makes an upload.
NOT_TAKEN = (
    "bad-request",
    "invalid-option",
    "invalid-name",
    "in-flight",
    "key-reused",
    "disk-full",
)
# What can be said about bytes as they come.
NOT_ARRIVED = ("empty-file", "incomplete-body", "too-large")


def answers_json(schema: object, what: str, status: int = 200) -> dict[int, Answer]:
    """Give the answers of what is always answered alike."""
    return {status: Answer(what=what, schema=schema)}
