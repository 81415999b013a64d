"""What goes to the object store in parts that are held in memory: few, however much goes there."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace.store import PARTS_AT_ONCE
from ingest.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.store import Store

SMALL_BYTES = 1024 * 1024
SMALL_AT_ONCE = 8  # objects
LARGE_AT_ONCE = 2  # objects, beside those that are sent while they arrive
ARRIVING_AT_ONCE = 3  # bodies


class Sending:
    """Sends files to the store, and says whether a body may go there while it arrives.

    The more large ones there are, the fewer parts each has at once. Small ones do not wait for
    large ones, nor one sender's for all that another has.

    Args:
        store: Takes them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._small = Turns(SMALL_AT_ONCE)
        self._large = Turns(LARGE_AT_ONCE)
        self._arriving = 0
        self._objects = 0  # large ones

    async def send(self, key: str, path: Path, sender: str) -> None:
        """Have a durable file as an object.

        Args:
            key: The object.
            path: The file. In a local folder it gets a second name.
            sender: Whose turn that is.

        Raises:
            StoreError: The store could not be asked.
        """
        if self._store.folder is not None:
            await self._store.upload(key, path)
        elif (await asyncio.to_thread(path.stat)).st_size <= SMALL_BYTES:
            async with self._small.turn(sender):
                await self._store.upload(key, path)
        else:
            async with self._large.turn(sender):
                with self._parts() as parts_at_once:
                    await self._store.upload(key, path, parts_at_once=parts_at_once)

    @contextmanager
    def arriving(self) -> Iterator[int | None]:
        """Have one of the places of bodies that are sent while they arrive, if one is free.

        Their clients may be slow, so nobody waits for one: others go out of the spool.

        Yields:
            How many parts go to the store at once; None: other bodies have the places.
        """
        if self._arriving == ARRIVING_AT_ONCE or self._store.folder is not None:
            yield None
            return
        self._arriving += 1
        try:
            with self._parts() as parts_at_once:
                yield parts_at_once
        finally:
            self._arriving -= 1

    @contextmanager
    def _parts(self) -> Iterator[int]:
        self._objects += 1
        try:
            yield PARTS_AT_ONCE // self._objects
        finally:
            self._objects -= 1
