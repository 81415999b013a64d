"""A rolling restart of everything, under load: nobody notices more than a wait."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import wait_for
from tests.faults.checker import Evidence, check
from tests.faults.clients import BalancedWatcher, Uploader
from tests.faults.history import History
from tests.faults.run import end, prepare, settle
from tests.faults.system import NODES, READERS, START_S, running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.system import System
    from tests.faults.uploads import Part
    from tests.integration.s3_kit import S3

SEED = 5
PRIMARY = NODES[0]
UPLOADS, VISITORS = 2, 2  # clients of each kind


def restart(system: System, name: str) -> None:
    """Stop a process in order, and have it started again."""
    process = system.process(name)
    process.stop(signal.SIGTERM)
    process.wanted = True


def uploaded(history: History) -> int:
    """Count the uploads that were published within their request."""
    return history.count()["upload ok"]


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_rolling_restart_fails_no_read_and_loses_no_upload(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The primary and each reader in turn are stopped by SIGTERM, while others upload and read."""
    s3: S3 | None = None
    if kind == "s3":
        s3 = request.getfixturevalue("s3")
        s3.give_credentials(monkeypatch)
    history = History(tmp_path / "history.jsonl")
    sent: dict[str, Part] = {}
    with running(tmp_path, history, s3, nodes=[PRIMARY], grace_s=1.0) as system:
        prepare(system, SEED, sent)
        threads: list[Uploader | BalancedWatcher] = [
            *(Uploader(system, SEED, number, sent) for number in range(UPLOADS)),
            *(BalancedWatcher(system, SEED, f"visitor-{number}") for number in range(VISITORS)),
        ]
        for thread in threads:
            thread.start()
        try:
            for name in (PRIMARY, *READERS):
                before = uploaded(history)
                wait_for(lambda: uploaded(history) > before)  # noqa: B023 - called here
                restart(system, name)
                if name == PRIMARY:
                    wait_for(lambda: system.primaries, timeout_s=START_S)
                else:
                    wait_for(lambda: system.is_ready(name), timeout_s=START_S)  # noqa: B023
            end(threads[:UPLOADS])
            settle(system)
        finally:
            end(threads)
        entries = system.read_log()
    operations = history.operations()
    history.close()
    assert check(Evidence(operations=operations, entries=entries, sent=sent)) == []
    stopped = {each.process for each in operations if each.f == "exit" and not each.value["code"]}
    assert stopped == {PRIMARY, *READERS}
    counted = history.count()
    assert counted["read ok"] > 0
    assert counted["read fail"] == 0
    # While the primary was restarted, readers took what they were sent.
    codes = {each.value["code"] for each in operations if each.f == "upload"}
    assert "primary-away" not in codes
    readers = {each.value["reader"] for each in operations if each.f == "read"}
    assert readers == set(READERS)
