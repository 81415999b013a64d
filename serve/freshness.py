"""How long ago a generation was last known to be the newest: staleness.

The log says so by having no next entry, and the primary by its heartbeats on the push stream. A
reader that serves generation 5 while 6 is brought up is as stale as its last news before 6.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.generation import State
    from serve.clock import Clock

log = structlog.get_logger()

KEEP_EVERY_S = 30.0
REMEMBERED = 1000  # generations between the one in service and the newest


class Freshness:
    """Knows when each generation was last known to be the newest.

    Args:
        clock: Goes on while the machine is suspended.
        path: Where the last news is kept for a restart; None: nowhere.

    Attributes:
        clock: As given.
    """

    def __init__(self, clock: Clock, path: Path | None = None) -> None:
        self.clock = clock
        self._path = path
        self._known_s: dict[int, float] = {}  # ascending, in both
        self._news = asyncio.Event()
        self._read()

    def confirm(self, number: int, at_s: float) -> None:
        """Take note that a generation was the newest at a time of the clock."""
        newest = next(reversed(self._known_s), -1)
        if number < newest:
            return
        if number > newest and len(self._known_s) >= REMEMBERED:
            del self._known_s[newest]  # the new one is known since later: staleness is overstated
        self._known_s[number] = max(at_s, self._known_s.get(number, at_s))
        self._news.set()
        self._news = asyncio.Event()

    def staleness_s(self, served: State) -> float:
        """Give how long ago the generation in service was last known to be the newest.

        It is asked for generations that never go back. One that was never known to be the newest
        was so when it was published.
        """
        now_s = self.clock.now_s()
        number = served.number
        if next(iter(self._known_s), None) != number:
            self._forget_before(number)
        since_s = self._known_s.get(number)
        if since_s is None:
            age_s = (
                0.0 if served.created_at is None else time.time() - served.created_at.timestamp()
            )
            since_s = now_s - max(age_s, 0.0)
            self._known_s = {number: since_s, **self._known_s}
        return max(now_s - since_s, 0.0)

    async def wait_news(self) -> None:
        """Wait until some generation is known to be the newest."""
        await self._news.wait()

    async def run(self) -> None:
        """Keep the last news, until cancelled."""
        try:
            while True:
                await asyncio.sleep(KEEP_EVERY_S)
                self._write()
        finally:
            self._write()

    def _read(self) -> None:
        """Take note of what was known before this process was; a wrong clock makes that older."""
        if self._path is None:
            return
        try:
            document = json.loads(self._path.read_text())
            number, at = int(document["generation"]), float(document["known_at"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as exc:
            log.warning("last news not read", reason=str(exc))
            return
        self.confirm(number, self.clock.now_s() - max(time.time() - at, 0.0))

    def _write(self) -> None:
        if self._path is None or not self._known_s:
            return
        number, known_s = next(reversed(self._known_s.items()))
        known_at = time.time() - (self.clock.now_s() - known_s)
        part = self._path.with_name(f"{self._path.name}.part")
        try:  # not fsynced: what a power cut leaves is only older
            part.write_text(json.dumps({"generation": number, "known_at": known_at}))
            part.replace(self._path)
        except OSError as exc:
            log.warning("last news not kept", reason=str(exc))

    def _forget_before(self, number: int) -> None:
        """Leave one for a generation and all before it: what came later was newest for longer."""
        before = [known_s for each, known_s in self._known_s.items() if each <= number]
        after = {each: known_s for each, known_s in self._known_s.items() if each > number}
        self._known_s = {number: max(before), **after} if before else after
