"""The page cache: what was rendered, the last used longest, within a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from heapq import nlargest
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve.page import Page

ENTRY_AT_MOST_BYTES = 8 * 1024**2
ENTRY_SHARE = 8  # no entry is more than this part of the cache
HEAT_WINDOW_S = 180.0
HEAT_URLS = 10_000  # counted in a window


class Address(NamedTuple):
    """What a client asked for. Datasette builds absolute URLs out of scheme and host."""

    scheme: str
    host: str
    target: str  # path and query, byte for byte
    origin: str = ""  # the header: plugins answer CORS by it


class Key(NamedTuple):
    """A page's key: what was asked for, and what the answer depends on."""

    address: Address
    token: str
    accept: str = ""  # only where an answer says that it varies by it


class PageCache:
    """Pages by key, in memory; pure, and for one thread.

    Args:
        max_bytes: Of all bodies in all codings, with an estimate of what comes with them; 0: none.
        clock: Seconds, rising.
        on_evict: Called for each page that makes room.
    """

    def __init__(
        self, max_bytes: int, clock: Callable[[], float], on_evict: Callable[[], None]
    ) -> None:
        self.max_bytes = max_bytes
        self.entry_at_most_bytes = min(ENTRY_AT_MOST_BYTES, max_bytes // ENTRY_SHARE)
        self.size_bytes = 0
        self._clock = clock
        self._on_evict = on_evict
        self._pages: OrderedDict[Key, Page] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pages)

    def find(self, key: Key, accept: str) -> Page | None:
        """Give a page that answers a request, or None."""
        page = self._find(key)
        if page is not None and page.accept is not None and page.accept != accept:
            page = self._find(key._replace(accept=accept))
        return page

    def put(self, key: Key, page: Page) -> None:
        """Keep a page; what was used longest ago makes room."""
        if page.accept is not None and key in self._pages:
            key = key._replace(accept=page.accept)
        self._drop(key)
        if page.size_bytes > self.max_bytes:
            return
        self._pages[key] = page
        self.size_bytes += page.size_bytes
        self._make_room()

    def clear(self) -> None:
        """Forget everything."""
        self._pages.clear()
        self.size_bytes = 0

    def grown(self, key: Key, page: Page, by_bytes: int) -> None:
        """Hear that a page was put into one more coding."""
        if self._pages.get(key) is page:
            self.size_bytes += by_bytes
            self._make_room()
        elif page.accept is not None and not key.accept:
            self.grown(key._replace(accept=page.accept), page, by_bytes)

    def _find(self, key: Key) -> Page | None:
        page = self._pages.get(key)
        if page is None:
            return None
        if self._clock() - page.rendered_at_s >= page.max_age_s:
            self._drop(key)
            return None
        self._pages.move_to_end(key)
        return page

    def _drop(self, key: Key) -> None:
        page = self._pages.pop(key, None)
        if page is not None:
            self.size_bytes -= page.size_bytes

    def _make_room(self) -> None:
        while self.size_bytes > self.max_bytes:
            _, page = self._pages.popitem(last=False)
            self.size_bytes -= page.size_bytes
            self._on_evict()


class Heat:
    """How often each address was asked for in the last minutes.

    Args:
        clock: Seconds, rising.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._now: dict[Address, int] = {}
        self._before: dict[Address, int] = {}
        self._ends_at_s = clock() + HEAT_WINDOW_S

    def count(self, address: Address) -> None:
        """Count one request that the cache could answer, or could have."""
        if self._clock() >= self._ends_at_s:
            self._turn()
        known = self._now.get(address)
        if known is not None:
            self._now[address] = known + 1
        elif len(self._now) < HEAT_URLS:
            self._now[address] = 1

    def hottest(self, count: int) -> list[Address]:
        """List the addresses asked for most, in this window and the one before.

        What was asked for once is not among them: it may never be asked for again, and rendering
        it keeps others waiting.
        """
        if self._clock() >= self._ends_at_s:
            self._turn()
        both = dict(self._before)
        for address, times in self._now.items():
            both[address] = both.get(address, 0) + times
        again = (address for address, times in both.items() if times > 1)
        return nlargest(count, again, key=both.__getitem__)

    def _turn(self) -> None:
        late_s = self._clock() - self._ends_at_s
        self._before = self._now if late_s < HEAT_WINDOW_S else {}
        self._now = {}
        self._ends_at_s = self._clock() + HEAT_WINDOW_S
