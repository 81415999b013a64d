"""What ``Upload-Metadata`` of tus says of a file: the primary and readers read it.

Source: the tus protocol 1.0.0, section Upload-Metadata.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

# What clients say of a file besides options: Uppy and tus-js-client send them by themselves.
NAMES = ("filename", "name")
TYPES = ("filetype", "type")
_SAID = frozenset({"name", "relativePath", *TYPES})

_KEY = re.compile(r"[!-+\--~]+")  # printable ASCII without space and comma


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What an upload's metadata say.

    Attributes:
        fields: Options, as ``POST /ingest`` takes them.
        filename: The file's name; None if nothing was said.
        media_type: The file's; None if nothing was said.
    """

    fields: Mapping[str, str]
    filename: str | None
    media_type: str | None


def read_metadata(header: str) -> dict[str, str]:
    """Read ``Upload-Metadata``: pairs of a key and a value in base64. Section Upload-Metadata.

    Raises:
        Refusal: ``bad-request``.
    """
    metadata: dict[str, str] = {}
    for pair in header.split(",") if header.strip() else ():
        key, _, encoded = pair.strip().partition(" ")
        if not _KEY.fullmatch(key) or key in metadata:
            raise Refusal(
                "bad-request", f"Upload-Metadata: {key[:100]!r} is no key, or there twice"
            )
        try:
            metadata[key] = base64.b64decode(encoded.strip(), validate=True).decode()
        except ValueError as exc:  # binascii.Error, UnicodeDecodeError, or not ASCII
            raise Refusal(
                "bad-request", f"Upload-Metadata: {key!r} is not base64 of UTF-8"
            ) from exc
    return metadata


def describe(metadata: Mapping[str, str]) -> Description:
    """Tell options from what is said of the file."""
    return Description(
        fields={key: value for key, value in metadata.items() if key not in _SAID},
        filename=next((metadata[key] for key in NAMES if metadata.get(key)), None),
        media_type=next((metadata[key] for key in TYPES if metadata.get(key)), None),
    )
