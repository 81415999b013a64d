"""Waiting for a generation: a person who uploaded sees the new data, on every reader."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headrace.errors import Refusal

if TYPE_CHECKING:
    from multidict import MultiMapping

HEADER = "Headrace-Min-Generation"
COOKIE = "headrace_min_generation"
COOKIE_AGE_S = 600  # longer than any reader is behind; then it only costs bytes
_MAX_DIGITS = 18


class Arrivals:
    """Tells those who wait that a generation is in service."""

    def __init__(self) -> None:
        self._newest = -1
        self._waiting: set[asyncio.Future[None]] = set()

    def announce(self, generation: int) -> None:
        """Say that a generation is in service now."""
        self._newest = generation
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, generation: int, timeout_s: float) -> bool:
        """Wait until a generation or a newer one is in service; False if it is not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._newest < generation:
                    future = asyncio.get_running_loop().create_future()
                    self._waiting.add(future)
                    try:
                        await future
                    finally:
                        self._waiting.discard(future)
        except TimeoutError:
            return False
        return True


def read_min_generation(headers: MultiMapping[str]) -> int:
    """Give the generation that a request wants to see at least; 0 without a wish.

    Raises:
        Refusal: ``bad-request``: the header is no number. A cookie that is none is ignored.
    """
    text = headers.get(HEADER)
    if text is not None:
        if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
            raise Refusal("bad-request", f"{HEADER} is not a generation's number")
        return int(text)
    for pair in _read_cookies(headers).split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE and value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
            return int(value)
    return 0


def personal_cookies(headers: MultiMapping[str]) -> str:
    """Give a request's cookies without the one that is ours: it says nothing about who asks."""
    cookies = _read_cookies(headers)
    if COOKIE not in cookies:
        return cookies
    kept = [pair.strip() for pair in cookies.split(";")]
    return "; ".join(pair for pair in kept if pair and pair.partition("=")[0] != COOKIE)


def min_generation_cookie(generation: int) -> str:
    """Give the ``Set-Cookie`` that lets a browser wait for what it has uploaded.

    Without ``HttpOnly``: it is no secret, and a script (``upload_page/browser/follow.js``) could
    not set it again, once it is there. Source: RFC 6265, section 5.3, step 11.2.
    """
    return f"{COOKIE}={generation}; Path=/; Max-Age={COOKIE_AGE_S}; SameSite=Lax"


def _read_cookies(headers: MultiMapping[str]) -> str:
    """Give all cookies, also those of a second header: it must not slip by."""
    return "; ".join(headers.getall("Cookie", []))
