"""Warming workers before a switch."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from headrace.errors import Refusal
from headrace.generation import Cut, State
from serve.cache import Address, Key, PageCache
from serve.configuration import Configuration
from serve.depends import Dependencies
from serve.edge import WARM_AT_ONCE, WARM_TIMEOUT_S, WARM_URLS, Edge
from serve.limits import ClientLimit, Gate
from serve.metrics import ReaderMetrics
from serve.pages import Pages
from serve.upstream import Answer, Upstream
from tests.unit.loop_kit import now_s, run

AT = datetime(2026, 11, 22, tzinfo=UTC)
CUT = Cut(lineage="aa" * 8, txid=1, page_size=4096, pages=2, tables={}, updated_at=AT, source=None)
FIRST = State(number=1, epoch=1, created_at=AT, databases={"sales": CUT, "weather": CUT})
SECOND = replace(FIRST, number=2, databases={**FIRST.databases, "sales": replace(CUT, txid=2)})


class Answered(Answer):
    """A page of 7 bytes."""

    def __init__(self) -> None:
        headers = CIMultiDictProxy(CIMultiDict({"Content-Type": "text/html"}))
        self.response: Any = SimpleNamespace(status=200, headers=headers, content_length=7)

    async def read(self, _at_most_bytes: int, _within_s: float) -> bytes:
        """Give it."""
        return b"a page\n"

    def close(self) -> None:
        """Do nothing: there is no connection."""


class Datasette(Upstream):
    """Stands for the way to the workers, which are processes. A page takes its time, or fails."""

    def __init__(self, takes_s: float, failures: dict[str, Exception]) -> None:
        super().__init__(Gate(100), Gate(100), per_worker=4, timeout_s=60.0)
        self.asked: list[str] = []
        self.inside = self.most_inside = 0
        self._takes_s = takes_s
        self._failures = failures

    async def ask(  # type: ignore[override] # nothing else of a question matters here
        self, _held: Any, _method: str, target: str, *_: Any
    ) -> Answer:
        """Make a page."""
        self.asked.append(target)
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await asyncio.sleep(self._takes_s)
        finally:
            self.inside -= 1
        if target in self._failures:
            raise self._failures[target]
        return Answered()


class Warming:
    """An edge that was asked for some pages, the first of them most."""

    def __init__(
        self,
        targets: list[str],
        *,
        takes_s: float = 0.001,
        failures: dict[str, Exception] | None = None,
    ) -> None:
        self.datasette = Datasette(takes_s, failures or {})
        self.metrics = ReaderMetrics("test")
        self.cache = PageCache(10**7, perf_counter, lambda: None)
        pages = Pages(self.cache, self.datasette, ClientLimit(0), self.metrics)
        for n, target in enumerate(reversed(targets)):
            for _ in range(n + 2):
                pages.heat.count(Address("http", "x", target))
        others: Any = None  # warming needs none of them
        self.edge = Edge(
            others,
            others,
            pages=pages,
            status_pages=others,
            ingest=others,
            rows=others,
            callers=others,
            staleness=others,
            metrics=self.metrics,
            reads=others,
        )

    async def warm(self, state: State) -> list[str]:
        """Warm a set that serves a generation; give what was asked of its workers."""
        self.datasette.asked.clear()
        held: Any = SimpleNamespace(dependencies=Dependencies(state, Configuration()))
        await self.edge.warm(held)
        return list(self.datasette.asked)

    def kept(self, state: State) -> list[str]:
        """List the pages of a generation that are in memory."""
        depends = Dependencies(state, Configuration())
        return [
            address.target
            for address in self.edge.pages.heat.hottest(1000)
            if self.cache.find(Key(address, depends.find_token(address.target) or ""), "")
        ]

    @property
    def counted(self) -> float | None:
        """The metric."""
        return self.metrics.registry.get_sample_value("headrace_reader_cache_warmed_total")


def test_warm_renders_the_hottest_pages_first() -> None:
    """What people want most is there at the switch: a few at once, and no more than said."""
    targets = [f"/sales/orders?n={n}" for n in range(WARM_URLS + 10)]
    warming = Warming(targets)

    assert run(warming.warm(FIRST)) == targets[:WARM_URLS]
    assert warming.kept(FIRST) == targets[:WARM_URLS]
    assert warming.counted == WARM_URLS
    assert warming.datasette.most_inside == WARM_AT_ONCE


def test_warm_renders_only_what_is_new() -> None:
    """Pages that the new generation shows as they were are not made again."""
    warming = Warming(["/", "/weather", "/sales", "/weather/days.json", "/sales/orders.json"])
    run(warming.warm(FIRST))

    assert run(warming.warm(SECOND)) == ["/", "/sales", "/sales/orders.json"]
    assert run(warming.warm(SECOND)) == []


def test_warm_gives_up_what_is_not_done_in_time() -> None:
    """The switch waits no longer than it was told, and nothing goes on behind it."""
    targets = [f"/sales/orders?n={n}" for n in range(WARM_URLS)]
    warming = Warming(targets, takes_s=WARM_TIMEOUT_S / 4.5)

    async def main() -> float:
        await warming.warm(FIRST)
        ended_s = now_s()
        await asyncio.sleep(0)
        assert warming.datasette.inside == 0
        return ended_s

    assert run(main()) == pytest.approx(WARM_TIMEOUT_S)
    assert warming.kept(FIRST) == targets[: 4 * WARM_AT_ONCE]


def test_warm_goes_on_after_a_page_that_fails() -> None:
    """A page that cannot be made is made when somebody asks for it; the switch goes on."""
    failures = {
        "/sales/refused": Refusal("overloaded", "too many requests wait"),
        "/sales/defect": ValueError("what nobody thought of"),
    }
    warming = Warming(["/sales/refused", "/sales/defect", "/sales/orders"], failures=failures)

    assert len(run(warming.warm(FIRST))) == 3
    assert warming.kept(FIRST) == ["/sales/orders"]
    assert warming.counted == 1
