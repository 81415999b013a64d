"""The headers of tus, read and checked."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "1.0.0"
EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "expiration",
    "checksum",
    "termination",
    "concatenation",
)
ALGORITHMS = ("sha256", "sha1", "md5")  # in the order of our preference; sha1 is a MUST
MEDIA_TYPE = "application/offset+octet-stream"
PATH = "/ingest/tus"
MAX_PARTS = 1000  # of one final upload

_COUNT = re.compile(r"[0-9]{1,18}")
_ID = re.compile(re.escape(PATH) + r"/([0-9a-f]{32})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """What a chunk has to be.

    Attributes:
        algorithm: One of ``ALGORITHMS``.
        digest: Of the chunk.
    """

    algorithm: str
    digest: bytes


def check_version(headers: Mapping[str, str]) -> None:
    """Refuse what another version of the protocol says. Section Tus-Resumable.

    Raises:
        Refusal: ``tus-version``.
    """
    if headers.get("Tus-Resumable") != VERSION:
        raise Refusal(
            "tus-version",
            f"Tus-Resumable has to be {VERSION}",
            hint="POST /ingest takes a file without tus",
        )


def read_count(headers: Mapping[str, str], name: str) -> int | None:
    """Read a header that is a number of bytes; None if it is not there.

    Raises:
        Refusal: ``bad-request``.
    """
    value = headers.get(name)
    if value is None:
        return None
    if not _COUNT.fullmatch(value.strip()):
        raise Refusal("bad-request", f"{name} is not a number of bytes")
    return int(value)


def read_length(headers: Mapping[str, str]) -> int | None:
    """Read the length of a new upload; None: it is not known yet, or that of its parts.

    Raises:
        Refusal: ``bad-request``: not exactly one of the three is said. Section Creation.
    """
    length = read_count(headers, "Upload-Length")
    deferred = headers.get("Upload-Defer-Length")
    is_final = read_parts(headers.get("Upload-Concat")) is not None
    said = [length is not None, deferred is not None, is_final]
    if said.count(True) != 1 or deferred not in {None, "1"}:
        raise Refusal(
            "bad-request", "one of Upload-Length, Upload-Defer-Length: 1 and a final Upload-Concat"
        )
    return length


def read_checksum(headers: Mapping[str, str]) -> Checksum | None:
    """Read ``Upload-Checksum``; None if it is not there. Section Checksum.

    Raises:
        Refusal: ``bad-request``: also for an algorithm that is not known.
    """
    value = headers.get("Upload-Checksum")
    if value is None:
        return None
    algorithm, _, encoded = value.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        known = ", ".join(ALGORITHMS)
        raise Refusal("bad-request", f"Upload-Checksum: the algorithms are {known}")
    try:
        digest = base64.b64decode(encoded.strip(), validate=True)
    except ValueError as exc:
        raise Refusal("bad-request", "Upload-Checksum is not base64") from exc
    if len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise Refusal("bad-request", f"Upload-Checksum is not as long as that of {algorithm}")
    return Checksum(algorithm=algorithm, digest=digest)


def read_parts(concat: str | None) -> tuple[str, ...] | None:
    """Read ``Upload-Concat``: the ids of a final upload's parts, in their order.

    Returns:
        None if it is no final upload: without the header, or ``partial``.

    Raises:
        Refusal: ``bad-request``.
    """
    if concat is None or concat == "partial":
        return None
    kind, _, urls = concat.partition(";")
    found = [_ID.fullmatch(_path_of(url)) for url in urls.split()]
    if kind != "final" or not 0 < len(found) <= MAX_PARTS:
        raise Refusal("bad-request", "Upload-Concat is partial, or final; and URLs of its parts")
    if None in found:
        raise Refusal("bad-request", f"Upload-Concat: a part is no URL below {PATH}")
    return tuple(each[1] for each in found if each is not None)


def _path_of(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""
