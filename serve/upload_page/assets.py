"""Scripts and styles of the upload page, read once; their path holds a hash of them all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from serve.upload_page.advice import script

_FOLDER = Path(__file__).with_name("browser")
_CONTENT_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file.

    Attributes:
        body: Its text.
        content_type: What it is.
    """

    body: str
    content_type: str


def _read() -> dict[str, Asset]:
    found = {
        path.relative_to(_FOLDER).as_posix(): Asset(
            body=path.read_text(), content_type=_CONTENT_TYPES[path.suffix]
        )
        for path in sorted(_FOLDER.rglob("*"))
        if path.suffix in _CONTENT_TYPES
    }
    found["advice.js"] = Asset(body=script(), content_type=_CONTENT_TYPES[".js"])
    return found


def _fingerprint(assets: dict[str, Asset]) -> str:
    digest = hashlib.sha256()
    for name, asset in assets.items():
        digest.update(f"{name}\0{len(asset.body)}\0{asset.body}".encode())
    return digest.hexdigest()[:16]


ASSETS = _read()
FINGERPRINT = _fingerprint(ASSETS)
