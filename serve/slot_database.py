"""A slot as a Datasette database, with connections that can be closed.

Datasette keeps one connection a thread for each *name*, for ever: after a switch it would answer
from the old file, and with 1,000 databases it would hold 3,000 files open. Here connections belong
to the slot: they are closed with it, and those not in use are bounded in number.

Source: datasette 0.65.5, ``datasette/database.py``, ``Database.execute_fn``; 1.0a41,
``Database._execute_fn``.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from datasette.database import Database
from datasette.utils.sqlite import sqlite3

from serve.restless import MAKING, find_restless_views, is_restless, names_any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from datasette.app import Datasette
    from datasette.database import Results

VIEWS = "SELECT name, sql FROM sqlite_master WHERE type = 'view'"
IDLE_AT_MOST = 256  # connections of a worker that no query uses; each may cache 2 MB of pages


class SlotConnections:
    """The connections of all slots of one worker that no query uses, the latest used last."""

    def __init__(self, idle_at_most: int = IDLE_AT_MOST) -> None:
        self._idle_at_most = idle_at_most
        self._idle: OrderedDict[sqlite3.Connection, SlotDatabase] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def lent(self, slot: SlotDatabase) -> Iterator[sqlite3.Connection]:
        """Lend a connection for one query; called in Datasette's threads."""
        with self._lock:
            slot.check_open()
            connection = slot.idle.pop() if slot.idle else None
            if connection is not None:
                del self._idle[connection]
        if connection is None:
            connection = slot.connect_prepared()
        try:
            yield connection
        finally:
            self._give_back(slot, connection)

    def close(self, slot: SlotDatabase) -> None:
        """Close a slot's connections now, and those in use when their query ends."""
        with self._lock:
            slot.closed = True
            unused, slot.idle = slot.idle, []
            for connection in unused:
                del self._idle[connection]
        for connection in unused:
            connection.close()

    def _give_back(self, slot: SlotDatabase, connection: sqlite3.Connection) -> None:
        unused = []
        with self._lock:
            if slot.closed:
                unused.append(connection)
            else:
                slot.idle.append(connection)
                self._idle[connection] = slot
            while len(self._idle) > self._idle_at_most:
                oldest, owner = self._idle.popitem(last=False)
                owner.idle.remove(oldest)
                unused.append(oldest)
        for each in unused:
            each.close()


class SlotDatabase(Database):  # type: ignore[misc] # Datasette has no types
    """One slot, immutable while it is attached.

    Attributes:
        idle: Its connections that no query uses; guarded by the lock of ``SlotConnections``.
        closed: It is not attached any more.
    """

    def __init__(
        self, datasette: Datasette, name: str, path: Path, connections: SlotConnections
    ) -> None:
        super().__init__(datasette, path=str(path), is_mutable=False)
        self.name = self.route = name
        self.idle: list[sqlite3.Connection] = []
        self.closed = False
        self._connections = connections
        self._restless_views: frozenset[str] | None = None

    async def execute(self, sql: str, params: Any = None, *args: Any, **options: Any) -> Results:
        """Run SQL, and note if an answer is made of what it gives that nobody may keep."""
        making = MAKING.get()
        if making is not None and not making.restless:
            making.restless = await self._is_restless(sql, params)
        return await super().execute(sql, params, *args, **options)

    async def _is_restless(self, sql: str, params: Any) -> bool:
        if self._restless_views is None:
            views = await self.execute_fn(lambda connection: dict(connection.execute(VIEWS)))
            self._restless_views = find_restless_views(views)
        values = params.values() if isinstance(params, Mapping) else params or ()
        return is_restless(sql, values) or names_any(sql, self._restless_views)

    async def execute_fn(self, fn: Callable[[sqlite3.Connection], Any]) -> Any:
        """Run a function on a connection, in one of Datasette's threads if it has some."""
        if self.ds.executor is None:
            return self.execute_here(fn)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.ds.executor, self.execute_here, fn)

    _execute_fn = execute_fn  # what 1.0 runs SQL by

    def execute_here(self, fn: Callable[[sqlite3.Connection], Any]) -> Any:
        """Run a function on a connection, in the thread that calls."""
        with self._connections.lent(self) as connection:
            return fn(connection)

    def connect_prepared(self) -> sqlite3.Connection:
        """Open a connection that belongs to ``SlotConnections``."""
        connection = self.connect()
        self._opened().remove(connection)
        self.ds._prepare_connection(connection, self.name)  # noqa: SLF001 - as Datasette does
        return connection

    def _opened(self) -> list[sqlite3.Connection]:
        """Give Datasette's list of connections that it closes with the database."""
        opened: list[sqlite3.Connection]
        if hasattr(self, "_all_connections"):
            opened = self._all_connections
        else:
            opened = self._all_file_connections  # 0.65
        return opened

    def check_open(self) -> None:
        """Raise sqlite3.ProgrammingError if it is not attached any more."""
        if self.closed:
            raise sqlite3.ProgrammingError(f"the database {self.name} is not attached any more")

    def close(self) -> None:
        """Close all connections, also those that a plugin has opened."""
        self._connections.close(self)
        super().close()
