"""Holding the lease: taken before anything is written, renewed while this is the primary.

What may write stops when the lease has not been renewed in time, before anybody else can take it,
and goes on when it was had back. When somebody else has it, this node ends.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from headrace.backoff import Pauses
from headrace.clock import boot_s
from headrace.errors import ConfigError, LeaseLostError, Refusal, StoreError
from headrace.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from headrace.lease import LeaseLog
    from ingest.lease_note import LeaseNote
    from ingest.metrics import IngestMetrics

log = structlog.get_logger()

# Of a lease's duration: how long it is left alone after it has expired (2 s of 30 s), and how often
# whoever waits for it looks at it (every 2 s). Both sides count the seconds by clocks of their own,
# which run equally but for 0.05 % (the most that adjtimex(2) slews them by).
MARGIN = 1 / 15
POLL = 1 / 15
RETRY_S = 1.0  # at most, between tries of a store that failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How the lease was taken.

    Attributes:
        believed: Whether nobody else had it since this volume was written.
        at: When, by the store's clock; by this machine's, if that could not be told.
    """

    believed: bool
    at: datetime


class LeaseHolder:
    """The lease, as one node sees it.

    Args:
        leases: The lease's log.
        owner: Identity of this node's volume, for people.
        note: What that volume knows of its leases.
        duration_s: For how long the lease is taken.
        renew_every_s: How often it is renewed; a third of the duration or less.
        metrics: Told whether it is held, and its epoch.

    Attributes:
        held: Set while this node may write.
        lapsed: Set while it may not.
        duration_s: As given.
        taken_at: When it was taken, by this machine's clock: for people; None before that.
    """

    def __init__(
        self,
        leases: LeaseLog,
        owner: str,
        note: LeaseNote,
        *,
        duration_s: float,
        renew_every_s: float,
        metrics: IngestMetrics,
    ) -> None:
        self.held = asyncio.Event()
        self.lapsed = asyncio.Event()
        self.lapsed.set()
        self._leases = leases
        self._owner = owner
        self._note = note
        self._process = secrets.token_hex(8)
        self.duration_s = duration_s
        self.taken_at: datetime | None = None
        self._renew_every_s = renew_every_s
        self._metrics = metrics
        self._turn = asyncio.Lock()  # one entry is created at a time
        self._lease: Lease | None = None
        self._until_s = 0.0  # by boot_s

    @property
    def epoch(self) -> int:
        """The fencing number of what is published now; 0 before the lease was ever held."""
        return self._lease.epoch if self._lease else 0

    @property
    def journal(self) -> str | None:
        """Lineage of the journal that the lease names."""
        return self._lease.journal if self._lease else None

    async def name_journal(self, lineage: str) -> None:
        """Renew the lease with another journal: its successor will go on with that one.

        Raises:
            LeaseLostError: Somebody else has it.
            StoreError: The store could not be asked.
        """
        async with self._turn:
            await self._put(replace(self._next(), journal=lineage))

    def check(self) -> None:
        """Refuse to answer for what was done while somebody else may have taken the lease.

        Raises:
            Refusal: ``lease-lapsed``.
        """
        if not self.held.is_set() or boot_s() >= self._until_s:
            raise Refusal("lease-lapsed", "this primary cannot renew its lease in the object store")

    async def take(self, *, standby: bool, least_epoch: int) -> Taken:
        """Take the lease as soon as nobody else has it.

        Args:
            standby: Whether to wait for it for as long as somebody else renews it.
            least_epoch: The epoch will be above it.

        Raises:
            ConfigError: Somebody else renews it, and this is no standby.
            LogError: The lease cannot be read.
            StoreError: The store could not be asked; a standby asks again.
        """
        newest, since_s = await self._leases.find_newest(), boot_s()
        while True:
            if newest is None or self._is_free(newest, since_s):
                with suppress(LeaseLostError):  # somebody was faster
                    believed = newest is None or self._note.is_own(newest)
                    await self._create(newest, least_epoch)
                    return Taken(believed=believed, at=await self._read_date())
                newest, since_s = await self._leases.find_newest(), boot_s()
            elif newer := await self._wait_newer(newest, since_s, patient=standby):
                if not standby:
                    raise ConfigError(
                        "cannot start: another primary holds the lease, and renews it",
                        hint="stop that one, or wait for its end with --standby on",
                    )
                newest, since_s = newer, boot_s()

    async def run(self) -> None:
        """Renew the lease until cancelled.

        Raises:
            LeaseLostError: Somebody else has it.
            LogError: It cannot be read.
        """
        while True:
            if self.held.is_set():
                await asyncio.sleep(self._renew_every_s)
                await self._renew()
            else:
                await self._regain()

    async def while_held(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run something while the lease is held, and anew each time that it was had back."""
        while True:
            await self.held.wait()
            working = asyncio.create_task(work())
            lapsing = asyncio.create_task(self.lapsed.wait())
            try:
                await asyncio.wait([working, lapsing], return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    return working.result()
            finally:
                working.cancel()
                lapsing.cancel()
                await asyncio.gather(working, lapsing, return_exceptions=True)

    async def give_back(self, within_s: float) -> None:
        """Let others take the lease at once; if that fails they have to wait for its end."""
        if not self.held.is_set():
            return
        self._lapse()
        try:
            async with asyncio.timeout(min(within_s, self._renew_every_s)), self._turn:
                await self._create_after(replace(self._next(), duration_s=0.0))
        except (StoreError, LeaseLostError, TimeoutError) as exc:
            log.warning("lease not given back", reason=str(exc))

    async def _read_date(self) -> datetime:
        try:
            return await self._leases.written_at(self._lease.number if self._lease else 0)
        except StoreError as exc:
            log.warning("the store's date is not known", reason=str(exc))
            return _utc()

    def _is_free(self, newest: Lease, since_s: float) -> bool:
        """Say whether a lease that is the newest since then may be taken."""
        return (
            self._note.is_own(newest)  # whose process has ended: the volume's lock was free
            or newest.duration_s == 0
            or _left_s(newest, since_s) <= 0
        )

    async def _wait_newer(self, newest: Lease, since_s: float, *, patient: bool) -> Lease | None:
        """Wait for the next lease; None when the newest has expired instead."""
        log.info("waiting for the lease", lease=newest.number, epoch=newest.epoch)
        while not self._is_free(newest, since_s):
            await asyncio.sleep(min(newest.duration_s * POLL, max(_left_s(newest, since_s), 0)))
            try:
                newer = await self._leases.find(newest.number + 1)
            except StoreError as exc:
                if not patient:
                    raise
                log.warning("lease not read", reason=str(exc))
            else:
                if newer is not None:
                    return newer
        return None

    async def _create(self, newest: Lease | None, least_epoch: int) -> None:
        """Take the lease: a new epoch."""
        await self._put(
            Lease(
                number=newest.number + 1 if newest else 1,
                epoch=max(newest.epoch if newest else 0, least_epoch) + 1,
                owner=self._owner,
                process=self._process,
                duration_s=self.duration_s,
                journal=newest.journal if newest else None,
                created_at=_utc(),
            )
        )
        self.taken_at = _utc()
        log.info("lease taken", epoch=self.epoch)

    def _next(self) -> Lease:
        """Give the entry that renews the lease."""
        assert self._lease is not None  # noqa: S101 - it was taken
        return replace(self._lease, number=self._lease.number + 1, created_at=_utc())

    async def _put(self, lease: Lease) -> None:
        """Create an entry: from when it was asked for, it is held for its duration."""
        lease, asked_s = await self._create_after(lease)
        self._lease = lease
        self._until_s = asked_s + lease.duration_s
        if boot_s() < self._until_s:  # else the answer took longer
            self.held.set()
            self.lapsed.clear()
        self._metrics.lease_held.set(self.held.is_set())
        self._metrics.lease_epoch.set(lease.epoch)
        await self._leases.prune(lease)

    async def _create_after(self, lease: Lease) -> tuple[Lease, float]:
        """Create an entry, after those that this process created and got no answer for.

        Returns:
            The entry with the number that it got, and when it was asked for, by boot_s.
        """
        while True:
            await asyncio.to_thread(self._note.write, lease)
            asked_s = boot_s()
            found = await self._leases.create(lease)
            if found == lease:
                return lease, asked_s
            lease = replace(lease, number=found.number + 1)

    async def _renew(self) -> None:
        """Create the next entry; if the store takes none in time, the lease has lapsed."""
        pauses = Pauses(RETRY_S, RETRY_S)
        async with self._turn:
            while (left_s := self._until_s - boot_s()) > 0:
                try:
                    async with asyncio.timeout(left_s):
                        await self._put(self._next())
                except (StoreError, TimeoutError) as exc:
                    self._metrics.lease_failures.inc()
                    log.warning("lease not renewed", reason=str(exc), left_s=round(left_s, 1))
                    await asyncio.sleep(min(pauses.next_s(), max(self._until_s - boot_s(), 0)))
                else:
                    return
        self._lapse()
        log.error("lease lapsed: nothing is written until it was had back")

    async def _regain(self) -> None:
        """Have a lapsed lease back, if nobody else took it.

        Raises:
            LeaseLostError: Somebody did.
        """
        assert self._lease is not None  # noqa: S101 - it was held
        try:
            newest = await self._leases.find_newest()
            if newest is None or newest.process != self._process:
                raise LeaseLostError("find the lease taken by another primary")
            await self._create(newest, self._lease.epoch)
        except StoreError as exc:
            log.warning("lease not had back", reason=str(exc))
            await asyncio.sleep(Pauses(RETRY_S, RETRY_S).next_s())

    def _lapse(self) -> None:
        self.held.clear()
        self.lapsed.set()
        self._metrics.lease_held.set(0)


def _left_s(newest: Lease, since_s: float) -> float:
    """Give for how long a lease that is the newest since then has to be left alone."""
    return since_s + newest.duration_s * (1 + MARGIN) - boot_s()


def _utc() -> datetime:
    return datetime.now(UTC)
