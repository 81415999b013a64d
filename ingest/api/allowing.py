"""What a writer may send, and what the audit log says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.arriving import find_database
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
    database = find_database(request)
    if database is not None:
        request[DATABASE] = database
        writer.require(database)


def key_of_writer(writer: Writer, key: str | None) -> str | None:
    """Tell the keys of one writer from those of others, who may have chosen the same.

    Those of the root token stand for themselves: readers that take its uploads do not know better.
    """
    return key if key is None or writer.id == ROOT.id else f"{writer.id}\n{key}"
