"""One worker as the reader sees it: its process, the connections to it, its orders."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from serve.control import give_order

if TYPE_CHECKING:
    from serve.nursery import Fork
    from serve.worker_spec import WorkerSpec

TERMINATE_S = 5.0  # from SIGTERM to SIGKILL


class Worker:
    """One worker and the connections to it."""

    def __init__(self, fork: Fork, spec: WorkerSpec) -> None:
        self.fork = fork
        self.in_flight = 0  # requests that it is answering
        self.avoid_until_s = 0.0  # it did not answer in time; on the clock of perf_counter
        self.session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(spec.socket), limit=0),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0),
            raise_for_status=False,
        )
        self._spec = spec

    async def order(self, order: dict[str, Any], timeout_s: float) -> None:
        """Give it an order (control.py).

        Raises:
            WorkerError: It has not obeyed.
        """
        await give_order(self._spec.control, order, timeout_s)

    async def stop(self, *, at_once: bool = False) -> None:
        """End it: SIGTERM, unless at once, then SIGKILL, until it is gone."""
        signals = (signal.SIGKILL,) if at_once else (signal.SIGTERM, signal.SIGKILL)
        try:
            for signal_number in signals:
                self.fork.kill(signal_number)
                with suppress(TimeoutError):
                    async with asyncio.timeout(TERMINATE_S):
                        await self.fork.ended.wait()
                    break
        finally:
            await self.session.close()
        for path in (self._spec.socket, self._spec.control, self._spec.internal):
            path.unlink(missing_ok=True)


def read_memory_bytes(pid: int) -> int | None:
    """Give the proportional set size of a process; None if it is gone, or the kernel has none.

    Pages that forks share are counted once for all of them. Source: proc(5), smaps_rollup.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    return int(text.partition("\nPss:")[2].split()[0]) * 1024
