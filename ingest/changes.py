"""Who wants to know when something is written into the journal."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Changes:
    """Tells of changes of receipts, and of where they are live."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def listening(self, receipt_id: str) -> Iterator[asyncio.Event]:
        """Give what is set at each change of a receipt while the block runs."""
        changed = asyncio.Event()
        self._listeners.setdefault(receipt_id, set()).add(changed)
        try:
            yield changed
        finally:
            listeners = self._listeners[receipt_id]
            listeners.discard(changed)
            if not listeners:
                del self._listeners[receipt_id]

    def note(self, *receipt_ids: str) -> None:
        """Say that receipts have changed."""
        for receipt_id in receipt_ids:
            for changed in self._listeners.get(receipt_id, ()):
                changed.set()

    def note_all(self) -> None:
        """Say that any receipt may have changed."""
        self.note(*self._listeners)
