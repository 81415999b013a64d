"""The primary's lease: a log of its own, by put-if-absent alone (DESIGN.md, section 4).

Each renewal creates the next entry; a takeover creates the next one after the last has expired.
Whoever finds that number taken has lost. So at any time the newest entry says who is the primary.

Whether a lease has expired is found out by watching: no newer entry for as long as it runs, by the
watcher's own clock. The times inside an entry are for people: clocks that are wrong, or jump, can
neither end a lease early nor make it longer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.errors import (
    LeaseLostError,
    LogError,
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
)
from headrace.generation import format_time, parse_time
from headrace.keys import LEASES_PREFIX, lease_key, parse_lease_key

if TYPE_CHECKING:
    from datetime import datetime

    from headrace.store import Store

STALL_S = 10.0  # without an answer of the store
KEPT = 100  # entries: nobody reads old ones, but people


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One entry of the lease's log.

    Attributes:
        number: From 1, one more at each renewal.
        epoch: The fencing number: from 1, one more each time that the lease was taken, the same at
            renewals. Entries of the generation log carry it.
        owner: Identity of the volume of the primary.
        process: Identity of its process, new at each start.
        duration_s: For how long it is held, unless it is renewed; 0: it was given back.
        journal: Lineage of the journal that goes with it; None until there is one.
        created_at: By the owner's clock; only for people.
    """

    number: int
    epoch: int
    owner: str
    process: str
    duration_s: float
    journal: str | None
    created_at: datetime

    def encode(self) -> bytes:
        """Give the bytes of its object."""
        document = {
            "lease": self.number,
            "epoch": self.epoch,
            "owner": self.owner,
            "process": self.process,
            "duration_s": self.duration_s,
            "journal": self.journal,
            "created_at": format_time(self.created_at),
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, body: bytes) -> Lease:
        """Read the bytes of an object.

        Raises:
            LogError: They are no lease.
        """
        try:
            document = json.loads(body)
            return cls(
                number=int(document["lease"]),
                epoch=int(document["epoch"]),
                owner=str(document["owner"]),
                process=str(document["process"]),
                duration_s=float(document["duration_s"]),
                journal=document["journal"],
                created_at=parse_time(document["created_at"]),
            )
        except (ValueError, KeyError, TypeError) as exc:
            raise LogError(f"cannot read a lease: {exc!r}") from exc


class LeaseLog:
    """The leases in one object store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def find_newest(self) -> Lease | None:
        """Find the newest entry, by a listing: for a start, and after having been away.

        Raises:
            LogError: It cannot be read.
            StoreError: The store could not be asked.
        """
        numbers = [
            number
            async for each in self._store.list_objects(LEASES_PREFIX, stall_s=STALL_S)
            if (number := parse_lease_key(each.key)) is not None
        ]
        newest = await self.find(max(numbers, default=0))
        while newest is not None and (newer := await self.find(newest.number + 1)) is not None:
            newest = newer
        return newest

    async def find(self, number: int) -> Lease | None:
        """Read one entry, or None if it is not there.

        Raises:
            LogError: It cannot be read.
            StoreError: The store could not be asked.
        """
        try:
            return Lease.decode(await self._store.read(lease_key(number)))
        except ObjectMissingError:
            return None

    async def written_at(self, number: int) -> datetime:
        """Say when an entry was created, by the store's clock.

        Raises:
            StoreError: It is not there, or the store could not be asked.
        """
        return (await self._store.look_at(lease_key(number))).modified_at

    async def create(self, lease: Lease) -> Lease:
        """Create an entry.

        Returns:
            The entry of that number: this one, or one that the same process created in an earlier
            try, whose answer was lost.

        Raises:
            LeaseLostError: Somebody else has created one of that number.
            StoreError: The store could not be asked: it is created, or it is not.
        """
        try:
            await self._store.create(lease_key(lease.number), lease.encode())
        except ObjectExistsError as exc:
            found = Lease.decode(await self._store.read(lease_key(lease.number)))
            if found.process != lease.process:
                raise LeaseLostError(f"find lease {lease.number} taken by another primary") from exc
            return found
        return lease

    async def prune(self, lease: Lease) -> None:
        """Delete the one entry that a new one makes too old; a failure leaves it for ever.

        A primary that slept so long that the key which it would create is free again does not
        create it: its lease has expired by its own clock, and it asks for the newest first.
        """
        if lease.number > KEPT:
            try:
                await self._store.delete(lease_key(lease.number - KEPT))
            except StoreError:
                return
