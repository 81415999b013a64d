"""The supervisor of a reader: from the newest generation to the one in service.

Its states are in states.py. Whatever fails, the generation in service stays. It never goes back.
A changed Datasette configuration is brought into service in the same way, on the generation that
is in service.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from headrace.errors import HeadraceError, WorkerError
from serve.arrivals import Arrivals
from serve.backoff import Backoff
from serve.retirement import Retirement
from serve.spares import Spares
from serve.states import Step, Steps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping
    from pathlib import Path

    from headrace.generation import State
    from serve.configuration import Configuration, ConfigurationWatch
    from serve.follow import Follower
    from serve.heard import Heard
    from serve.hook import GenerationHook
    from serve.metrics import ReaderMetrics
    from serve.nursery import Nursery
    from serve.restore import Restorer
    from serve.retirement import Retiring
    from serve.serving_file import ServingFile
    from serve.workers import WorkerSet

    MakeSet = Callable[[Nursery, State, Mapping[str, Path]], WorkerSet]
    Warm = Callable[[WorkerSet], Awaitable[None]]

log = structlog.get_logger()

MAX_BACKOFF_S = 30.0
WARM_DEADLINE_S = 2.0
MIN_INTERVAL_S = 0.2
NOTHING_SERVED = -1  # the generation before the first set


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a generation, or a configuration, is not in service."""

    generation: int
    step: Step
    message: str
    at: datetime


class Supervisor:
    """Brings each newest generation into service, and the old one out of it.

    Args:
        follower: Knows the newest generation.
        restorer: Makes slots.
        make_nursery: Makes a nursery, not started, for a configuration.
        make_set: Makes a set of workers of a nursery, for a generation and its slots.
        configuration: Knows when the user's directory changes.
        serving_file: Keeps the generation in service, for a restart while the store is away.
        metrics: Counts switches.
        heard: Told of each generation in service.
        hook: Told of each generation in service.
        min_interval_s: Least time between two switches.

    Attributes:
        current: The set in service; None before the first.
        arrivals: Tells those who wait for a generation.
        switched_at: When it came into service.
        warm: Renders what people want most on a set that is not in service yet; may fail.
        forget_pages: Called when pages of a damaged slot may have been kept.
    """

    def __init__(
        self,
        follower: Follower,
        restorer: Restorer,
        *,
        make_nursery: Callable[[Configuration], Nursery],
        make_set: MakeSet,
        configuration: ConfigurationWatch,
        serving_file: ServingFile,
        metrics: ReaderMetrics,
        heard: Heard,
        hook: GenerationHook,
        min_interval_s: float = MIN_INTERVAL_S,
    ) -> None:
        self.current: WorkerSet | None = None
        self.arrivals = Arrivals()
        self.switched_at: datetime | None = None
        self.nursery = make_nursery(configuration.copy())
        self._follower = follower
        self._restorer = restorer
        self._make_nursery = make_nursery
        self._make_set = make_set
        self._configuration = configuration
        self._serving_file = serving_file
        self._metrics = metrics
        self._heard = heard
        self._hook = hook
        self.warm: Warm | None = None
        self.forget_pages: Callable[[], None] = lambda: None
        self._min_interval_s = min_interval_s
        self._steps = Steps()
        self._spares = Spares(self._prune, metrics)
        self._retirement = Retirement(self._offer, self._after_retirement, metrics)
        self._old_nurseries: list[Nursery] = []
        self._failures: dict[str, Failure] = {}
        self._renewing = False
        self._damaged: WorkerSet | None = None  # what was in service before the last renewal
        self._slots_lock = asyncio.Lock()  # slots are not pruned while new ones are made
        self._work = asyncio.Event()
        self._next_switch_s = 0.0  # the loop's time

    @property
    def generation(self) -> int:
        """The generation in service; ``NOTHING_SERVED`` before the first."""
        return NOTHING_SERVED if self.current is None else self.current.state.number

    @property
    def step(self) -> Step:
        """Where the supervisor is."""
        return self._steps.now

    @property
    def spares_ready(self) -> int:
        """Workers that are ready for the next switch."""
        return self._spares.ready

    @property
    def draining(self) -> Mapping[WorkerSet, Retiring]:
        """The sets that still answer requests for earlier generations, the oldest first."""
        return self._retirement.retiring

    @property
    def waits_for_drains(self) -> bool:
        """Tell whether the next switch waits for one of those."""
        return self._retirement.waited_for

    @property
    def last_error(self) -> Failure | None:
        """Why the newest generation or configuration is not in service; None if all is well."""
        return next(iter(self._failures.values()), None)

    async def run(self) -> None:
        """Switch to each newest generation and configuration until cancelled; then stop all."""
        watches: list[asyncio.Task[None]] = []
        try:
            await self._resume()
            watches += [
                asyncio.create_task(self._watch_generations()),
                asyncio.create_task(self._configuration.run(self._work.set)),
                asyncio.create_task(self._hook.run()),
            ]
            await self._switch_for_ever()
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            await self._stop()

    def renew(self) -> None:
        """Bring the generation in service up once more: a slot of it is damaged."""
        self._renewing = True
        self._work.set()

    async def _watch_generations(self) -> None:
        number = self.generation
        while True:
            number = (await self._follower.wait_newer(number)).number
            self._work.set()

    async def _switch_for_ever(self) -> None:
        generations, configurations = Backoff(MAX_BACKOFF_S), Backoff(MAX_BACKOFF_S)
        while True:
            self._work.clear()
            fingerprint = self._configuration.fingerprint
            if fingerprint == self.nursery.configuration.fingerprint:
                configurations.forget()
                self._failures.pop("configuration", None)
            elif configurations.allows(fingerprint):
                done = await self._try("configuration", self._configure())
                configurations.note(fingerprint, done=done)
            newest = self._find_newer()
            if newest is not None and generations.allows(newest.number):
                await self._wait_turn()
                await self._spares.wait_rest()
                newest = self._find_newer() or newest  # others may have come meanwhile
                done = await self._renew_or_bring_up(newest)
                generations.note(newest.number, done=done)
            retries_s = [generations.wait_s, configurations.wait_s]
            await self._wait_work(min((s for s in retries_s if s is not None), default=None))

    async def _wait_work(self, timeout_s: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._work.wait()

    def _find_newer(self) -> State | None:
        newest = self._follower.newest
        if newest is not None and newest.number > self.generation:
            return newest
        return self.current.state if self._renewing and self.current is not None else None

    async def _renew_or_bring_up(self, state: State) -> bool:
        renewing, self._renewing = self._renewing, False  # what is found from now on is new
        if renewing:
            self._damaged = self.current
            await self._spares.discard()  # they may have the damaged file open
        done = await self._try("generation", self._bring_up(state))
        if renewing and done:
            self.forget_pages()  # lineage and TXID are the same, so their keys are
        elif renewing:
            self._renewing = True
        return done

    async def _wait_turn(self) -> None:
        """Wait until another switch is due, and there are not too many sets."""
        await asyncio.sleep(self._next_switch_s - asyncio.get_running_loop().time())
        await self._retirement.wait_room()

    async def _resume(self) -> None:
        """Serve what was served last, if all of it is here: the store may be away."""
        state = self._serving_file.read()
        if state is None:
            return
        if self._restorer.find_slots(state) is None:
            log.warning("last generation not resumed", reason="slots are missing")
            return
        await self._follower.begin_at(state)
        await self._try("generation", self._bring_up(state))

    async def _try(self, kind: str, coroutine: Coroutine[Any, Any, None]) -> bool:
        """Bring something into service; if it fails, remember why."""
        newest = self._follower.newest
        generation = newest.number if kind == "generation" and newest else self.generation
        try:
            await coroutine
        except HeadraceError as exc:
            message = f"{exc} ({exc.hint})" if exc.hint else str(exc)
        except Exception as exc:  # the reader serves on, whatever it is
            log.exception("switch failed unexpectedly", generation=generation)
            message = f"{type(exc).__name__}: {exc}"
        else:
            self._failures.pop(kind, None)
            return True
        step = self._steps.give_up()
        self._failures[kind] = Failure(
            generation=generation, step=step, message=message, at=datetime.now(UTC)
        )
        self._metrics.switch_failures.labels(step.value).inc()
        log.warning("switch failed", generation=generation, step=step.value, reason=message)
        return False

    async def _bring_up(self, state: State) -> None:
        """Bring a generation into service."""
        async with self._slots_lock:
            self._steps.enter(Step.RESTORING)
            slots = await self._restore(state)
            self._steps.enter(Step.STARTING)
            async with self._serving_file.kept(state) as keep:
                sound = None if self.current is self._damaged else self.current
                new = await self._dress_spare(state, slots, sound)
                if new is None:
                    new = await self._start(self._make_set(self.nursery, state, slots), sound)
                try:
                    await self._warm_up(new)
                    self._steps.enter(Step.SWITCHING)
                    await keep()  # first: a restart after the switch must not go back behind it
                except BaseException:
                    await new.stop()
                    raise
            self._switch(new)
            self._failures.pop("generation", None)  # at once: nobody sees it beside the new one
        self._metrics.generation.set(state.number)
        self._metrics.switches.inc()
        self._hook.notify(state)
        await self._prune()

    async def _configure(self) -> None:
        """Bring a changed configuration into service: a nursery that has loaded nothing of it."""
        await self._wait_turn()
        copy = await asyncio.to_thread(self._configuration.copy)
        nursery = self._make_nursery(copy)
        current = self.current
        try:
            if current is not None:
                self._steps.enter(Step.STARTING)
                new = await self._start(self._make_set(nursery, current.state, current.slots))
                await self._warm_up(new)
                self._steps.enter(Step.SWITCHING)
        except BaseException:
            await self._close(nursery)
            raise
        await self._spares.discard()
        self._old_nurseries.append(self.nursery)
        self.nursery = nursery
        if current is not None:
            self._switch(new)
            self._metrics.configuration_switches.inc()
        await self._after_retirement()

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

    async def _dress_spare(
        self, state: State, slots: Mapping[str, Path], sound: WorkerSet | None
    ) -> WorkerSet | None:
        """Dress and probe the spare; None if there is none, or it fails: others are forked then."""
        spare = await self._spares.take()
        if spare is None:
            return None
        try:
            with self._metrics.step("start"):
                await spare.dress(state, slots)
            self._steps.enter(Step.PROBING)
            with self._metrics.step("probe"):
                await spare.probe(sound)
        except WorkerError as exc:
            log.warning("spare not used", generation=state.number, reason=str(exc))
            await spare.stop()
            if self.step is Step.PROBING:
                self._steps.enter(Step.STARTING)
            return None
        except BaseException:
            await spare.stop()
            raise
        self._metrics.dressed_switches.inc()
        return spare

    async def _start(self, new: WorkerSet, sound: WorkerSet | None = None) -> WorkerSet:
        """Fork and probe a set; what a sound one of the same configuration serves is not asked."""
        try:
            with self._metrics.step("start"):
                await new.start()
            self._steps.enter(Step.PROBING)
            with self._metrics.step("probe"):
                await new.probe(sound)
        except BaseException:
            await new.stop()
            raise
        return new

    async def _warm_up(self, new: WorkerSet) -> None:
        self._steps.enter(Step.WARMING)
        if self.warm is None:
            return
        try:
            with self._metrics.step("warm"):
                async with asyncio.timeout(WARM_DEADLINE_S):
                    await self.warm(new)
        except TimeoutError:
            log.info("warming cut short", deadline_s=WARM_DEADLINE_S)
        except Exception as exc:  # cold pages are served as well
            log.exception("warming failed", reason=str(exc))

    def _switch(self, new: WorkerSet) -> None:
        """Put a set into service: every request that begins after this goes to it."""
        old, self.current = self.current, new
        new.begin_service()
        self._steps.enter(Step.WAITING)
        self.arrivals.announce(new.state.number)
        self.switched_at = datetime.now(UTC)
        self._heard.note_served(new.state.number, self._steps.seconds, first=old is None)
        self._next_switch_s = asyncio.get_running_loop().time() + self._min_interval_s
        log.info(
            "switched",
            generation=new.state.number,
            databases=len(new.state.databases),
            steps_s={step.value: round(took, 4) for step, took in self._steps.seconds.items()},
        )
        if old is not None:
            self._spares.expect()
            self._retirement.retire(old)

    def _offer(self, old: WorkerSet) -> bool:
        sound = old.nursery is self.nursery and old is not self._damaged
        return sound and self._spares.offer(old)

    async def _after_retirement(self) -> None:
        for nursery in list(self._old_nurseries):
            if not self._retirement.uses(nursery):
                self._old_nurseries.remove(nursery)
                await self._close(nursery)
        await self._prune()
        self._spares.note_retired()

    async def _close(self, nursery: Nursery) -> None:
        await nursery.close()
        await self._configuration.forget(nursery.configuration)

    async def _prune(self) -> None:
        async with self._slots_lock:
            wanted = [*self._retirement.slots, *self._spares.slots]
            if self.current is not None:
                wanted += self.current.slots.values()
            try:
                await self._restorer.prune(wanted)
            except OSError as exc:  # the next switch prunes again
                log.warning("slots not pruned", reason=str(exc))

    async def _stop(self) -> None:
        await self._retirement.stop()
        await self._spares.discard()
        current, self.current = self.current, None
        if current is not None:
            await current.stop()

    async def close(self) -> None:
        """End all nurseries, and with them all workers that are left."""
        for nursery in (*self._old_nurseries, self.nursery):
            await self._close(nursery)
