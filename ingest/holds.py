"""What is being read of the store, and what is being deleted from it: never both.

Going back reads lineages that are not live any more, and reprocessing reads archives; both may be
older than their retention just then.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator


class Holds:
    """Keys and prefixes of the store that somebody works with."""

    def __init__(self) -> None:
        self._held = Counter[str]()
        self._going: set[str] = set()

    @contextmanager
    def hold(self, *names: str) -> Iterator[None]:
        """Keep some from being deleted while the block runs.

        Raises:
            Refusal: ``not-found``: one is being deleted.
        """
        if going := self._going.intersection(names):
            raise Refusal("not-found", f"{min(going)} is being deleted: its retention is over")
        self._held.update(names)
        try:
            yield
        finally:
            self._held.subtract(names)

    @contextmanager
    def let_go(self, name: str) -> Iterator[bool]:
        """Keep one from being held while the block runs; gives False if somebody holds it."""
        if self._held[name] > 0:
            yield False
            return
        self._going.add(name)
        try:
            yield True
        finally:
            self._going.discard(name)
