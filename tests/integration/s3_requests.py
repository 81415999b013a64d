"""What was asked of an S3 server, by whom: counted in a proxy before it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from tests.integration.fault_proxy import FaultProxy, is_of_litestream

LEASES = "leases"
_AREA = re.compile(
    r"/some/prefix/(?:dbs/[^/]+/[0-9a-f]{16}(?:/(?P<level>[0-9]{4}))?|(?P<area>\w+))"
)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Asked:
    """One kind of request.

    Attributes:
        by: ``litestream`` or ``headrace``.
        operation: ``get``, ``put``, ``create``, ``list``, ``delete``, ``head`` or ``multipart``.
        area: What its key begins with (``leases``, ``generations``, …), or Litestream's level.
    """

    by: str
    operation: str
    area: str


class CountingProxy(FaultProxy):
    """Counts what it passes on."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.counts = Counter[Asked]()

    def note(self, request: bytes) -> None:
        """Count a request."""
        self.counts[describe(request)] += 1


def describe(request: bytes) -> Asked:
    """Tell what a request is, of a store at ``s3://bucket/some/prefix``."""
    head = request.partition(b"\r\n\r\n")[0].decode("latin-1")
    method, target, _version = head.partition("\r\n")[0].split(" ")
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    path = unquote(parts.path)
    operation = {"GET": "get", "HEAD": "head", "PUT": "put", "DELETE": "delete"}.get(method, "")
    if "list-type" in query:
        operation, path = "list", f"/some/prefix/{query['prefix'][0].partition('some/prefix/')[2]}"
    elif "delete" in query:
        operation = "delete"
    elif query.keys() & {"uploads", "uploadId"}:
        operation = "multipart"
    elif method == "PUT" and "\r\nif-none-match: *" in head.lower():
        operation = "create"
    found = _AREA.search(path)
    area = found and (found["area"] or f"level {found['level'] or 'any'}")
    by = "litestream" if is_of_litestream(request) else "headrace"
    return Asked(by=by, operation=operation, area=area or "")
