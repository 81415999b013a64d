"""Which places are looked at, as the settings say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.errors import ConfigError
from headrace.keys import INCOMING_ROOT
from headrace.store import Store
from ingest.buckets.folder import FolderPlace
from ingest.buckets.place import ObjectPlace

if TYPE_CHECKING:
    from headrace.config import IngestSettings
    from headrace.store_counts import StoreCounts
    from ingest.buckets.place import Place

KEEP, MOVE = "keep", "move"
INTERVAL_S = 120.0  # each look is a LIST: as often as uploads are looked for that readers took
FOLDER_INTERVAL_S = 2.0  # costs nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A place, and what is done there.

    Attributes:
        place: Where it is.
        moves: Whether files are moved away when they were taken.
        mirrors: Whether deletions are followed.
        interval_s: Between two looks; 0: only when an event comes, and at the start.
        is_ours: Whether it is our own ``incoming/``, where readers put uploads as well.
    """

    place: Place
    moves: bool
    mirrors: bool
    interval_s: float
    is_ours: bool = False

    @property
    def sees_readers(self) -> bool:
        """Whether its looks find as well, and as often, what readers took while we were away."""
        often = 0 < self.interval_s <= INTERVAL_S
        return self.is_ours and self.place.is_atomic and often


def make_watched(settings: IngestSettings, store: Store) -> list[Watched]:
    """Give what is looked at: our own ``incoming/``, and what ``--watch`` says.

    Raises:
        ConfigError: It cannot be.
    """
    if settings.after_taking not in {KEEP, MOVE}:
        raise ConfigError(
            f"cannot use --after-taking {settings.after_taking!r}: there are {KEEP} and {MOVE}"
        )
    moves = settings.after_taking == MOVE
    mirrors = settings.mirror_deletes and not moves
    if settings.mirror_deletes and not (mirrors and settings.watch):
        raise ConfigError(
            "cannot use --mirror-deletes: what is moved away when it was taken is not deleted",
            hint="it is for what --watch names, with --after-taking keep",
        )
    own = _watched(store, INCOMING_ROOT, moves=True, mirrors=False, settings=settings, is_ours=True)
    others = []
    for url in settings.watch:
        watched = Store(url, _shared_counts(store, url))
        if _overlap(watched.url, store.url):
            raise ConfigError(
                f"cannot watch {watched.url}: Headrace keeps its own files there",
                hint="drop files under incoming/ in the store, or watch another prefix",
            )
        others.append(_watched(watched, "", moves=moves, mirrors=mirrors, settings=settings))
    urls = [each.place.url for each in others]
    for url in urls:
        if any(_overlap(url, other) for other in urls if other is not url):
            raise ConfigError(f"cannot watch {url} twice")
    return [own, *others]


def _watched(
    store: Store,
    prefix: str,
    *,
    moves: bool,
    mirrors: bool,
    settings: IngestSettings,
    is_ours: bool = False,
) -> Watched:
    place: Place
    if store.folder is not None:
        folder = store.folder / prefix
        folder.mkdir(parents=True, exist_ok=True)
        place = FolderPlace(folder, moves=moves)
        default_s = FOLDER_INTERVAL_S
    else:
        place, default_s = ObjectPlace(store, prefix), INTERVAL_S
    asked_s = settings.incoming_interval
    return Watched(
        place=place,
        moves=moves,
        mirrors=mirrors,
        interval_s=default_s if asked_s is None else asked_s,
        is_ours=is_ours,
    )


def _shared_counts(store: Store, url: str) -> StoreCounts | None:
    """Have what is asked of a bucket of the same kind counted along with the store's own."""
    return store.counts if url.partition(":")[0] == store.url.partition(":")[0] else None


def _overlap(one: str, other: str) -> bool:
    first, second = f"{one.rstrip('/')}/", f"{other.rstrip('/')}/"
    return first.startswith(second) or second.startswith(first)
