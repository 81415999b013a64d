"""Taking back what a file made, when it is gone: its tables, and a database without any left."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import quote

from headrace.errors import RefusedError, UnreachableError
from headrace.remote.insisting import Insisting
from headrace.remote.server import decode_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from headrace.remote.display import Screen
    from headrace.remote.remembered import Pushed
    from headrace.remote.server import Server

_MISSING = "not-found"


class Withdrawing:
    """Deletes tables of one server.

    Args:
        server: Where they are.
        screen: Shows what is done.
    """

    def __init__(self, server: Server, screen: Screen) -> None:
        self._server = server
        self._screen = screen

    async def withdraw(self, name: str, pushed: Pushed, others: Sequence[Pushed]) -> None:
        """Delete the tables of a file that no other file of the folder made, too.

        Args:
            name: Of the file.
            pushed: What it made.
            others: What the others made.

        Raises:
            RemoteError: It was refused; some of them may be deleted.
        """
        kept = {
            table for other in others if other.database == pushed.database for table in other.tables
        }
        for table in pushed.tables:
            if table not in kept:
                await self._delete(pushed.database, table)
                self._screen.say(f"{name} is gone: {pushed.database}/{table} is deleted")
        if await self._is_empty(pushed.database):
            await self._delete(pushed.database)
            self._screen.say(f"{name} is gone: {pushed.database} is deleted")

    async def _delete(self, *names: str) -> None:
        """Delete a table or a database; one that is not there is deleted.

        Raises:
            RemoteError: It was refused.
        """
        path = "/ingest/databases/" + "/".join(quote(name, safe="") for name in names)
        try:
            await self._ask("DELETE", path)
        except RefusedError as exc:
            if exc.code != _MISSING:
                raise

    async def _is_empty(self, database: str) -> bool:
        status = decode_document((await self._ask("GET", "/ingest/status")).text)
        found = status["databases"].get(database)
        return found is not None and not found["tables"]

    async def _ask(self, method: str, path: str) -> httpx.Response:
        insisting = Insisting(math.inf)
        while True:
            try:
                return await self._server.ask(method, path)
            except UnreachableError as exc:
                await insisting.pause(exc)
