"""``headrace push``: several files at once, each with its receipt."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headrace.errors import RemoteError, UnreachableError
from headrace.exits import Exit, exit_of
from headrace.remote.display import Screen
from headrace.remote.files import check_name
from headrace.remote.sending import Sending
from headrace.remote.server import connected
from headrace.remote.unfinished import UnfinishedUploads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.remote.files import Item
    from headrace.remote.sending import Terms


async def push(
    url: str, token: str | None, items: Sequence[Item], terms: Terms, *, jobs: int, as_json: bool
) -> Exit:
    """Send files; give how the command ends.

    A file that fails does not keep the others; a server that is not there, or a token that is not
    known, is the end of those that have not begun.

    Args:
        url: Of the server.
        token: None: there is none.
        items: What is sent.
        terms: What holds for all of them.
        jobs: How many at once.
        as_json: Whether a script reads.
    """
    with Screen(url, as_json=as_json) as screen:
        async with connected(url, token) as server:
            pushing = _Pushing(Sending(server, UnfinishedUploads(), terms, screen), screen, jobs)
            async with asyncio.TaskGroup() as group:
                for item in items:
                    group.create_task(pushing.push(item))
    return exit_of(pushing.ends)


class _Pushing:
    """The files of one command.

    Attributes:
        ends: How each ended.
    """

    def __init__(self, sending: Sending, screen: Screen, jobs: int) -> None:
        self.ends: list[Exit] = []
        self._sending = sending
        self._screen = screen
        self._places = asyncio.Semaphore(jobs)
        self._hopeless: RemoteError | None = None

    async def push(self, item: Item) -> None:
        """Send a file when there is a place, and show what became of it."""
        async with self._places:
            self._screen.begun(item)
            try:
                if self._hopeless is not None:
                    raise self._hopeless
                check_name(item.filename)
                receipt = await self._sending.send(item)
            except asyncio.CancelledError:
                self._screen.interrupted(item)
                raise
            except RemoteError as exc:
                if isinstance(exc, UnreachableError) or exc.code == "unauthorized":
                    self._hopeless = exc
                self._screen.failed(item, exc)
                self.ends.append(exc.exit_code)
            else:
                self._screen.done(item, receipt)
                failed = receipt["state"] == "failed"
                self.ends.append(Exit.FAILED if failed else Exit.DONE)
