"""Primaries on volumes of their own, and one object store that they share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import httpx

from tests.conftest import wait_for
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "of-tests"  # noqa: S105 - of these tests
QUICK = ("--lease-duration", "5", "--lease-renewal", "1")  # seconds


class Primary:
    """One `headrace ingest`.

    Args:
        root: Folder of the tests.
        name: Of its volume.
        flags: More flags.
        store: The store, if it is not a folder beside the volumes.
    """

    def __init__(self, root: Path, name: str, *flags: str, store: str | None = None) -> None:
        self.data = root / name
        self.store = store or str(root / "store")
        self.flags = flags
        self.program = ("-m", "headrace")
        self.env: dict[str, str] = {}
        self.port = free_ports([0, 1])
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, *, stderr: int | None = None) -> Self:
        """Start it; it may have to wait for the lease."""
        command = [sys.executable, *self.program, "ingest", "--data", str(self.data)]
        command += ["--store", self.store, "--port", str(self.port)]
        command += ["--metrics-port", str(self.port + 1), *QUICK, *self.flags]
        env = {**os.environ, "HEADRACE_TOKEN": TOKEN, **self.env}
        self.process = subprocess.Popen(command, env=env, stderr=stderr)
        return self

    def wait_until_up(self) -> Self:
        """Wait until it takes uploads."""
        wait_for(self.is_up, timeout_s=40)
        return self

    def is_up(self) -> bool:
        """Whether it takes uploads."""
        try:
            return httpx.get(f"{self.url}/-/healthz").is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """Lose the machine: nothing is finished."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Stop it in order; give its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def post(
        self, body: bytes, filename: str, *, prefer: str = "", key: str = "", **options: str
    ) -> httpx.Response:
        """POST a file."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Prefer": prefer}
        if key:
            headers["Idempotency-Key"] = key
        options["filename"] = filename
        url = f"{self.url}/ingest"
        return httpx.post(url, content=body, params=options, headers=headers, timeout=60)

    def upload(self, body: bytes, filename: str, **options: str) -> dict[str, Any]:
        """POST a file that is published within the request; give its receipt."""
        response = self.post(body, filename, **options)
        assert response.status_code == 201, response.text
        receipt: dict[str, Any] = response.json()
        return receipt

    def reprocess(
        self, receipt_id: str, *, prefer: str = "", key: str = "", **options: str
    ) -> httpx.Response:
        """Ask for an archived upload once more."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Prefer": prefer}
        if key:
            headers["Idempotency-Key"] = key
        url = f"{self.url}/ingest/receipts/{receipt_id}/reprocess"
        return httpx.post(url, params=options, headers=headers, timeout=60)

    def prune(self, *, dry_run: bool = False) -> dict[str, Any]:
        """Delete what nobody needs, or say what that is."""
        answer = httpx.post(
            f"{self.url}/ingest/prune",
            params={"dry_run": int(dry_run)},
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def receipt(self, receipt_id: str) -> dict[str, Any]:
        """Read a receipt."""
        response = httpx.get(f"{self.url}/ingest/receipts/{receipt_id}")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def wait_until_published(self, receipt_id: str) -> dict[str, Any]:
        """Wait for an upload to be published; give its receipt."""
        return wait_for(
            lambda: (found := self.receipt(receipt_id))["state"] == "published" and found,
            timeout_s=60,
        )

    def metric(self, name: str) -> float:
        """Read a metric."""
        text = httpx.get(f"http://127.0.0.1:{self.port + 1}/metrics").text
        return float(text.partition(f"\n{name} ")[2].split("\n", 1)[0])


@contextmanager
def primaries(*nodes: Primary) -> Iterator[None]:
    """End what is left of some primaries after the block."""
    try:
        yield
    finally:
        for node in nodes:
            if node.process.poll() is None:
                node.kill()
