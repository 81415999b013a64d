"""The command as a process: how it ends."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# A command that has only just asked the store.
ASK = """
import asyncio, sys
import click
from headrace import __main__, cli
from headrace.log import GenerationLog
from headrace.store import Store

@cli.main.command()
@click.argument("folder")
@click.argument("code", type=int)
def ask(folder, code):
    asyncio.run(GenerationLog(Store(folder)).read_newest())
    print("done")
    sys.exit(code)

__main__.run()
"""


def test_command_that_has_asked_the_store_ends_with_its_own_status(tmp_path: Path) -> None:
    """Threads of the store's client do not abort a command that is done."""
    for number in range(20):
        code = number % 2
        command = [sys.executable, "-c", ASK, "ask", str(tmp_path), str(code)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (code, "done\n"), done.stderr


def test_command_that_fails_unexpectedly_says_where(tmp_path: Path) -> None:
    """A defect ends with status 1 and its traceback."""
    python = "from headrace import __main__; __main__.main = lambda: 1 / 0; __main__.run()"
    done = subprocess.run(
        [sys.executable, "-c", python], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
