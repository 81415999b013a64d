"""A child process that is kept running: restarted with backoff, stopped with grace."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from headrace.backoff import Pauses
from headrace.leash import leashed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

log = structlog.get_logger()

FIRST_BACKOFF_S = 0.2  # seconds before the first restart; doubled for each next one
MAX_BACKOFF_S = 10.0
STABLE_AFTER_S = 30.0  # a child that ran so long is restarted at once
GRACE_S = 20.0  # from SIGTERM to SIGKILL


class Child:
    """One supervised program.

    Args:
        name: For the log.
        command: Program and arguments.
        env: Its whole environment.
        on_exit: Called after each end that was not asked for, with the exit code.
        grace_s: Gives the time from SIGTERM to SIGKILL, when it is stopped.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        on_exit: Callable[[int], None] = lambda _code: None,
        grace_s: Callable[[], float] = lambda: GRACE_S,
    ) -> None:
        self.name = name
        self.starts = 0
        self._command = leashed(*command)
        self._env = dict(env)
        self._on_exit = on_exit
        self._grace_s = grace_s
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    def hurry(self) -> None:
        """Ask it once more to end, while it is being stopped."""
        if self.pid is not None and self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    async def run(self) -> None:
        """Keep it running until cancelled; then stop it."""
        pauses = Pauses(FIRST_BACKOFF_S, MAX_BACKOFF_S)
        loop = asyncio.get_running_loop()
        while True:
            started_at = loop.time()
            code = await self._run_once()
            if loop.time() - started_at > STABLE_AFTER_S:
                pauses.reset()
            pause_s = pauses.next_s()
            log.warning(
                "child ended", child=self.name, exit_code=code, restart_in_s=round(pause_s, 2)
            )
            self._on_exit(code)
            await asyncio.sleep(pause_s)

    async def _run_once(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            process_group=0,  # a Ctrl-C in the terminal is for the parent, which stops it in order
        )
        self.starts += 1
        try:
            return await self._process.wait()
        except asyncio.CancelledError:
            await stop_process(self._process, grace_s=self._grace_s())
            raise


async def stop_process(process: asyncio.subprocess.Process, *, grace_s: float = GRACE_S) -> None:
    """Ask a process to end, and kill it if it has not within the grace; returns when it is gone."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), grace_s)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
