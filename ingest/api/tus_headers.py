"""The headers of tus, as they are answered."""

from __future__ import annotations

from datetime import UTC
from email.utils import format_datetime
from typing import TYPE_CHECKING

from ingest.tus import protocol

if TYPE_CHECKING:
    from ingest.api.node import Node
    from ingest.tus.record import TusUpload


def options_headers(node: Node) -> dict[str, str]:
    """Say what of the protocol there is. Section OPTIONS."""
    return {
        "Tus-Resumable": protocol.VERSION,
        "Tus-Version": protocol.VERSION,
        "Tus-Extension": ",".join(protocol.EXTENSIONS),
        "Tus-Max-Size": str(node.max_upload_bytes),
        "Tus-Checksum-Algorithm": ",".join(protocol.ALGORITHMS),
    }


def headers_of(node: Node, upload: TusUpload, *, full: bool = False) -> dict[str, str]:
    """Say how far an upload is, and until when it is kept.

    Args:
        node: The primary.
        upload: The upload.
        full: Whether to say how it was made as well. Section HEAD.
    """
    headers = {"Cache-Control": "no-store"}
    if upload.is_whole or not upload.parts:
        headers["Upload-Offset"] = str(upload.offset)
    if upload.finished and upload.receipt is not None:
        # Not before: a successor might not know it.
        headers["Headrace-Receipt"] = upload.receipt
        headers["Link"] = f'</ingest/receipts/{upload.receipt}>; rel="status"'  # RFC 8631
    else:
        expires_at = node.tus.expires_at(upload)
        headers["Upload-Expires"] = format_datetime(expires_at.astimezone(UTC), usegmt=True)
    if full:
        headers |= _made_of(upload)
    return headers


def _made_of(upload: TusUpload) -> dict[str, str]:
    said = {
        "Upload-Length": None if upload.length is None else str(upload.length),
        "Upload-Defer-Length": "1" if upload.length is None else None,
        "Upload-Metadata": upload.metadata or None,
        "Upload-Concat": upload.concat,
    }
    return {name: value for name, value in said.items() if value is not None}
