"""The newest generation, as the primary pushes it and as the log says.

The push is fast and may be away; the log is slow and is the truth. Both only move forward, and only
the newest state matters: whoever waits for it skips what came in between.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import aiohttp
import structlog

from headrace.backoff import Pauses
from headrace.errors import HeadraceError, LogError, StoreError
from headrace.generation import Entry, State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.log import GenerationLog
    from serve.freshness import Freshness
    from serve.heard import Heard
    from serve.metrics import ReaderMetrics

log = structlog.get_logger()

POLL_S = 2.0  # without a push stream
POLL_WITH_PUSH_S = 30.0
FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 5.0
PATIENCE_S = 30.0  # with a primary that starts beside the reader, or after it
SILENCE_S = 15.0  # the primary's heartbeat comes every 5 s
LOOK_PAST_PRUNED_EVERY = 20  # polls; costs one GET more
HEARTBEAT = b""  # a line. One of a space: the primary is there, but its lease may be another's
MAX_LINE_BYTES = 64 * 1024**2  # an entry that sets thousands of databases

# Silence is ours to find: aiohttp's sock_read was seen to miss that of a handler that had failed.
_STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0)


class Follower:
    """Knows the newest generation, and why it may not.

    Args:
        generations: The log.
        session: For requests to the primary.
        primary: Its URL.
        metrics: Told of what is heard.
        freshness: Told when a generation was the newest.
        heard: Told of each generation.

    Attributes:
        newest: The newest state; None until the log was read once.
        push_connected: Whether the push stream is up.
        push_away_since: Since when it is known not to be; None: it is up, or was not tried yet.
        why: What is wrong now: ``log`` and ``push``, each with one sentence; empty if all is well.
    """

    def __init__(
        self,
        generations: GenerationLog,
        session: aiohttp.ClientSession,
        primary: str,
        metrics: ReaderMetrics,
        freshness: Freshness,
        *,
        heard: Heard,
    ) -> None:
        self.newest: State | None = None
        self.push_connected = False
        self.push_away_since: datetime | None = None
        self.why: dict[str, str] = {}
        self._patience_ends_s = time.monotonic() + PATIENCE_S
        self._was_patient = False
        self._log = generations
        self._session = session
        self._url = f"{primary.rstrip('/')}/-/generations"
        self._metrics = metrics
        self._freshness = freshness
        self._heard = heard
        self._clock = freshness.clock
        self._served: int | None = None
        self._reached: State | None = None  # in the log, before the store failed
        self._moved = asyncio.Condition()
        self._poll_now = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled; nothing that the store or the primary does ends it.

        After a nap all begins anew: a request or a stream from before it may hang for as long as
        TCP is patient, and what lies in its buffers is as old.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._clock.run())
            while True:
                following = [
                    tasks.create_task(self._poll_log()),
                    tasks.create_task(self._hear_primary()),
                ]
                await self._clock.wait_nap()
                log.info("woken", naps=self._clock.naps)
                for task in following:
                    task.cancel()
                await asyncio.gather(*following, return_exceptions=True)
                self._set_connected(False)

    async def wait_newer(self, number: int) -> State:
        """Wait for a state above a generation (-1: for any)."""
        async with self._moved:
            while self.newest is None or self.newest.number <= number:
                await self._moved.wait()
            return self.newest

    async def begin_at(self, state: State) -> None:
        """Start from a state that was served before, so that nothing older is ever served."""
        self._served = state.number or None
        await self._advance(state)

    async def _advance(self, state: State) -> None:
        if self.newest is not None and state.number <= self.newest.number:
            return
        self.newest = state
        self._metrics.newest_generation.set(state.number)
        async with self._moved:
            self._moved.notify_all()

    # the log

    async def _poll_log(self) -> None:
        checkpoint: State | None = None
        for poll in itertools.count():
            # Who slept long loses the push, or sees a gap in it.
            past_pruned = self._poll_now.is_set() or poll % LOOK_PAST_PRUNED_EVERY == 0
            self._poll_now.clear()
            try:
                if checkpoint is None:
                    checkpoint = await self._log.read_checkpoint()
                await self._check_served()
                await self._read_on(checkpoint, past_pruned=past_pruned)
                self.why.pop("log", None)
            except HeadraceError as exc:
                self._note("log", str(exc))
            except Exception as exc:  # the reader follows on, whatever it is
                log.exception("following failed unexpectedly", source="log")
                self._note("log", f"{type(exc).__name__}: {exc}")
            await self._pause_poll()

    async def _check_served(self) -> None:
        """Find out whether this log is the one that was followed before the restart."""
        served = self._served
        if served is not None and await self._log.find_entry(served) is None:
            checkpoint = await self._log.read_checkpoint()
            if checkpoint.number < served:  # else it was pruned
                raise LogError(
                    f"the log has no generation {served}, which this reader has served already",
                    hint="a store that was emptied needs readers with empty data folders",
                )
        self._served = None

    async def _read_on(self, checkpoint: State, *, past_pruned: bool) -> None:
        """Read to the end of the log; what was read before a failure counts.

        Not so for a reader that begins on an empty disk while the store cannot be asked for more:
        before it lost its disk it may have shown that.
        """
        asked_s = self._clock.now_s()
        known = [each for each in (checkpoint, self.newest, self._reached) if each is not None]
        state = max(known, key=lambda each: each.number)
        try:
            while (newer := await self._log.find_newer(state, past_pruned=past_pruned)) is not None:
                state = newer
                self._heard.note(state)
                asked_s = self._clock.now_s()
        except StoreError:
            self._reached = state
            if self.newest is not None:
                await self._advance(state)
            raise
        except LogError:
            await self._advance(state)
            raise
        await self._advance(state)
        self._freshness.confirm(state.number, asked_s)

    async def _pause_poll(self) -> None:
        calm = self.push_connected and "log" not in self.why
        interval_s = POLL_WITH_PUSH_S if calm else POLL_S
        try:
            async with asyncio.timeout(interval_s * random.uniform(0.9, 1.1)):  # noqa: S311
                await self._poll_now.wait()
        except TimeoutError:
            return

    # the primary

    async def _hear_primary(self) -> None:
        pauses = Pauses(FIRST_BACKOFF_S, MAX_BACKOFF_S)
        await self.wait_newer(-1)
        while True:
            try:
                await self._hear_stream()
                reason = "the primary ended the stream of generations"
            except (aiohttp.ClientError, OSError, HeadraceError, ValueError) as exc:
                reason = f"cannot hear the primary: {exc or type(exc).__name__}"
            except Exception as exc:  # the reader follows on, whatever it is
                log.exception("following failed unexpectedly", source="push")
                reason = f"cannot hear the primary: {type(exc).__name__}: {exc}"
            if self.push_connected:
                pauses.reset()
            self._set_connected(False)
            self.push_away_since = self.push_away_since or datetime.now(UTC)
            self._note("push", reason)
            await asyncio.sleep(pauses.next_s())

    async def _hear_stream(self) -> None:
        after = 0 if self.newest is None else self.newest.number
        self._clock.now_s()
        naps = self._clock.naps
        try:
            async with (
                asyncio.timeout(SILENCE_S) as silence,
                self._session.get(
                    self._url, params={"after": str(after)}, timeout=_STREAM_TIMEOUT
                ) as response,
            ):
                if response.status != 200:  # noqa: PLR2004
                    raise LogError(f"the primary answers {response.status}")
                self._set_connected(True)
                async for line in split_lines(response.content.iter_any()):
                    silence.reschedule(asyncio.get_running_loop().time() + SILENCE_S)
                    heard_s = self._clock.now_s()
                    if self._clock.naps != naps:  # nobody knows when this was said
                        raise LogError("nothing ran here for a while")
                    await self._take(line, heard_s)
        except TimeoutError as exc:
            raise LogError(f"the primary said nothing for {SILENCE_S:g} s") from exc

    async def _take(self, line: bytes, heard_s: float) -> None:
        """Take one entry, or a heartbeat; whatever does not fit is looked up in the log."""
        if self.newest is None:
            return
        if not line.strip():
            if line == HEARTBEAT:
                self._freshness.confirm(self.newest.number, heard_s)
            return
        entry = Entry.decode(line)
        if entry.number == self.newest.number + 1:
            state = self.newest.apply(entry)
            self._heard.note(state)
            await self._advance(state)
            self._freshness.confirm(entry.number, heard_s)
        elif entry.number > self.newest.number:
            self._poll_now.set()

    def _set_connected(self, connected: bool) -> None:
        if connected == self.push_connected:
            return
        self.push_connected = connected
        self._metrics.push_connected.set(connected)
        self._poll_now.set()
        if connected:
            self.push_away_since = None
            self.why.pop("push", None)
            self._patience_ends_s, self._was_patient = 0.0, False
            log.info("push connected")

    def _note(self, source: str, reason: str) -> None:
        self._metrics.follow_errors.labels(source).inc()
        if source == "push" and time.monotonic() < self._patience_ends_s:
            if not self._was_patient:
                log.info("waiting for the primary", reason=reason)
            self._was_patient = True
        elif self.why.get(source) != reason or (source == "push" and self._was_patient):
            log.warning("following failed", source=source, reason=reason)
            self._was_patient = self._was_patient and source != "push"
        self.why[source] = reason


async def split_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Give the lines of a stream without their newlines; an unfinished last line is dropped.

    Raises:
        LogError: A line is longer than ``MAX_LINE_BYTES``.
    """
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > MAX_LINE_BYTES:
            raise LogError(f"the primary sends a line longer than {MAX_LINE_BYTES} bytes")
