"""The Dockerfile, as its linter reads it, and what it copies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


def test_dockerfile_has_no_fault_that_hadolint_knows() -> None:
    """The linter finds nothing, and the base is fixed by its digest."""
    hadolint = Path(sys.executable).with_name("hadolint")
    ended = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
    bases = [line.split() for line in DOCKERFILE.read_text().splitlines() if line[:5] == "FROM "]
    stages = {line[-1] for line in bases if "AS" in line}
    assert all(line[1] in stages or "@sha256:" in line[1] for line in bases)


def test_what_is_copied_is_not_ignored() -> None:
    """`.dockerignore` leaves out all but what the Dockerfile copies."""
    lines = DOCKERFILE.read_text().splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ")]
    copied = {name for names in copies if "--from" not in names[0] for name in names}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
