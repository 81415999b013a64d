"""Plugins are asked whether a file is theirs in a process that can be ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingest.converters.registry import Converter
from ingest.recognising import ask_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[2]
FUNCTIONS = """
import os, re, time
def no(head, text): return False
def yes(head, text): print("noise"); return text == "é" and head == text.encode()
def torn(head, text): raise ValueError(text)
def hangs(head, text): return re.match("(a+)+b", "a" * 64) is not None  # with Python's lock
def ends(head, text): os._exit(0)
def forks(head, text):
    if os.fork() == 0:
        time.sleep(600)
    return False
"""


@pytest.fixture
def ask(tmp_path: Path) -> Callable[[Sequence[str]], tuple[str | None, list[tuple[str, str]]]]:
    """Give a function that asks some functions; it gives who said yes, and who failed how."""
    (tmp_path / "asked_plugin.py").write_text(FUNCTIONS)
    path = f"{ROOT}{os.pathsep}{tmp_path}"

    def run(names: Sequence[str]) -> tuple[str | None, list[tuple[str, str]]]:
        failed: list[tuple[str, str]] = []
        found = ask_apart(
            [
                Converter(name=name, convert="a:b", recognise=f"asked_plugin:{name}")
                for name in names
            ],
            "é".encode(),
            "é",
            lambda converter, exc: failed.append((converter.name, str(exc))),
            environment=lambda: {"PATH": os.defpath, "PYTHONPATH": path},
            timeout_s=3.0,
        )
        return found, failed

    return run


def test_plugin_that_says_yes_first_gets_the_file(
    ask: Callable[[Sequence[str]], tuple[str | None, list[tuple[str, str]]]],
) -> None:
    """What raised is passed over and named, what comes after the answer is not asked."""
    assert ask(["no", "torn", "yes", "hangs"]) == ("yes", [("torn", "ValueError")])
    assert ask(["no"]) == (None, [])


@pytest.mark.parametrize("broken", ["hangs", "ends", "forks"])
def test_plugin_that_does_not_come_back_is_passed_over(
    ask: Callable[[Sequence[str]], tuple[str | None, list[tuple[str, str]]]], broken: str
) -> None:
    """One that never ends, or ends its process, keeps nobody from being asked after it."""
    found, failed = ask(["no", broken, "yes"])
    assert found == "yes"
    assert [name for name, _ in failed] == ([] if broken == "forks" else [broken])
