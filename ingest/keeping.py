"""Files of one sender on their way into the spool, and into the archive as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from headrace.arriving import ArrivedFile
    from ingest.api.node import Node


@dataclass(frozen=True, slots=True)
class SpoolKeeper:
    """Keeps files on the primary.

    Attributes:
        node: The primary.
        sender: Id of who sends them.
    """

    node: Node
    sender: str

    @property
    def max_upload_bytes(self) -> int:
        """The largest file that is taken."""
        return self.node.max_upload_bytes

    def now(self) -> datetime:
        """Give the time, by a clock that never jumps."""
        return self.node.now()

    def require_room(self, size_bytes: int) -> None:
        """Refuse a file for which there is no room.

        Raises:
            Refusal: ``disk-full``.
        """
        self.node.require_room(size_bytes)

    async def keep(self, arrived: ArrivedFile, chunks: AsyncIterator[bytes]) -> None:
        """Spool a file, and have it in the archive.

        Raises:
            Refusal: It did not arrive whole, is too large or empty, or cannot be kept.
        """
        node = self.node
        key = node.archive.key(arrived.receipt_id, arrived.filename)
        arrived.spooled = await node.archive.receive(
            chunks,
            node.paths.spool / arrived.receipt_id,
            key=key,
            limit_bytes=node.max_upload_bytes,
            sender=self.sender,
        )
        arrived.archive = key
