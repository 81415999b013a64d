"""What runs beside everything else, and ends the primary if it fails."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine


@asynccontextmanager
async def background(
    work: Coroutine[Any, Any, None], on_failure: Callable[[BaseException], None]
) -> AsyncIterator[None]:
    """Run a part of the primary while the block runs; say so if it fails."""

    def look(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (exc := task.exception()) is not None:
            on_failure(exc)

    task = asyncio.create_task(work)
    task.add_done_callback(look)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
