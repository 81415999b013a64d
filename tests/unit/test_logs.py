"""Logs: what happened, never what was in it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Whatever is on the stack when something fails.
SCRIPT = """
import structlog, sys
from headrace.logs import configure_logs
if {terminal}:
    sys.stderr.isatty = lambda: True
configure_logs("node")
def fail(token):
    rows = ["a row"]
    raise ValueError("of no use")
try:
    fail("very-secret-token")
except ValueError:
    structlog.get_logger().exception("request failed")
"""


@pytest.mark.parametrize("terminal", [False, True])
def test_error_is_logged_with_its_frames_and_without_their_variables(*, terminal: bool) -> None:
    """Tokens and rows that were at hand when something failed are in no log."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(terminal=terminal)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "request failed" in done.stderr
    assert "of no use" in done.stderr
    assert "fail" in done.stderr
    # A traceback for people quotes lines of the source.
    said = "" if terminal else json.loads(done.stderr)
    assert "very-secret-token" not in str(said)
    assert "locals" not in str(said)
    assert "rows = " not in done.stderr
