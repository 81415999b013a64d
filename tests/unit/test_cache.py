"""The page cache's own rules: what goes, what stays, what is hot."""

from __future__ import annotations

import brotli
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from serve.cache import Address, Heat, Key, PageCache
from serve.cache_rules import (
    MAX_AGE_S,
    REVALIDATE,
    find_keeping,
    is_streamed,
    passing_cache_control,
)
from serve.encoding import choose_coding, compress, is_worth_compressing
from serve.page import OVERHEAD_BYTES, Page, matches


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Read it."""
        return self.now_s


def make_page(size: int = 1000, *, accept: str | None = None, max_age_s: float = 60.0) -> Page:
    """Make a page with a body of a size."""
    return Page(
        status=200,
        headers=[("Content-Type", "text/html")],
        content_type="text/html",
        body=b"x" * size,
        cache_control=REVALIDATE,
        vary=[],
        accept=accept,
        rendered_at_s=0.0,
        max_age_s=max_age_s,
    )


def key(target: str) -> Key:
    """Make a key."""
    return Key(Address("http", "x", target), "1")


def test_cache_takes_no_entry_above_8_mib_or_an_eighth() -> None:
    """No answer takes the place of all others, however large the cache is."""
    for cache_bytes, entry_bytes in ((2**20, 2**17), (2**26, 2**23), (2**30, 2**23), (0, 0)):
        cache = PageCache(cache_bytes, Clock(), lambda: None)
        assert cache.entry_at_most_bytes == entry_bytes


def test_cache_over_its_size_drops_what_was_used_longest_ago() -> None:
    """The bytes are bounded, and what people ask for stays."""
    evicted: list[None] = []
    weight = make_page().size_bytes
    cache = PageCache(3 * weight, Clock(), lambda: evicted.append(None))
    for name in "abc":
        cache.put(key(name), make_page())
    cache.find(key("a"), "")
    cache.put(key("d"), make_page())

    assert [name for name in "abcd" if cache.find(key(name), "")] == ["a", "c", "d"]
    assert cache.size_bytes == 3 * weight
    assert len(evicted) == 1


def test_cache_counts_every_coding_of_a_page() -> None:
    """A page that is compressed weighs more, and makes room for itself."""
    cache = PageCache(4 * OVERHEAD_BYTES, Clock(), lambda: None)
    page = make_page(2000)
    cache.put(key("old"), make_page(1000))
    cache.put(key("a"), page)
    before = page.size_bytes
    page.add("gzip", b"y" * 1999)
    cache.grown(key("a"), page, page.size_bytes - before)

    assert cache.find(key("old"), "") is None
    assert cache.size_bytes == page.size_bytes == OVERHEAD_BYTES + 2000 + 1999


def test_cache_never_holds_a_page_larger_than_itself() -> None:
    """What does not fit is not kept, and pushes nothing out."""
    cache = PageCache(10_000, Clock(), lambda: None)
    cache.put(key("a"), make_page())
    cache.put(key("huge"), make_page(20_000))

    assert cache.find(key("huge"), "") is None
    assert cache.find(key("a"), "") is not None


def test_cache_replaces_a_page_without_counting_it_twice() -> None:
    """The same key again weighs once."""
    cache = PageCache(100_000, Clock(), lambda: None)
    for _ in range(3):
        cache.put(key("a"), make_page())

    assert cache.size_bytes == make_page().size_bytes
    assert len(cache) == 1


def test_cache_forgets_a_page_at_its_age() -> None:
    """A page that may show the time is rendered again."""
    clock = Clock()
    cache = PageCache(100_000, clock, lambda: None)
    cache.put(key("a"), make_page(max_age_s=10.0))
    clock.now_s = 9.9
    assert cache.find(key("a"), "") is not None
    clock.now_s = 10.0
    assert cache.find(key("a"), "") is None
    assert cache.size_bytes == 0


def test_cache_keeps_a_page_for_each_accept() -> None:
    """Only where an answer varies by Accept, there is one for each."""
    cache = PageCache(100_000, Clock(), lambda: None)
    html, json = make_page(accept="text/html"), make_page(accept="application/json")
    cache.put(key("a"), html)
    assert cache.find(key("a"), "application/json") is None
    cache.put(key("a"), json)

    assert cache.find(key("a"), "text/html") is html
    assert cache.find(key("a"), "application/json") is json


def test_heat_lists_what_was_asked_for_most_in_the_last_minutes() -> None:
    """What was hot long ago is not warmed any more."""
    clock = Clock()
    heat = Heat(clock)
    a, b, c = (Address("http", "x", name) for name in "abc")
    for address in (a, a, a, b, Address("http", "x", "asked for once")):
        heat.count(address)
    clock.now_s = 181.0
    for address in (b, b, b, c, c):
        heat.count(address)

    assert heat.hottest(2) == [b, a]
    clock.now_s = 362.0
    assert heat.hottest(9) == [b, c]
    clock.now_s = 2000.0
    assert heat.hottest(9) == []


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "br"),
        ("br;q=0.5, gzip;q=0.8", "gzip"),
        ("GZIP;Q=1", "gzip"),
        ("x-gzip", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("gzip;q=0", "identity"),
        ("*", "br"),
        ("*;q=0.1, br;q=0", "gzip"),
        ("identity, gzip;q=0.5", "identity"),
        ("identity;q=0, *;q=0", "identity"),
        ("gzip;q=oops", "identity"),
        ("deflate", "identity"),
    ],
)
def test_coding_is_the_one_the_client_weighs_most(accepted: str | None, coding: str) -> None:
    """Weights decide, then our order; what is refused is never sent."""
    assert choose_coding(accepted) == coding


def test_compressed_bodies_can_be_read() -> None:
    """What a client unpacks is the page; small bodies and pictures are left as they are."""
    assert brotli.decompress(compress("br", b"abc" * 500)) == b"abc" * 500
    assert is_worth_compressing("application/json; charset=utf-8", 1000)
    assert is_worth_compressing("application/geo+json", 1000)
    assert not is_worth_compressing("text/html", 100)
    assert not is_worth_compressing("image/png", 100_000)


@pytest.mark.parametrize(
    ("header", "same"),
    [('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("", False)],
)
def test_if_none_match_is_compared_as_the_specification_says(header: str, same: bool) -> None:
    """A list, a weak tag and `*` all count."""
    assert matches(header, '"a"') is same


@pytest.mark.parametrize(
    ("headers", "age_s"),
    [
        ({}, MAX_AGE_S),
        ({"Cache-Control": "max-age=5"}, MAX_AGE_S),
        ({"Cache-Control": "max-age=60"}, 60.0),
        ({"Cache-Control": "max-age=60, s-maxage=10"}, 10.0),
        ({"Cache-Control": "max-age=86400"}, MAX_AGE_S),
        ({"Vary": "Cookie, Authorization, Accept-Encoding"}, MAX_AGE_S),
        ({"Cache-Control": "max-age=0"}, None),
        ({"Cache-Control": "no-cache"}, None),
        ({"Cache-Control": "Private=x"}, None),
        ({"Cache-Control": "no-store"}, None),
        ({"Set-Cookie": "a=1"}, None),
        ({"Vary": "*"}, None),
        ({"Vary": "User-Agent"}, None),
        ({"Content-Encoding": "gzip"}, None),
    ],
)
def test_answer_is_kept_as_long_as_it_allows(headers: dict[str, str], age_s: float | None) -> None:
    """What Datasette or a plugin forbids is not done."""
    keeping = find_keeping(200, CIMultiDictProxy(CIMultiDict(headers)))

    assert (keeping and keeping.max_age_s) == age_s
    assert find_keeping(404, CIMultiDictProxy(CIMultiDict())) is not None
    assert find_keeping(500, CIMultiDictProxy(CIMultiDict())) is None


def test_requests_for_streams_are_told_by_their_target() -> None:
    """Exports without end are passed through."""
    assert is_streamed("/a/b.csv?_stream=1")
    assert is_streamed("/a/b.csv?x=1&_stream=on")
    assert not is_streamed("/a/b.csv?q=_stream")


def test_answer_to_a_person_is_said_to_be_private() -> None:
    """No cache on the way keeps what somebody got who showed who he is."""
    assert passing_cache_control("max-age=5", personal=True) == "private, no-store"
    assert passing_cache_control("private, max-age=9", personal=True) == "private, max-age=9"
    assert passing_cache_control("max-age=5", personal=False) == "no-cache"
    assert passing_cache_control(None, personal=False) is None
