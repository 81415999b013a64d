"""The reader tells the primary which generation it serves; while that is away, the object store."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog

from headrace.errors import HeadraceError
from headrace.keys import reader_key
from headrace.lock import find_or_make_identity

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.place import Place
    from headrace.store import Store
    from serve.switch import Supervisor

log = structlog.get_logger()

HEARTBEAT_S = 10.0  # the primary forgets a reader after 30
LEAVE_S = 1.0  # for the primary to hear that this reader stops, which it may do as well
TO_STORE_EVERY_S = 60.0  # at most; a put costs money

_TIMEOUT = aiohttp.ClientTimeout(total=5.0)


class Reporter:
    """Reports after every switch, and now and then.

    Args:
        supervisor: Knows what is served.
        session: For requests to the primary.
        primary: Its URL.
        store: Takes the report while the primary is away.
        place: Where this reader is.
        id_file: Keeps this reader's id.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        session: aiohttp.ClientSession,
        primary: str,
        store: Store,
        *,
        place: Place,
        id_file: Path,
    ) -> None:
        self._supervisor = supervisor
        self._session = session
        self._url = f"{primary.rstrip('/')}/-/readers"
        self._store = store
        self._place = place
        self._id = find_or_make_identity(id_file)
        self._stored_s = -TO_STORE_EVERY_S
        self._stopping = False

    async def leave(self) -> None:
        """Tell the primary that this reader stops: so nobody takes it for one that has crashed."""
        self._stopping = True
        if self._supervisor.generation >= 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self._tell(self._document(self._supervisor.generation))

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            generation = self._supervisor.generation
            if generation >= 0:
                await self._report(generation)
            await self._supervisor.arrivals.wait(generation + 1, HEARTBEAT_S)

    async def _report(self, generation: int) -> None:
        document = self._document(generation)
        if await self._tell(document):
            return
        now_s = asyncio.get_running_loop().time()
        if now_s - self._stored_s < TO_STORE_EVERY_S:
            return
        self._stored_s = now_s
        try:
            await self._store.replace(reader_key(self._id), json.dumps(document).encode())
        except HeadraceError as exc:
            log.warning("report not kept", reason=str(exc))

    async def _tell(self, document: dict[str, Any]) -> bool:
        """Tell the primary; False if it does not hear."""
        try:
            async with self._session.post(self._url, json=document, timeout=_TIMEOUT) as answer:
                return answer.ok
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    def _document(self, generation: int) -> dict[str, Any]:
        document = {"reader": self._id, **asdict(self._place), "generation": generation}
        return {**document, "stopping": True} if self._stopping else document
