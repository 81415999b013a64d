"""What every tier of tests shares: a real S3 server, waiting for conditions."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import settings

from tests.integration.ceph_kit import ceph_server
from tests.integration.s3_kit import s3_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _pytest.terminal import TerminalReporter

    from tests.integration.s3_kit import S3

Found = TypeVar("Found")

# All is plain HTTP here. Reading the certificates of every authority that the machine knows costs
# each process 0.07 s, and each client of httpx 0.04 s, which a test that polls makes anew. (In the
# file is one whose key was thrown away.)
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("no-authority.pem"))

SERVERS = {"seaweedfs": s3_server, "ceph": ceph_server}


# An example takes as long as a busy machine makes it.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark what needs an S3 server, so that it can be run on another one alone."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if "s3" in item.fixturenames or "s3" in parameters:
            item.add_marker("s3")


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print what tests measured: their properties."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Give a real S3 server, which is started when the first test asks for it."""
    run = SERVERS[os.environ.get("HEADRACE_TEST_S3", "seaweedfs")]
    with run(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give a store of each kind."""
    if request.param == "folder":
        return str(tmp_path / "store")
    server: S3 = request.getfixturevalue("s3")
    server.give_credentials(monkeypatch)
    return server.url(server.make_bucket())


def wait_for(look: Callable[[], Found | None], *, timeout_s: float = 20.0) -> Found:
    """Look until there is something to see; the deadline is for broken programs, not slow ones."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.01  # ever longer: each look takes time of a core from what is waited for
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"nothing after {timeout_s} s: {look}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.25, 0.1)
