"""The faults, all of them mixed: whatever is broken, I1 to I8 survive.

FAULT_SEEDS and FAULT_SECONDS make it longer, or another one. A seed that is even runs over S3, an
odd one on a folder.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.faults.run import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.s3_kit import S3

SEEDS = [int(seed) for seed in os.environ.get("FAULT_SEEDS", "1 2").split()]
SECONDS = float(os.environ.get("FAULT_SECONDS", "30"))


@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize("seed", SEEDS)
def test_system_under_faults_keeps_every_invariant(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seed: int,
) -> None:
    """Kills, pauses, cuts, full disks, lost volumes and a second primary lose nothing."""
    s3: S3 | None = None
    if seed % 2 == 0:
        s3 = request.getfixturevalue("s3")
        s3.give_credentials(monkeypatch)
    outcome = run(tmp_path, seed=seed, seconds=SECONDS, s3=s3)
    with capsys.disabled():
        print(f"\nseed {seed}, {SECONDS:g} s, {'S3' if s3 else 'folder'}: {outcome}")  # noqa: T201
    assert outcome.violations == [], f"FAULT_SEEDS={seed} repeats it"
    assert outcome.kills > 0
    assert outcome.generations > 0
    assert outcome.counted["read ok"] > 0
