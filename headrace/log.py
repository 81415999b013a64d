"""The generation log: read it, follow it, publish to it.

Delta Lake's commit protocol: entry N+1 is created only if it is absent, and never rewritten; a
checkpoint holds the full state. Reading the newest state costs one GET of the hint, one of the
checkpoint, and one for each entry after it. Nothing is listed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from headrace.errors import (
    LogError,
    ObjectExistsError,
    ObjectMissingError,
    PrimaryLostError,
    StoreError,
)
from headrace.generation import Entry, State
from headrace.keys import LAST_CHECKPOINT, checkpoint_key, generation_key

if TYPE_CHECKING:
    from headrace.store import Store

CHECKPOINT_EVERY = 50  # entries


class GenerationLog:
    """The log in one object store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read_newest(self, state: State | None = None) -> State:
        """Read on from a state that is known (None: from the last checkpoint) to the newest.

        Raises:
            LogError: An entry or a checkpoint cannot be read.
            StoreError: The store could not be asked.
        """
        if state is None:
            state = await self.read_checkpoint()
        while (entry := await self.find_entry(state.number + 1)) is not None:
            state = state.apply(entry)
        return state

    async def read_checkpoint(self) -> State:
        """Read the last checkpoint: where to read on from; the empty state if there is none.

        Raises:
            LogError: It cannot be read.
            StoreError: The store could not be asked.
        """
        try:
            hint = await self._store.read(LAST_CHECKPOINT)
        except ObjectMissingError:
            return State()
        try:
            number = int(json.loads(hint)["generation"])
        except (ValueError, KeyError, TypeError) as exc:
            raise LogError(f"cannot read {LAST_CHECKPOINT}: {exc!r}") from exc
        return State.decode(await self._store.read(checkpoint_key(number)))

    async def find_entry(self, number: int) -> Entry | None:
        """Read one entry, or None if it is not published (or not visible) yet.

        Raises:
            LogError: It cannot be read.
            StoreError: The store could not be asked.
        """
        try:
            body = await self._store.read(generation_key(number))
        except ObjectMissingError:
            return None
        return _decode_entry(number, body)

    async def publish(self, state: State, entry: Entry) -> State:
        """Create the next entry, and a checkpoint when one is due; give the state after it.

        Raises:
            PrimaryLostError: Somebody else has published an entry of that number.
            StoreError: The store could not be asked: the entry is published, or it is not.
        """
        published = state.apply(entry)
        body = entry.encode()
        try:
            await self._store.create(generation_key(entry.number), body)
        except ObjectExistsError as exc:
            # An earlier try of ours may have succeeded and its answer been lost.
            if await self._store.read(generation_key(entry.number)) != body:
                raise PrimaryLostError(
                    f"find generation {entry.number} published by another primary"
                ) from exc
        if published.number % CHECKPOINT_EVERY == 0:
            await self._write_checkpoint(published)
        return published

    async def _write_checkpoint(self, state: State) -> None:
        """Write a checkpoint and the hint; they only save reads, so a failure is left for later."""
        try:
            await self._store.replace(checkpoint_key(state.number), state.encode())
            hint = json.dumps({"generation": state.number}).encode()
            await self._store.replace(LAST_CHECKPOINT, hint)
        except StoreError:
            return


def _decode_entry(number: int, body: bytes) -> Entry:
    entry = Entry.decode(body)
    if entry.number != number:
        raise LogError(f"entry {number} of the log says that it is {entry.number}")
    return entry
