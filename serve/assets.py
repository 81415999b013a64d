"""Scripts and styles of a plugin of ours, read once; their path holds a hash of them all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasette.utils.asgi import Response

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from datasette.app import Datasette
    from datasette.utils.asgi import Request

_CONTENT_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
_FOR_EVER = "public, max-age=31536000, immutable"  # a year; the path changes with the content


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file.

    Attributes:
        body: Its text.
        content_type: What it is.
    """

    body: str
    content_type: str


class Assets:
    """The files of one plugin.

    Args:
        prefix: Of their paths.
        folder: Where they lie.
        made: Others, whose text is made.

    Attributes:
        files: By name.
    """

    def __init__(self, prefix: str, folder: Path, made: Mapping[str, str] | None = None) -> None:
        texts = {
            path.relative_to(folder).as_posix(): path.read_text()
            for path in sorted(folder.rglob("*"))
            if path.suffix in _CONTENT_TYPES
        }
        texts.update(made or {})
        self.files = {
            name: Asset(body=text, content_type=_CONTENT_TYPES[f".{name.rpartition('.')[2]}"])
            for name, text in texts.items()
        }
        self._prefix = prefix
        digest = hashlib.sha256()
        for name, text in texts.items():
            digest.update(f"{name}\0{len(text)}\0{text}".encode())
        self._fingerprint = digest.hexdigest()[:16]

    def url(self, datasette: Datasette) -> str:
        """Give the path that their names are put after."""
        path: str = datasette.urls.path(f"{self._prefix}/{self._fingerprint}")
        return path

    def route(self) -> tuple[str, Any]:
        """Give the route that they are found by."""

        async def answer(request: Request) -> Response:  # Datasette 1.0 takes no methods
            return self._answer(request)

        return rf"^{self._prefix}/(?P<fingerprint>[0-9a-f]+)/(?P<name>[a-z./-]+)$", answer

    def _answer(self, request: Request) -> Response:
        """Give a script or a style; an old page's are gone with it."""
        asset = self.files.get(request.url_vars["name"])
        if asset is None or request.url_vars["fingerprint"] != self._fingerprint:
            return Response.text("there is no such file of this version", status=404)
        headers = {"Cache-Control": _FOR_EVER, "X-Content-Type-Options": "nosniff"}
        return Response(asset.body, content_type=asset.content_type, headers=headers)
