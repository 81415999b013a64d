"""A format whose conversion waits at a gate."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM = """
import pathlib, sqlite3, sys, time
while not pathlib.Path(__file__).with_name("gate").exists():
    time.sleep(0.05)
db = sqlite3.connect(sys.argv[2])
db.execute("CREATE TABLE slow (n INTEGER)")
db.execute("INSERT INTO slow VALUES (1)")
db.commit()
"""


class Gate:
    """Files named ``*.slow`` become a table ``slow`` once it is open.

    Args:
        folder: Where its program lies.

    Attributes:
        converters: ``HEADRACE_CONVERTERS`` of a primary that knows the format.
    """

    def __init__(self, folder: Path) -> None:
        program = folder / "slow.py"
        program.write_text(_PROGRAM)
        command = f"{sys.executable} {program} {{input}} {{output}}"
        self.converters = json.dumps({"slow": {"command": command, "match": "*.slow"}})
        self._gate = folder / "gate"

    def open(self) -> None:
        """Let all conversions go on, and those to come."""
        self._gate.touch()
