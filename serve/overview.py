"""What the status page shows, put together out of what this reader, the log and the primary say.

Times are those of events, so a document stays the same for as long as nothing happens: who has one
of the same version has all there is to see.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from headrace import __version__
from headrace.generation import format_time
from serve.cities import name_region
from serve.flight import Flights
from serve.seen_regions import describe_generations, describe_regions
from serve.troubles import find_troubles

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

    from serve.follow import Follower
    from serve.primary_look import PrimaryLook, Seen
    from serve.recent import Brief, RecentGenerations
    from serve.staleness import Staleness
    from serve.switch import Supervisor

log = structlog.get_logger()

LOOK_EVERY_S = 2.0  # while somebody watches
LEAST_PAUSE_S = 0.5  # between two looks, however many generations come


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What there is to see.

    Attributes:
        document: As JSON.
        version: Of its content.
    """

    document: Mapping[str, Any]
    version: str


class Overview:
    """Knows what there is to see, and tells those who watch when it changes.

    However many watch, the primary and the store are asked as if there were one; if nobody does,
    they are asked for nothing.

    Args:
        region: Where this reader is.
        follower: Knows the newest generation.
        supervisor: Knows what is in service.
        staleness: Knows how stale that is.
        recent: Reads the last generations.
        primary: Asks the primary.

    Attributes:
        watchers: How many watch.
    """

    def __init__(
        self,
        region: str,
        *,
        follower: Follower,
        supervisor: Supervisor,
        staleness: Staleness,
        recent: RecentGenerations,
        primary: PrimaryLook,
    ) -> None:
        self._region = region
        self._follower = follower
        self._supervisor = supervisor
        self._staleness = staleness
        self._recent = recent
        self._primary = primary
        self._looks: Flights[str, Sight] = Flights(lambda _: None)
        self._stale_since: datetime | None = None
        self.watchers = 0
        self._watched = asyncio.Event()
        self._version = ""
        self._changed = asyncio.Event()

    async def look(self) -> Sight:
        """Look; all who do so at the same time see the same."""
        return await self._looks.join("", self._look)

    async def watch(self) -> AsyncGenerator[str]:
        """Give the version, now and whenever it has changed."""
        with self._counted():
            version = (await self.look()).version
            while True:
                yield version
                while self._version in {version, ""}:
                    await self._changed.wait()
                version = self._version

    async def run(self) -> None:
        """Look for those who watch, until cancelled."""
        while True:
            await self._watched.wait()
            shown = self._supervisor.generation
            try:
                await self.look()
            except Exception:  # the reader serves on, whatever it is
                log.exception("status not seen")
            await asyncio.sleep(LEAST_PAUSE_S)
            await self._supervisor.arrivals.wait(shown + 1, LOOK_EVERY_S - LEAST_PAUSE_S)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.watchers += 1
        self._watched.set()
        try:
            yield
        finally:
            self.watchers -= 1
            if not self.watchers:
                self._watched.clear()

    async def _look(self) -> Sight:
        known = self._follower.newest
        seen, recent = await asyncio.gather(
            self._primary.look(), self._recent.read(0 if known is None else known.number)
        )
        document = self._describe(seen, recent)
        text = json.dumps(document, sort_keys=True)
        version = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        if version != self._version:
            self._version = version
            self._changed.set()
            self._changed = asyncio.Event()
        return Sight(document=document, version=version)

    def _describe(self, seen: Seen, recent: Sequence[Brief]) -> dict[str, Any]:
        reader = self._describe_reader()
        primary = _describe_primary(seen, self._follower.push_away_since)
        newest = max(reader["newest"] or 0, (seen.said or {}).get("generation", 0))
        regions = describe_regions(seen, recent, reader, newest)
        return {
            "reader": reader,
            "primary": primary,
            "regions": regions,
            "generations": describe_generations(recent, regions),
            "troubles": [asdict(each) for each in find_troubles(reader, primary, regions)],
        }

    def _describe_reader(self) -> dict[str, Any]:
        current, newest = self._supervisor.current, self._follower.newest
        failure = self._supervisor.last_error
        crash = current and current.last_crash
        return {
            "version": __version__,
            "region": self._region,
            "city": name_region(self._region),
            "generation": current and current.state.number,
            "published_at": _format(current.state.created_at if current else None),
            "shown_since": _format(self._supervisor.switched_at),
            "newest": newest and newest.number,
            "databases": len(current.state.databases) if current else 0,
            "workers": len(current.workers) if current else 0,
            "stale_since": _format(self._find_stale_since()),
            "log_error": self._follower.why.get("log"),
            "failure": failure
            and {
                "generation": failure.generation,
                "message": failure.message,
                "step": failure.step.value,
            },
            "crash": crash and {"message": crash.message, "at": format_time(crash.at)},
        }

    def _find_stale_since(self) -> datetime | None:
        """Say since when nobody has told this reader that it is up to date; the same each time."""
        if not self._staleness.told_s():
            self._stale_since = None
        elif self._stale_since is None:
            self._stale_since = datetime.now(UTC) - timedelta(seconds=self._staleness.now_s())
        return self._stale_since


def _describe_primary(seen: Seen, push_away_since: datetime | None) -> dict[str, Any]:
    said = seen.said or {}
    return {
        "known": seen.said is not None,
        "away_since": _format(seen.find_away_since(push_away_since)),
        "said_at": _format(seen.said_at) if seen.away_since else None,
        **{
            name: said.get(name)
            for name in (
                "region",
                "epoch",
                "lease_held",
                "lease_taken_at",
                "lease_duration_s",
                "litestream_up",
                "stopping",
            )
        },
    }


def _format(at: datetime | None) -> str | None:
    return None if at is None else format_time(at)
