"""Traces are off unless the environment says where they go."""

from __future__ import annotations

import subprocess
import sys

_LOOK = """
import asyncio, sys
import ingest.service, serve.service
from headrace import tracing

async def run():
    async with tracing.tracing("ingest"):
        with tracing.continued("00-1-1-01"), tracing.span("upload", receipt="r"):
            assert not tracing.is_on()
            assert tracing.carried() == {}

asyncio.run(run())
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""


def test_nothing_of_opentelemetry_is_loaded_while_traces_are_off() -> None:
    """Who does not want traces pays nothing for them."""
    done = subprocess.run([sys.executable, "-c", _LOOK], env={}, check=False)
    assert done.returncode == 0
