"""What every tier of tests shares: a real S3 server, waiting for conditions."""

from __future__ import annotations

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
