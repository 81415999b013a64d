"""The memory of bodies on their way to the disk: one amount for all, however many there are."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOTAL_BYTES = 32 * 1024 * 1024
LEAST_BYTES = 64 * 1024
MOST_BYTES = 1024 * 1024  # a thread is entered once for each piece: more is no faster


class Buffers:
    """Says how large the pieces are in which bodies are written.

    All senders have the same part of the memory, and all bodies of one sender the same part of his:
    nobody waits, however slowly others send.
    """

    def __init__(self) -> None:
        self._bodies = Counter[str]()

    @contextmanager
    def share(self, sender: str) -> Iterator[Callable[[], int]]:
        """Have a share while the block runs; gives what says how large a piece may be now."""
        self._bodies[sender] += 1
        try:
            yield lambda: self._piece_bytes(sender)
        finally:
            self._bodies[sender] -= 1
            if not self._bodies[sender]:
                del self._bodies[sender]

    def _piece_bytes(self, sender: str) -> int:
        share_bytes = TOTAL_BYTES // len(self._bodies) // self._bodies[sender]
        # One piece is written while the next one comes.
        return max(LEAST_BYTES, min(MOST_BYTES, share_bytes // 2))
