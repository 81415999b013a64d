"""A page that is kept: its body in each coding asked for, with all of its headers made ready."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from serve.encoding import IDENTITY, compress, is_worth_compressing

if TYPE_CHECKING:
    from collections.abc import Sequence

# What an entry weighs besides its bodies: keys, headers, objects.
OVERHEAD_BYTES = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """One coding of a page.

    Attributes:
        body: The bytes as they are sent.
        etag: Strong, quoted.
        head: Status line and headers of a ``200`` or ``404``, all that does not change.
        head_304: The same of a ``304``.
    """

    body: bytes
    etag: str
    head: bytes
    head_304: bytes


class Page:
    """An answer of Datasette that is kept.

    Args:
        status: 200 or 404.
        headers: To hand back; without those about length, coding and caching.
        content_type: Decides whether it is compressed.
        body: Not encoded.
        cache_control: What browsers and CDNs may do with it.
        vary: Names of the request headers that it depends on.
        accept: The ``Accept`` that it answers; None if that does not matter.
        rendered_at_s: On the clock of the event loop.
        max_age_s: After that many seconds it is rendered again.
    """

    __slots__ = (
        "_cache_control",
        "_digest",
        "_headers",
        "_vary",
        "accept",
        "body",
        "compressible",
        "max_age_s",
        "rendered_at_s",
        "representations",
        "size_bytes",
        "status",
    )

    def __init__(
        self,
        *,
        status: int,
        headers: Sequence[tuple[str, str]],
        content_type: str,
        body: bytes,
        cache_control: str,
        vary: Sequence[str],
        accept: str | None,
        rendered_at_s: float,
        max_age_s: float,
    ) -> None:
        self.status = status
        self.body = body
        self.accept = accept
        self.rendered_at_s = rendered_at_s
        self.max_age_s = max_age_s
        self.compressible = is_worth_compressing(content_type, len(body))
        self.size_bytes = OVERHEAD_BYTES
        self.representations: dict[str, Representation] = {}
        self._headers = headers
        self._cache_control = cache_control
        self._vary = ", ".join(["Accept-Encoding", *vary])
        self._digest = hashlib.blake2b(body, digest_size=12).hexdigest()
        self.add(IDENTITY, body)

    def add(self, coding: str, body: bytes) -> Representation:
        """Keep the body in one more coding; if it came out no smaller, as it is."""
        if coding != IDENTITY and len(body) >= len(self.body):
            made = self.representations[IDENTITY]
        else:
            made = self._represent(coding, body)
            self.size_bytes += len(body)
        self.representations[coding] = made
        return made

    def encode(self, coding: str) -> bytes:
        """Give the body in a coding; takes a while for a large one."""
        return compress(coding, self.body)

    def _represent(self, coding: str, body: bytes) -> Representation:
        tag = self._digest if coding == IDENTITY else f"{self._digest}-{coding}"
        etag = f'"{tag}"'
        shared = [
            f"ETag: {etag}",
            f"Cache-Control: {self._cache_control}",
            f"Vary: {self._vary}",
            "Server: Headrace",
        ]
        own = [f"{name}: {value}" for name, value in self._headers]
        if coding != IDENTITY:
            own.append(f"Content-Encoding: {coding}")
        own.append(f"Content-Length: {len(body)}")
        return Representation(
            body=body,
            etag=etag,
            head=_head(self.status, [*shared, *own]),
            head_304=_head(304, shared),
        )


def matches(if_none_match: str, etag: str) -> bool:
    """Tell whether a client has what ``etag`` names. Source: RFC 9110, 13.1.2 (weak comparison)."""
    if if_none_match.strip() == "*":
        return True
    return any(tag.strip().removeprefix("W/") == etag for tag in if_none_match.split(","))


def _head(status: int, lines: list[str]) -> bytes:
    first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
    return "\r\n".join([first, *lines, ""]).encode("utf-8", "surrogateescape")
