"""A newcomer: a fresh clone, an empty home, nothing installed, and the README."""

from __future__ import annotations

import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.guide_kit import ROOT, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(600)  # seconds; registries take their time


def test_newcomer_sees_a_csv_of_his_own(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Who clones and types what the README shows sees what it shows; how long that took is said.

    The goal is less than three minutes.
    """
    clone, home = tmp_path / "clone", tmp_path / "home"
    home.mkdir()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    for name in listed.stdout.decode().split("\0")[:-1]:
        if (ROOT / name).is_file():  # one that is about to be deleted is not
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)

    started = time.time()
    # The folder that `run` puts first holds what is installed for the tests.
    before = f"unset PIP_CACHE_DIR SSL_CERT_FILE; export HOME={home} PATH=${{PATH#*:}}"
    run("README.md", clone, of=ROOT, before=before, timeout_s=500)
    took_s = time.time() - started
    installing_s = (clone / ".venv" / "run.stamp").stat().st_mtime - started
    record_property("seconds from a fresh clone to the first table", round(took_s))
    record_property("seconds of them installing", round(installing_s))
