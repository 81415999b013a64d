"""What is installed: locked, of known licences, and without known vulnerabilities."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tests.audit import judge

ROOT = Path(__file__).parents[2]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)(.*(?:\n    .*)*)", re.MULTILINE)
APART = {"keyring"}  # of an extra: who has none of it keeps tokens in a file
# What may be passed on with a program under Apache-2.0.
PERMISSIVE = {
    "3-Clause BSD License",
    "Apache License, Version 2.0",
    "Apache Software License",
    "Apache-2.0",
    "BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "MIT",
    "MIT License",
    "MPL-2.0",  # for files of their own; we change none
    "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0",
    "Public Domain",
    "Python Software Foundation License",
}


def read_pins(lock: str) -> dict[str, str]:
    """Read which version of each package is locked."""
    return {name: version for name, version, _ in PIN.findall((ROOT / lock).read_text())}


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_has_a_hash_for_every_package_and_names_no_address(lock: str) -> None:
    """What is installed is what was locked, from wherever it comes."""
    text = (ROOT / lock).read_text()
    assert "://" not in text
    pins = PIN.findall(text)
    assert len(pins) > 1
    assert all("--hash=sha256:" in rest for _, _, rest in pins)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-build.lock"])
def test_tests_run_with_the_versions_that_run_elsewhere(lock: str) -> None:
    """What the tests install holds the same versions as what everybody installs."""
    tested = {**read_pins("requirements-build.lock"), **read_pins("requirements-dev.lock")}
    assert read_pins(lock).items() <= tested.items()


def test_all_that_is_imported_is_installed_everywhere() -> None:
    """No setting needs a package that the image, or who ran `make run`, does not have."""
    packages = packages_distributions()
    imported = {
        name.partition(".")[0]: path.name
        for folder in ("headrace", "ingest", "serve")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in _names_of(node)
    }
    others = imported.keys() - sys.stdlib_module_names - {"headrace", "ingest", "serve"}
    locked = read_pins("requirements.lock").keys() | APART
    of = {name: {re.sub("[._]", "-", each.lower()) for each in packages[name]} for name in others}
    assert {name: imported[name] for name, given in of.items() if not given & locked} == {}


def _names_of(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module]
    return [each.name for each in node.names] if isinstance(node, ast.Import) else []


def test_every_dependency_has_a_licence_that_lets_it_be_passed_on() -> None:
    """No package that runs with Headrace asks for more than to be named."""
    packages = read_pins("requirements.lock").keys()
    command = [sys.executable, "-m", "piplicenses", "--from", "mixed", "--format", "json"]
    asked = [*command, "--with-system", "--packages", *packages]
    answer = subprocess.run(asked, capture_output=True, text=True, check=True)
    found = {each["Name"]: each["License"] for each in json.loads(answer.stdout)}
    assert len(found) >= len(packages) - 3  # some are for other Pythons and systems
    parts = {name: set(re.split(r" AND | OR |; ", text)) for name, text in found.items()}
    assert {name: each for name, each in parts.items() if not each <= PERMISSIVE} == {}


WELL = {"name": "good", "version": "1", "vulns": []}
ILL = {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "new", "skip_reason": "Dependency not found"}


def test_audit_asks_about_everything_that_is_locked() -> None:
    """What builds the image, and what the tests run with, can have vulnerabilities as well."""
    made = ["make", "--dry-run", "audit", "VENV=.venv"]
    said = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [line] = [each for each in said.splitlines() if "tests.audit" in each]
    assert line.partition("tests.audit ")[2].split() == LOCKS


@pytest.mark.parametrize(
    ("dependencies", "well", "said"),
    [
        ([WELL], True, "1 packages without a known vulnerability"),
        ([WELL, UNKNOWN], True, "nothing is known of new"),
        ([UNKNOWN], True, "NOT DONE: nobody answered about any of 1 packages"),
        ([WELL, ILL, UNKNOWN], False, "bad 2: PYSEC-1, mended in ['3']"),
    ],
)
def test_audit_tells_no_answer_from_a_good_one(
    dependencies: list[dict[str, Any]], well: bool, said: str
) -> None:
    """An index that knows nothing of vulnerabilities is not taken for one that knows of none."""
    fine, text = judge({"dependencies": dependencies})
    assert fine is well
    assert said in text
