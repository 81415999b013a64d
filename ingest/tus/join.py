"""Concatenation: one upload out of several. Section Concatenation."""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.arriving import too_large
from headrace.errors import Refusal
from ingest.disk import refusal_of_full
from ingest.tus.uploads import new_upload_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ingest.api.node import Node
    from ingest.tus.record import TusUpload

_COPY_BYTES = 1024 * 1024


async def begin_final(node: Node, wanted: TusUpload, parts: Sequence[TusUpload]) -> TusUpload:
    """Write down an upload that is to be made of parts; the same request gives the same upload.

    The parts are told first: so a client that did not get the answer, and asks again, does not get
    a second one. The turn of the first part is had.

    Args:
        node: The primary.
        wanted: The upload, as the request describes it.
        parts: Those that it names.

    Raises:
        Refusal: ``bad-request``: a part is none, or is not whole; ``bytes-gone``: it is in another
            upload already; ``empty-file``; ``too-large``; ``disk-full``.
    """
    if not all(each.is_partial and each.is_whole for each in parts):
        raise Refusal(
            "bad-request", "Upload-Concat names what is no part, or a part that misses bytes"
        )
    taken = {each.final for each in parts if each.final is not None}
    final_id = next(iter(taken), None) or new_upload_id()
    found = node.tus.shelf.find(final_id)
    if found is not None and (found.parts, found.metadata) == (wanted.parts, wanted.metadata):
        return found
    if found is not None or not all(node.tus.shelf.data(each.id).exists() for each in parts):
        raise Refusal("bytes-gone", "a part went into another upload already: send the parts again")
    length = sum(each.offset for each in parts)
    if length == 0:
        raise Refusal("empty-file", "the parts have no bytes")
    if length > node.max_upload_bytes:
        raise too_large(node.max_upload_bytes)
    node.require_room(length)
    for each in parts:
        await node.tus.shelf.save(replace(each, final=final_id))
    return await node.tus.shelf.create(replace(wanted, id=final_id, length=length))


async def join(node: Node, upload: TusUpload) -> TusUpload:
    """Put an upload together; its parts lose their bytes.

    Raises:
        Refusal: ``disk-full``; ``bytes-gone``, and the upload is gone.
    """
    shelf = node.tus.shelf
    parts = [part for each in upload.parts if (part := shelf.find(each)) is not None]
    sources = [(shelf.data(each.id), each.offset) for each in parts]
    if len(parts) < len(upload.parts) or not all(path.exists() for path, _ in sources):
        await node.tus.remove(upload)
        raise Refusal("bytes-gone", "a part of the upload is gone: send the parts again")
    digest = hashlib.sha256()
    try:
        await asyncio.to_thread(
            _copy, sources, shelf.data(upload.id), digest.update, node.require_room
        )
    except OSError as exc:
        raise refusal_of_full(exc) or exc from exc
    upload = await shelf.save(replace(upload, offset=upload.length or 0, touched_at=node.now()))
    node.tus.keep_hashed(upload, digest)
    for each in parts:
        await node.tus.empty(each)
    return upload


def _copy(
    sources: Sequence[tuple[Path, int]],
    target: Path,
    update: Callable[[bytes], None],
    require_room: Callable[[int], None],
) -> None:
    """Copy the first bytes of files one after another into one, durably, and hash them."""
    with target.open("wb") as file:
        for source, size_bytes in sources:
            left = size_bytes
            with source.open("rb") as part:
                while piece := part.read(min(_COPY_BYTES, left)):
                    require_room(0)
                    file.write(piece)
                    update(piece)
                    left -= len(piece)
        file.flush()
        os.fsync(file.fileno())
