"""Orders of the reader to one running worker: a Unix socket, one order a connection.

The reader writes a JSON object and ends its side; the worker answers with ``{}`` when it has
obeyed, or with ``{"failed": "…"}``, and closes. If no answer comes, the worker is gone::

    {"dress": {…}}                   serve other databases from now on (change.py)
    {"rest": {}}                     hold no slot open until the next request
    {"finish": {"within_s": 30}}     answer when no request is being answered

Light to import, because both sides use it.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from headrace.errors import HeadraceError, WorkerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


async def give_order(control: Path, order: dict[str, Any], timeout_s: float) -> None:
    """Give a worker an order and wait until it has obeyed.

    Raises:
        WorkerError: It has not.
    """
    [name] = order
    try:
        async with asyncio.timeout(timeout_s):
            body = await asyncio.to_thread(lambda: json.dumps(order).encode())
            answer = await _exchange(control, body)
    except TimeoutError as exc:
        raise WorkerError(f"the worker did not {name} within {timeout_s:g} s") from exc
    except OSError as exc:
        raise WorkerError(f"the worker did not {name}: {exc}") from exc
    if not answer:
        raise WorkerError(f"the worker did not {name}: it has ended")
    if "failed" in (answered := json.loads(answer)):
        raise WorkerError(f"the worker did not {name}: {answered['failed']}")


async def _exchange(control: Path, body: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(control))
    try:
        writer.write(body)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


@asynccontextmanager
async def answering(
    control: Path, obey: Callable[[dict[str, Any]], Awaitable[None]]
) -> AsyncIterator[None]:
    """Obey orders while the block runs."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answered = await _obey(await reader.read(), obey)
            writer.write(json.dumps(answered).encode())
            await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, str(control))
    try:
        yield
    finally:
        server.close()


async def _obey(body: bytes, obey: Callable[[dict[str, Any]], Awaitable[None]]) -> dict[str, str]:
    try:
        await obey(json.loads(body))
    except TimeoutError:
        return {"failed": "requests are still being answered"}
    except HeadraceError as exc:
        return {"failed": str(exc)}
    except Exception as exc:  # noqa: BLE001 - the reader logs it, and replaces the worker
        return {"failed": f"{type(exc).__name__}: {exc}"}
    return {}
