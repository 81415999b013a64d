"""The tutorials, the README, and what an explanation shows, run word by word."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.e2e.test_howto import DOWN, UP
from tests.guide_kit import DOCS, ROOT, TUTORIAL, run

if TYPE_CHECKING:
    from pathlib import Path

EXPLANATION = DOCS / "explanation"
NEEDED = ("Makefile", "pyproject.toml", "requirements.lock", "requirements-build.lock")


def as_clone(folder: Path) -> Path:
    """Make a folder what a clone of the repository is in which `make run` has installed before."""
    for name in NEEDED:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(f"{sys.prefix}/bin")
    (folder / ".venv" / "run.stamp").touch()
    return folder


def test_tutorial_of_the_first_upload_works(tmp_path: Path) -> None:
    """Who follows the tutorial sees what it shows, from `make run` to going back."""
    run("first-upload.md", as_clone(tmp_path), of=TUTORIAL)


def test_tutorial_of_three_regions_works(tmp_path: Path) -> None:
    """Who follows the tutorial reads every row in every region, also without the first primary."""
    output = run("three-regions.md", tmp_path, of=TUTORIAL)
    assert '"state": "received"' in output
    assert not list(tmp_path.iterdir())


def test_readme_is_true(tmp_path: Path) -> None:
    """Who types what the README shows sees what it shows."""
    run("README.md", as_clone(tmp_path), of=ROOT)


def test_explanation_of_consistency_is_true(tmp_path: Path) -> None:
    """Who asks for the generation of his upload reads it."""
    run("consistency.md", tmp_path, of=EXPLANATION, before=UP, after=DOWN)
