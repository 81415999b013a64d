"""Looks at the places where files are dropped: now and then, and when an event tells of one."""

from __future__ import annotations

import asyncio
import hmac
import math
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from headrace.backoff import Pauses
from headrace.errors import HeadraceError
from headrace.generation import format_time
from headrace.keys import INCOMING_PREFIX, INCOMING_ROOT
from ingest.buckets.mirror import Mirror
from ingest.buckets.names import is_file
from ingest.buckets.record import (
    Known,
    event_key,
    find_or_make_secret,
    find_taken,
    receipt_id_of,
)
from ingest.buckets.taking import Dropped, Taker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingest.api import Node
    from ingest.buckets.events import BucketEvent
    from ingest.buckets.place import Found
    from ingest.buckets.places import Watched

log = structlog.get_logger()

FIRST_RETRY_S, MAX_RETRY_S = 0.5, 30.0  # when something could not be taken
SETTLE_S = 2.0  # for a file that may still be written to: two looks have to see the same
MAX_TOLD = 1000  # files that events tell of; if they are more, all are looked at


class Watcher:
    """Looks at one place.

    Args:
        node: The primary.
        watched: The place, and what is done there.
        secret: Of the journal.

    Attributes:
        looked_at: When all of it was last seen; None: never.
        failing: Why it could not be looked at; None: it could.
    """

    def __init__(self, node: Node, watched: Watched, secret: str) -> None:
        self.watched = watched
        self.looked_at: datetime | None = None
        self.failing: str | None = None
        self._node = node
        self._place = watched.place
        self._secret = secret
        self._taker = Taker(node, watched.place, moves=watched.moves)
        self._mirror = Mirror(node=node, place=watched.place.url) if watched.mirrors else None
        self._woken = asyncio.Event()
        self._told: set[str] = set()
        self._due_s = 0.0  # of the next look at everything
        self._seen: dict[str, Found] = {}  # files that may still be written
        self._taken: set[str] = set()  # receipts of files that are still there
        self._metrics = node.metrics.buckets
        self._metrics.watch(watched.place.url)

    def tell(self, name: str, *, deleted: bool) -> None:
        """Hear of a file."""
        if not is_file(name, 1):
            return
        if not deleted and len(self._told) < MAX_TOLD:
            self._told.add(name)
        elif not deleted or self._mirror is not None:
            self._due_s = 0.0
            if deleted and self._mirror is not None:
                self._mirror.missed.add(name)
        self._woken.set()

    async def run(self) -> None:
        """Look until cancelled."""
        pauses = Pauses(FIRST_RETRY_S, MAX_RETRY_S)
        try:
            while True:
                await self._node.litestream.up.wait()  # nothing could be kept before
                self._woken.clear()
                if await self._look():
                    pauses.reset()
                else:
                    # What was told of is found by this look as well.
                    self._due_s = _now_s() + pauses.next_s()
                wait_s = self._due_s - _now_s()
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if math.isinf(wait_s) else max(wait_s, 0)):
                        await self._woken.wait()
        finally:
            await self._taker.close()

    async def _look(self) -> bool:
        """Look at what is due; False if something has to be done again."""
        told, self._told = self._told, set()
        try:
            if self._due_s <= _now_s():
                every_s = self.watched.interval_s
                self._due_s = _now_s() + every_s if every_s else math.inf
                return await self._look_at_all()
            found = [await self._place.find(name) for name in sorted(told)]
            return await self._take_all([each for each in found if each is not None])
        except Exception as exc:  # what is dropped here, or told of, must not end the primary
            if not isinstance(exc, (HeadraceError, sqlite3.Error, OSError)):
                log.exception("place not looked at", place=self._place.url)
            self.failing = str(exc)
            self._metrics.look_failures.labels(self._place.url).inc()
            log.warning("place not looked at", place=self._place.url, reason=str(exc))
            return False

    async def _look_at_all(self) -> bool:
        sight = await self._place.look()
        if self.watched.sees_readers and (
            not sight.complete or any(_is_of_readers(each.name) for each in sight.found)
        ):
            self._node.incoming_told.set()  # a reader took uploads: this look is theirs as well
        files = [each for each in sight.found if is_file(each.name, each.size_bytes)]
        done = await self._take_all(files)
        if len(self._taken) > 2 * len(files) + MAX_TOLD:
            self._taken.clear()  # those that are there are found again
        if self._mirror is not None and sight.complete:
            known = await self._mirror.read()
            done &= await self._mirror.follow(known, {each.name for each in sight.found})
        self.looked_at, self.failing = datetime.now(UTC), None
        self._metrics.looked_at.labels(self._place.url).set_to_current_time()
        return done

    async def _take_all(self, files: list[Found]) -> bool:
        """Take those that nobody has taken, oldest first; False if one was left for later."""
        known = await self._mirror.read() if self._mirror is not None else {}
        dropped = [self._dropped(each, known) for each in self._settled(files)]
        ids = [each.receipt_id for each in dropped if each.receipt_id not in self._taken]
        self._taken |= await self._node.journal.look(lambda db: find_taken(db, ids))
        done = True
        for each in sorted(dropped, key=lambda each: (each.found.modified_at, each.found.name)):
            try:
                await self._take(each)
            except HeadraceError as exc:
                log.warning("dropped file left", place=self._place.url, reason=str(exc))
                done = False
            except Exception:  # the others do not wait for it
                log.exception("dropped file left", place=self._place.url)
                done = False
            else:
                await self._note(each, known)
        return done

    async def _take(self, dropped: Dropped) -> None:
        """Take a file; one that was taken before may have to be let go of.

        Raises:
            HeadraceError: It is left for later.
        """
        if dropped.receipt_id not in self._taken:
            await self._taker.take(dropped)
            self._taken.add(dropped.receipt_id)
        elif self.watched.moves:
            self._taker.end(dropped)

    def _settled(self, files: Iterable[Found]) -> list[Found]:
        """Give those files that nobody writes to; a look at the others is due soon."""
        if self._place.is_atomic:
            return list(files)
        seen, self._seen = self._seen, {each.name: each for each in files}
        same = [each for each in self._seen.values() if seen.get(each.name) == each]
        if len(same) < len(self._seen):
            self._due_s = min(self._due_s, _now_s() + min(self.watched.interval_s or 1e9, SETTLE_S))
        return same

    def _dropped(self, found: Found, known: dict[str, Known]) -> Dropped:
        before = known.get(found.name)
        round_ = before.round if before else 0
        return Dropped(
            found=found,
            receipt_id=receipt_id_of(self._secret, self._place.url, found, round_=round_),
        )

    async def _note(self, dropped: Dropped, known: dict[str, Known]) -> None:
        """Write down what is made of a file, where its deletion is to be mirrored."""
        if self._mirror is None:
            return
        before = known.get(dropped.found.name)
        now = Known(receipt_id=dropped.receipt_id, round=before.round if before else 0)
        if now != before:
            await self._mirror.note({dropped.found.name: now})


class Buckets:
    """All places where files are dropped.

    Args:
        watched: What is looked at.

    Attributes:
        confirm_url: What a person has to open, so that Amazon SNS sends events; None: nothing.
    """

    def __init__(self, watched: Iterable[Watched]) -> None:
        self.confirm_url: str | None = None
        self._watched = tuple(watched)
        self._watchers: tuple[Watcher, ...] = ()
        self._event_key = ""

    async def run(self, node: Node) -> None:
        """Look at all places until cancelled."""
        secret = await node.journal.change(find_or_make_secret)
        self._event_key = event_key(secret)
        self._watchers = tuple(Watcher(node, each, secret) for each in self._watched)
        async with asyncio.TaskGroup() as group:
            for each in self._watchers:
                group.create_task(each.run())

    @property
    def sees_readers(self) -> bool:
        """Whether these looks find what readers took while we were away, too."""
        return any(each.sees_readers for each in self._watched)

    def allows(self, key: str) -> bool:
        """Say whether somebody who knows this may tell of events."""
        sent, own = key.encode("utf-8", "surrogateescape"), self._event_key.encode()
        return bool(own) and hmac.compare_digest(sent, own)

    def tell(self, events: Iterable[BucketEvent]) -> int:
        """Hear of events; say how many of them are about a place that is looked at."""
        count = 0
        for event in events:
            for each in self._watchers:
                name = each.watched.place.name_of(event.bucket, event.key)
                if name is not None:
                    each.tell(name, deleted=event.deleted)
                    count += 1
        return count

    def describe(self) -> dict[str, Any]:
        """Say what is looked at, and how events are told of."""
        return {
            "path": f"/ingest/events?key={self._event_key}",
            "key": self._event_key,
            "confirm": self.confirm_url,
            "places": [
                {
                    "url": each.watched.place.url,
                    "after_taking": "move" if each.watched.moves else "keep",
                    "mirror_deletes": each.watched.mirrors,
                    "interval_s": each.watched.interval_s,
                    "looked_at": each.looked_at and format_time(each.looked_at),
                    "failing": each.failing,
                }
                for each in self._watchers
            ],
        }


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _is_of_readers(name: str) -> bool:
    return f"{INCOMING_ROOT}/{name}".startswith(f"{INCOMING_PREFIX}/")
