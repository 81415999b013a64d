"""What a writer may send, and what the audit log says of it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from headrace.options import filename_of, read_target
from ingest.api.node import DATABASE
from ingest.writer import ROOT

if TYPE_CHECKING:
    from aiohttp import web

    from ingest.writer import Writer

FORM = "multipart/form-data"


def require_early(request: web.Request, writer: Writer) -> None:
    """Refuse what the writer may not do before its body is sent, if the query tells the database.

    Raises:
        Refusal: ``forbidden``.
    """
    database = request.query.get("database")
    if database is None and request.content_type != FORM:
        filename = request.query.get("filename") or filename_of(request.headers)
        with suppress(Refusal):  # it gets a receipt that says so
            database = read_target(request.query, filename).database
    if database is not None:
        request[DATABASE] = database
        writer.require(database)


def key_of_writer(writer: Writer, key: str | None) -> str | None:
    """Tell the keys of one writer from those of others, who may have chosen the same.

    Those of the root token stand for themselves: readers that take its uploads do not know better.
    """
    return key if key is None or writer.id == ROOT.id else f"{writer.id}\n{key}"
