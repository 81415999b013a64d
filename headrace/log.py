"""The generation log: read it, follow it, publish to it.

Delta Lake's commit protocol: entry N+1 is created only if it is absent, and never rewritten; a
checkpoint holds the full state. Reading the newest state costs one GET of the hint, one of the
checkpoint, and one for each entry after it, and of the hint once more. Nothing is listed.

What is old is pruned (ingest/prune.py), but neither the checkpoint that the hint names nor anything
after it. So an entry that is missing is not published yet, or the hint is ahead of it.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from headrace.clock import boot_s
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
# What comes after a state that was the newest since is not pruned: entries are kept for a day at
# least. The margin is for clocks that run unequally.
SURELY_KEPT_S = 3600.0


class GenerationLog:
    """The log in one object store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known = (-1, (0.0, 0.0))  # what was found to be the newest generation, and when

    async def read_newest(self) -> State:
        """Read the newest state, from the last checkpoint on.

        Raises:
            LogError: An entry or a checkpoint cannot be read.
            StoreError: The store could not be asked.
        """
        asked_s = boot_s(), time.time()
        state = await self.read_checkpoint()
        while (newer := await self.find_newer(state)) is not None:
            state = newer
        self._known = state.number, asked_s
        return state

    async def read_checkpoint(self) -> State:
        """Read the last checkpoint: where to read on from; the empty state if there is none.

        Raises:
            LogError: It cannot be read.
            StoreError: The store could not be asked.
        """
        return await self._find_checkpoint(after=0) or State()

    async def find_newer(self, state: State, *, past_pruned: bool = True) -> State | None:
        """Give the state after the next entry, or None if that is not published or visible yet.

        Args:
            state: Where to read on from.
            past_pruned: Whether to look if a missing entry was pruned, and to go on from the last
                checkpoint then. Costs one GET.

        Raises:
            LogError: What comes next cannot be read.
            StoreError: The store could not be asked.
        """
        entry = await self.find_entry(state.number + 1)
        if entry is not None:
            return state.apply(entry)
        return await self._find_checkpoint(after=state.number) if past_pruned else None

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

    async def find_checkpoint_of(self, number: int) -> State | None:
        """Read the checkpoint of a generation, or None if there is none (any more).

        Raises:
            LogError: It cannot be read.
            StoreError: The store could not be asked.
        """
        try:
            return State.decode(await self._store.read(checkpoint_key(number)))
        except ObjectMissingError:
            return None

    async def publish(self, state: State, entry: Entry) -> State:
        """Create the next entry, and a checkpoint when one is due; give the state after it.

        Raises:
            PrimaryLostError: Somebody else has published an entry of that number.
            StoreError: The store could not be asked: the entry is published, or it is not.
        """
        asked_s = boot_s(), time.time()
        published = state.apply(entry)
        await self._check_not_pruned(state)
        body = entry.encode()
        try:
            await self._store.create(generation_key(entry.number), body)
        except ObjectExistsError as exc:
            # An earlier try of ours may have succeeded and its answer been lost.
            if await self._store.read(generation_key(entry.number)) != body:
                raise PrimaryLostError(
                    f"find generation {entry.number} published by another primary"
                ) from exc
        self._known = published.number, asked_s
        if published.number % CHECKPOINT_EVERY == 0:
            await self._write_checkpoint(published)
        return published

    async def _check_not_pruned(self, state: State) -> None:
        """Find out whether the next entry was published and pruned while this node slept.

        Its key would be free again, so putting it only if absent would not tell.
        """
        number, known_s = self._known
        # A machine of which a snapshot was taken finds out by its date alone how long it was away.
        ages_s = boot_s() - known_s[0], abs(time.time() - known_s[1])
        young = number == state.number and max(ages_s) < SURELY_KEPT_S
        if not young and (number := await self._read_hint()) > state.number:
            raise PrimaryLostError(
                f"find generation {number} published by another primary, which knew more than "
                f"generation {state.number}"
            )

    async def _find_checkpoint(self, *, after: int) -> State | None:
        """Read the last checkpoint, or None if it is not above a generation."""
        missing: int | None = None
        while (number := await self._read_hint()) > after:
            try:
                return _decode_checkpoint(number, await self._store.read(checkpoint_key(number)))
            except ObjectMissingError:
                if number == missing:  # not visible yet
                    raise
                missing = number  # pruned after we read the hint, which names a newer one then
        return None

    async def _read_hint(self) -> int:
        """Give the number of the last checkpoint; 0 if there is none."""
        try:
            return int(json.loads(await self._store.read(LAST_CHECKPOINT))["generation"])
        except ObjectMissingError:
            return 0
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as exc:
            raise LogError(f"cannot read {LAST_CHECKPOINT}: {exc!r}") from exc

    async def _write_checkpoint(self, state: State) -> None:
        """Write a checkpoint and the hint; they only save reads, so a failure is left for later."""
        try:
            await self._store.replace(checkpoint_key(state.number), state.encode())
            hint = json.dumps({"generation": state.number}).encode()
            await self._store.replace(LAST_CHECKPOINT, hint)
        except StoreError:
            return


def _decode_checkpoint(number: int, body: bytes) -> State:
    try:
        return State.decode(body)
    except LogError as exc:
        raise LogError(f"cannot read {checkpoint_key(number)}: {exc}") from exc


def _decode_entry(number: int, body: bytes) -> Entry:
    try:
        entry = Entry.decode(body)
    except LogError as exc:
        raise LogError(f"cannot read {generation_key(number)}: {exc}") from exc
    if entry.number != number:
        raise LogError(f"cannot read {generation_key(number)}: it says that it is {entry.number}")
    return entry
