"""What every tier of tests shares: waiting for conditions, ports that the kernel picks."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, TypeVar

import pytest

from tests.integration.s3_kit import s3_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.s3_kit import S3

Found = TypeVar("Found")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Give a real S3 server, which is started when the first test asks for it."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def wait_for(look: Callable[[], Found | None], *, timeout_s: float = 20.0) -> Found:
    """Look until there is something to see; the deadline is for broken programs, not slow ones."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"nothing after {timeout_s} s: {look}")
        time.sleep(0.01)


def free_ports(offsets: list[int]) -> int:
    """Find a port that is free, together with the ports at some offsets from it."""
    for _attempt in range(200):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            base: int = listener.getsockname()[1]
        if base + max(offsets) < 65536 and all(_is_free(base + offset) for offset in offsets):
            return base
    pytest.fail("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
