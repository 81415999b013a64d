"""The processes that make databases anew: as many as there are cores, while there is work."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from headrace.child import stop_process
from headrace.leash import leashed
from ingest.reviver import adopt_request, restore_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from headrace.generation import Cut
    from headrace.store import Store

TIMEOUT_S = 3600.0  # for one request


class Reviver:
    """One such process, while it is somebody's turn."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def restore(self, store: Store, database: str, cut: Cut, output: Path) -> str | None:
        """Make the file of a cut, proven but not fsynced; give why that failed, or None."""
        answer = await self._ask(restore_request(store, database, cut, output))
        store.counts.add(answer.get("asked", {}))
        return _failure_of(answer)

    async def adopt(self, restored: Path, target: Path) -> str | None:
        """Move a file to where a new lineage begins with it; give why that failed, or None."""
        return _failure_of(await self._ask(adopt_request(restored, target)))

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        try:
            async with asyncio.timeout(TIMEOUT_S):
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                await self._process.stdin.drain()
                line = await self._process.stdout.readline()
        except ConnectionError:
            line = b""
        except TimeoutError:
            self._process.kill()
            return {"failure": f"it took longer than {TIMEOUT_S:.0f} s"}
        if not line:
            return {"failure": f"its process ended with {await self._process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer


class Revivers:
    """All of them."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(os.cpu_count() or 1)
        self._idle: list[asyncio.subprocess.Process] = []
        self._callers = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Reviver]:
        """Give one for the block, as soon as there is one; those that nobody wants end."""
        self._callers += 1
        try:
            async with self._turns:
                process = self._idle.pop() if self._idle else await _start()
                try:
                    yield Reviver(process)
                except BaseException:  # it may be in the middle of something
                    await stop_process(process, grace_s=0.5)
                    raise
                if process.returncode is None:
                    self._idle.append(process)
        finally:
            self._callers -= 1
            while self._idle and not self._callers:
                await stop_process(self._idle.pop(), grace_s=0.5)


def _failure_of(answer: dict[str, Any]) -> str | None:
    failure: str | None = answer["failure"]
    return failure


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *leashed(sys.executable, "-m", "ingest.reviver"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
