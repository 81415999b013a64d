"""Readers in regions with names, each a process of its own, before one primary."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import httpx

from tests.conftest import wait_for
from tests.e2e.primary_kit import TOKEN, Primary, primaries
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Reader:
    """One `headrace serve`.

    Args:
        root: Folder of the tests.
        region: Where it says that it is.
        primary: The primary.
        flags: More flags.
    """

    def __init__(self, root: Path, region: str, primary: Primary, *flags: str) -> None:
        self.data = root / region
        self.region = region
        self.primary = primary
        self.flags = flags
        self.port = free_ports([0, 1])
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it."""
        command = [sys.executable, "-m", "headrace", "serve", "--data", str(self.data)]
        command += ["--store", self.primary.store, "--primary", self.primary.url]
        command += ["--region", self.region, "--workers", "1", "--shutdown-grace", "0"]
        command += ["--port", str(self.port), "--metrics-port", str(self.port + 1), *self.flags]
        env = {**os.environ, "HEADRACE_TOKEN": TOKEN, "DATASETTE_SECRET": TOKEN}
        self.process = subprocess.Popen(command, env=env)
        return self

    def wait_until_ready(self, generation: int = 0) -> Self:
        """Wait until it serves a generation."""
        wait_for(lambda: self.generation() >= generation, timeout_s=60)
        return self

    def generation(self) -> int:
        """Give the generation in service; -1: none, or it does not answer."""
        try:
            shown = httpx.get(f"{self.url}/-/headrace.json").json()["generation"]
        except httpx.TransportError:
            return -1
        return -1 if shown is None else int(shown)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP is what a suspended machine is like."""
        self.process.send_signal(number)

    def end(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(60)


@contextmanager
def world(root: Path, *regions: str, flags: tuple[str, ...] = ()) -> Iterator[list[Reader]]:
    """Run a reader in each region while the block runs, and a primary in the first of them."""
    primary = Primary(root, "primary", "--region", regions[0]).start()
    readers = [Reader(root, region, primary, *flags) for region in regions]
    with primaries(primary):
        primary.wait_until_up()
        try:
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.wait_until_ready()
            yield readers
        finally:
            for reader in readers:
                if hasattr(reader, "process"):
                    reader.end()
            if primary.process.poll() is None:
                primary.stop()
