"""``headrace watch``: a folder whose files are pushed as they are finished.

Events only say where to look: what is done follows from what is there and what was pushed. So an
event too many does nothing, and one that was lost is found by looking at everything.
"""

from __future__ import annotations

import asyncio
import math
import signal
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from headrace.backoff import Pauses
from headrace.errors import HeadraceError, NotAllowedError, RemoteError
from headrace.exits import Exit
from headrace.names import safe_database_name
from headrace.remote import wording
from headrace.remote.display import Screen
from headrace.remote.files import check_name, item_of
from headrace.remote.folder import ANYTHING, Folder
from headrace.remote.remembered import Pushed, Remembered, watch_of
from headrace.remote.sending import Sending, Terms
from headrace.remote.server import connected
from headrace.remote.sources import CHANGED, sha256_of
from headrace.remote.unfinished import UnfinishedUploads
from headrace.remote.withdrawing import Withdrawing

if TYPE_CHECKING:
    import os
    from collections.abc import Coroutine, Mapping
    from pathlib import Path

    from headrace.remote.folder import Change

SETTLED_S = 2.0  # without a change, of a file that was found and not heard of: it may be written
GONE_S = 0.5  # for a file to come back: editors move the old one away before they write the new
LOOK_S = 0.5  # at the longest, from one look at what is due to the next
LOOK_AT_LEAST_S = 0.02
FIRST_PAUSE_S = 2.0  # after a deletion that was refused
MOST_PAUSE_S = 300.0
_WITHDRAWING = "/"  # no name of a file
_UNKNOWN = "unauthorized"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be done with a folder.

    Attributes:
        root: The folder.
        fields: The options of each upload.
        mirror_deletes: Whether a table goes with its file.
        jobs: How many files are sent at once.
        as_json: Whether a script reads.
    """

    root: Path
    fields: Mapping[str, str]
    mirror_deletes: bool
    jobs: int
    as_json: bool


async def watch(url: str, token: str | None, wanted: Wanted) -> Exit:
    """Push what is finished in a folder, until SIGTERM or Ctrl-C.

    Raises:
        HeadraceError: The folder is gone, or watched already; or the token is not known.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    remembered = Remembered(watch_of(url, wanted.root, wanted.fields))
    terms = Terms(wait="published", retry_for_s=math.inf, timeout_s=None)
    with remembered.locked(), Screen(url, as_json=wanted.as_json) as screen:
        async with connected(url, token) as server:
            with Folder(wanted.root) as folder:
                sending = Sending(server, UnfinishedUploads(), terms, screen)
                withdrawing = Withdrawing(server, screen)
                watching = _Watching(
                    wanted=wanted,
                    folder=folder,
                    remembered=remembered,
                    sending=sending,
                    withdrawing=withdrawing,
                    screen=screen,
                )
                await watching.run(stop)
    return Exit.DONE


class _Watching:
    """One folder that is watched."""

    def __init__(
        self,
        *,
        wanted: Wanted,
        folder: Folder,
        remembered: Remembered,
        sending: Sending,
        withdrawing: Withdrawing,
        screen: Screen,
    ) -> None:
        self._withdrawing = withdrawing
        self._wanted = wanted
        self._folder = folder
        self._remembered = remembered
        self._sending = sending
        self._screen = screen
        self._pushed = remembered.read()
        self._due_s: dict[str, float] = {}  # when a file is to be looked at, by its name
        self._unheard: dict[str, int] = {}  # how old a file is that was found, and not heard of
        self._running: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[int, int]] = {}  # how big, how old what failed is
        self._places = asyncio.Semaphore(wanted.jobs)
        self._woken = asyncio.Event()
        self._pauses = Pauses(FIRST_PAUSE_S, MOST_PAUSE_S)

    async def run(self, stop: asyncio.Event) -> None:
        """Push what is new until a stop."""
        self._look_everywhere()
        self._screen.say(f"watching {self._wanted.root}: {len(self._pushed)} files were pushed")
        listening = asyncio.create_task(self._listen())
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                for task in (listening, *self._running.values()):
                    if task.done():
                        task.result()
                self._do_what_is_due()
                waking = asyncio.create_task(self._woken.wait())
                await asyncio.wait(
                    [waking, stopping, listening],
                    timeout=self._idle_s(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                waking.cancel()
                self._woken.clear()
        finally:
            tasks: list[asyncio.Task[Any]] = [listening, stopping, *self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _idle_s(self) -> float:
        """Say for how long nothing is due, as far as that is known."""
        now_s = time.monotonic()
        # What is overdue waits for a task that runs: its end wakes this.
        upcoming_s = min((at_s for at_s in self._due_s.values() if at_s > now_s), default=math.inf)
        return min(max(upcoming_s - now_s, LOOK_AT_LEAST_S), LOOK_S)

    async def _listen(self) -> None:
        while True:
            change = await self._folder.next_change()
            if change is not None:
                self._take(change)
                self._woken.set()

    def _take(self, change: Change) -> None:
        if change is ANYTHING:
            self._look_everywhere()
        elif change.name is not None:
            self._unheard.pop(change.name, None)
            self._due_s[change.name] = time.monotonic() + (GONE_S if change.is_gone else 0.0)

    def _look_everywhere(self) -> None:
        """Find what is new, without having heard of it.

        Raises:
            HeadraceError: Everything is gone at once, and would be deleted.
        """
        found = self._folder.list_files()
        if self._wanted.mirror_deletes and self._pushed and not found:
            raise HeadraceError(
                f"all {len(self._pushed)} files of {self._wanted.root} are gone at once",
                hint="is it mounted? Their tables are kept: delete them one by one, or put a file "
                "there",
            )
        now_s, now_at_s = time.monotonic(), time.time()
        for name in found:
            status = self._folder.find(name)
            if status is not None:
                self._unheard[name] = status.st_mtime_ns
                settled_s = status.st_mtime + SETTLED_S - now_at_s
                self._due_s.setdefault(name, now_s + min(max(settled_s, 0.0), SETTLED_S))
        for name in self._pushed.keys() - found:
            self._due_s.setdefault(name, now_s + GONE_S)

    def _do_what_is_due(self) -> None:
        self._running = {name: task for name, task in self._running.items() if not task.done()}
        if _WITHDRAWING in self._running:
            return
        now_s = time.monotonic()
        gone = []
        for name in sorted(name for name, at_s in self._due_s.items() if at_s <= now_s):
            if name in self._running:
                continue
            status = self._folder.find(name)
            if status is None:
                gone.append(name)
            elif self._may_be_unfinished(name, status):
                self._due_s[name] = now_s + SETTLED_S
            else:
                del self._due_s[name]
                if self._is_new(name, status):
                    self._start(name, self._push(name, status))
        # What is renamed is there under its new name before it is gone under the old one.
        if gone and not self._running:
            self._start(_WITHDRAWING, self._withdraw(gone))

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._running[name] = asyncio.create_task(work)
        self._running[name].add_done_callback(lambda _task: self._woken.set())

    def _may_be_unfinished(self, name: str, status: os.stat_result) -> bool:
        """Say whether a file that was not heard of has changed since it was found."""
        before = self._unheard.pop(name, None)
        if before is None or before == status.st_mtime_ns:
            return False
        self._unheard[name] = status.st_mtime_ns
        return True

    def _is_new(self, name: str, status: os.stat_result) -> bool:
        seen = (status.st_size, status.st_mtime_ns)
        pushed = self._pushed.get(name)
        if not status.st_size or self._failed.get(name) == seen:
            return False
        return pushed is None or (pushed.size, pushed.mtime_ns) != seen

    async def _push(self, name: str, status: os.stat_result) -> None:
        """Push a file, unless it only looks new.

        Raises:
            NotAllowedError: The token is not known (any more).
        """
        async with self._places:
            path = self._wanted.root / name
            seen = (status.st_size, status.st_mtime_ns)
            try:
                sha256 = await asyncio.to_thread(sha256_of, path)
                before = self._pushed.get(name)
                if before is not None and before.sha256 == sha256:
                    self._note(name, replace(before, size=seen[0], mtime_ns=seen[1]))
                    return
                item = item_of(path, shown=name, filename=path.name, fields=self._fields_of(name))
            except OSError:  # gone, or not readable any more: its end is told, or it is new then
                return
            self._screen.begun(item)
            try:
                check_name(name)
                receipt = await self._sending.send(item)
            except RemoteError as exc:
                self._screen.failed(item, exc)
                if _is_unknown(exc):
                    raise
                if exc.code == CHANGED:
                    self._due_s[name] = time.monotonic() + SETTLED_S
                else:
                    self._failed[name] = seen
                return
            self._screen.done(item, receipt)
            if receipt["state"] == "failed":
                self._failed[name] = seen
                return
            self._note(
                name,
                Pushed(
                    size=item.size or 0,
                    mtime_ns=item.mtime_ns,
                    sha256=receipt["sha256"],
                    database=receipt["database"],
                    tables=tuple(table["name"] for table in receipt["tables"]),
                ),
            )
            self._due_s.setdefault(name, time.monotonic())  # it may be another one by now

    def _note(self, name: str, pushed: Pushed) -> None:
        self._failed.pop(name, None)
        self._pushed[name] = pushed
        self._remembered.note(name, pushed)

    def _fields_of(self, name: str) -> dict[str, str]:
        """Give the options of a file: a folder in the folder is a database."""
        folder, slash, _file = name.rpartition("/")
        fields = dict(self._wanted.fields)
        return {**fields, "database": safe_database_name(folder)} if slash else fields

    async def _withdraw(self, names: list[str]) -> None:
        """Take back what files made that are gone; what is refused is tried again.

        Raises:
            NotAllowedError: The token is not known (any more).
        """
        for name in names:
            if self._folder.find(name) is not None:  # it is back, and still due
                continue
            del self._due_s[name]
            self._failed.pop(name, None)
            pushed = self._pushed.get(name)
            if pushed is None:
                continue
            try:
                if self._wanted.mirror_deletes:
                    await self._mirror(name, pushed)
            except RemoteError as exc:
                self._screen.say(f"headrace: {name} is gone, but {wording.failure(exc)}")
                if _is_unknown(exc):
                    raise
                self._due_s[name] = time.monotonic() + self._pauses.next_s()
            else:
                self._pauses.reset()
                del self._pushed[name]
                self._remembered.forget(name)

    async def _mirror(self, name: str, pushed: Pushed) -> None:
        # If it comes back when some of its tables are deleted, it is new, whatever its time says.
        self._note(name, replace(pushed, size=0, sha256=""))
        others = [each for other, each in self._pushed.items() if other != name]
        await self._withdrawing.withdraw(name, pushed, others)


def _is_unknown(exc: RemoteError) -> bool:
    """Say whether the token is not known (any more)."""
    return isinstance(exc, NotAllowedError) and exc.code == _UNKNOWN
