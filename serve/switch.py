"""The supervisor of a reader: from the newest generation to the one in service.

::

    waiting -> restoring -> starting -> probing -> switch -> waiting
                   |            |          |
                   +------------+----------+--> failed -> (backoff or a newer one) -> restoring

Whatever fails, the generation in service stays. It never goes back.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from headrace.errors import HeadraceError, LogError
from headrace.generation import State
from headrace.store import fsync_path
from serve.arrivals import Arrivals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from serve.follow import Follower
    from serve.metrics import ReaderMetrics
    from serve.restore import Restorer
    from serve.workers import WorkerSet

log = structlog.get_logger()

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
NOTHING_SERVED = -1  # the generation before the first set


class Step(StrEnum):
    """Where the supervisor is."""

    WAITING = "waiting"
    RESTORING = "restore"
    STARTING = "start"
    PROBING = "probe"
    SWITCHING = "switch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a generation is not in service."""

    generation: int
    step: Step
    message: str
    at: datetime


class Supervisor:
    """Brings each newest generation into service, and the old one out of it.

    Args:
        follower: Knows the newest generation.
        restorer: Makes slots.
        make_set: Makes a set of workers for a generation and its slots.
        serving_file: Keeps the generation in service, for a restart while the store is away.
        metrics: Counts switches.

    Attributes:
        current: The set in service; None before the first.
        arrivals: Tells those who wait for a generation.
        switched_at: When it came into service.
        step: Where the supervisor is.
        last_error: Why the newest generation is not in service; None if it is, or on its way.
    """

    def __init__(
        self,
        follower: Follower,
        restorer: Restorer,
        make_set: Callable[[State, Mapping[str, Path]], WorkerSet],
        serving_file: Path,
        metrics: ReaderMetrics,
    ) -> None:
        self.current: WorkerSet | None = None
        self.arrivals = Arrivals()
        self.switched_at: datetime | None = None
        self.step = Step.WAITING
        self.last_error: Failure | None = None
        self._follower = follower
        self._restorer = restorer
        self._make_set = make_set
        self._serving_file = serving_file
        self._metrics = metrics
        self._old: dict[WorkerSet, asyncio.Task[None]] = {}
        self._slots_lock = asyncio.Lock()  # slots are not pruned while new ones are made

    @property
    def generation(self) -> int:
        """The generation in service; ``NOTHING_SERVED`` before the first."""
        return NOTHING_SERVED if self.current is None else self.current.state.number

    async def run(self) -> None:
        """Switch to each newest generation until cancelled; then stop all workers."""
        try:
            await self._resume()
            backoff_s = FIRST_BACKOFF_S
            while True:
                self.step = Step.WAITING
                state = await self._follower.wait_newer(self.generation)
                if await self._try(state):
                    backoff_s = FIRST_BACKOFF_S
                else:
                    await self._wait_newer_or(state.number, backoff_s)
                    backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
        finally:
            await self._stop()

    async def _resume(self) -> None:
        """Serve what was served last, if all of it is here: the store may be away."""
        try:
            state = State.decode(self._serving_file.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, LogError) as exc:
            log.warning("last generation not resumed", reason=str(exc))
            return
        if self._restorer.find_slots(state) is None:
            log.warning("last generation not resumed", reason="slots are missing")
            return
        await self._follower.begin_at(state)
        await self._try(state)

    async def _try(self, state: State) -> bool:
        """Bring a generation into service; if it fails, remember why."""
        try:
            await self._bring_up(state)
        except HeadraceError as exc:
            message = f"{exc} ({exc.hint})" if exc.hint else str(exc)
        except Exception as exc:  # the reader serves on, whatever it is
            log.exception("switch failed unexpectedly", generation=state.number)
            message = f"{type(exc).__name__}: {exc}"
        else:
            return True
        self.last_error = Failure(
            generation=state.number, step=self.step, message=message, at=datetime.now(UTC)
        )
        self._metrics.switch_failures.labels(self.step.value).inc()
        log.warning("switch failed", generation=state.number, step=self.step.value, reason=message)
        return False

    async def _bring_up(self, state: State) -> None:
        async with self._slots_lock:
            self.step = Step.RESTORING
            slots = await self._restore(state)
            new = self._make_set(state, slots)
            try:
                self.step = Step.STARTING
                with self._metrics.step("start"):
                    await new.start()
                self.step = Step.PROBING
                with self._metrics.step("probe"):
                    await new.probe()
                self.step = Step.SWITCHING
                # Kept first: a restart after the switch must not go back behind it.
                await asyncio.to_thread(_write_atomically, self._serving_file, state.encode())
            except BaseException:
                await new.stop()
                raise
            old = self._switch(new)
        if old is not None:
            self._old[old] = asyncio.create_task(self._retire(old))
        await self._prune()

    async def _restore(self, state: State) -> Mapping[str, Path]:
        """Restore; give up early on a generation that fails when a newer one is known."""
        superseded = asyncio.Event()

        async def watch() -> None:
            await self._follower.wait_newer(state.number)
            superseded.set()

        watching = asyncio.create_task(watch())
        try:
            return await self._restorer.restore(state, superseded=superseded)
        finally:
            watching.cancel()

    def _switch(self, new: WorkerSet) -> WorkerSet | None:
        """Put a set into service: every request that begins after this goes to it."""
        old, self.current = self.current, new
        self.last_error = None
        new.begin_service()
        self.arrivals.announce(new.state.number)
        self.switched_at = datetime.now(UTC)
        self._metrics.generation.set(new.state.number)
        self._metrics.switches.inc()
        log.info("switched", generation=new.state.number, databases=len(new.state.databases))
        return old

    async def _retire(self, old: WorkerSet) -> None:
        with self._metrics.step("retire"):
            await old.retire()
        del self._old[old]
        await self._prune()

    async def _prune(self) -> None:
        async with self._slots_lock:
            sets = [*self._old, *([self.current] if self.current else [])]
            wanted = [slot for each in sets for slot in each.slots.values()]
            try:
                await self._restorer.prune(wanted)
            except OSError as exc:  # the next switch prunes again
                log.warning("slots not pruned", reason=str(exc))

    async def _wait_newer_or(self, number: int, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._follower.wait_newer(number)

    async def _stop(self) -> None:
        for retiring in self._old.values():
            retiring.cancel()
        await asyncio.gather(*self._old.values(), return_exceptions=True)
        sets = [*self._old, *([self.current] if self.current else [])]
        self.current = None
        await asyncio.gather(*(each.stop() for each in sets))


def _write_atomically(path: Path, body: bytes) -> None:
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        part.write_bytes(body)
        fsync_path(part)
        part.rename(path)
        fsync_path(path.parent)
    finally:
        part.unlink(missing_ok=True)
