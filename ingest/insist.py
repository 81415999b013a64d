"""What must be done in the end is tried until it is; what was begun is waited for."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, TypeVar

import structlog

from headrace.backoff import Pauses

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = structlog.get_logger()

FIRST_RETRY_S = 0.1
MAX_RETRY_S = 5.0

Done = TypeVar("Done")


async def insist(
    ask: Callable[[], Awaitable[Done]],
    failure: type[Exception] | tuple[type[Exception], ...],
    event: str,
    **facts: str,
) -> Done:
    """Ask, again after each failure, with pauses that double; the event is logged each time."""
    pauses = Pauses(FIRST_RETRY_S, MAX_RETRY_S)
    while True:
        try:
            return await ask()
        except failure as exc:
            retry_s = pauses.next_s()
            log.warning(event, **facts, error=str(exc), retry_in_s=round(retry_s, 2))
        await asyncio.sleep(retry_s)


async def try_hard(ask: Callable[[], Awaitable[Done]], receipt_id: str) -> Done:
    """Do what is not refused any more to an upload, also on a disk that is full for a while."""
    failures = (sqlite3.Error, OSError)
    return await insist(ask, failures, "upload delayed", receipt=receipt_id)


async def to_end(function: Callable[..., Done], *arguments: object, **options: object) -> Done:
    """Call in a thread what writes into a database; also if that is cancelled, wait for its end."""
    calling = asyncio.create_task(asyncio.to_thread(function, *arguments, **options))
    try:
        return await asyncio.shield(calling)
    except asyncio.CancelledError:
        await asyncio.gather(calling, return_exceptions=True)
        raise
