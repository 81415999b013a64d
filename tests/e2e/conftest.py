"""The running system: `headrace up`, as a person starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest

from tests.conftest import wait_for
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator


class System:
    """One `headrace up` and what a client does with it."""

    def __init__(
        self, data: Path, *flags: str, readers: int = 1, prefix: list[str] | None = None, **env: str
    ) -> None:
        self.data = data
        self.readers = readers
        self.flags = flags
        self.prefix = prefix or []
        self.env = env
        offsets = [*range(readers), 100, 200, *(201 + n for n in range(readers))]
        self.port = free_ports(offsets)
        self.url = f"http://127.0.0.1:{self.port}"
        self.output: list[str] = []
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def start(self) -> Self:
        """Start it, and wait until it says that it is ready."""
        self.output.clear()
        command = [*self.prefix, sys.executable, "-m", "headrace", "up", "--data", str(self.data)]
        command += ["--port", str(self.port), "--readers", str(self.readers), *self.flags]
        kept = {name: value for name, value in os.environ.items() if "HEADRACE" not in name}
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            env={**kept, **self.env},
            start_new_session=True,
        )
        self._reading = threading.Thread(target=self._read_output)
        self._reading.start()
        wait_for(self._says_ready, timeout_s=60)
        self.token = self.env.get("HEADRACE_TOKEN") or (self.data / "token").read_text().strip()
        return self

    def _read_output(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output.append(line.rstrip())

    def _says_ready(self) -> bool:
        assert self.process.poll() is None, "headrace up ended"
        return f"ready: {self.url}" in self.output

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it by a signal, and give its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(60)
        wait_for(lambda: not self.processes(), timeout_s=20)
        self._reading.join()
        assert self.process.stdout
        self.process.stdout.close()
        return code

    def processes(self) -> list[int]:
        """List every process that belongs to this system, by its session."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            state, session = stat[0], int(stat[3])
            ours = session == self.process.pid or str(self.data) in command
            if ours and state != "Z":
                found.append(int(folder.name))
        return found

    def find(self, part: str, *, reader: int = 0) -> list[int]:
        """Find the process of a part: `ingest`, or a reader's `serve`; none while it is gone."""
        port = self.port + (100 if part == "ingest" else reader)

        def is_it(pid: int) -> bool:
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                return part.encode() in words and str(port).encode() in words
            return False

        return list(filter(is_it, self.processes()))

    def kill(self, part: str, *, reader: int = 0) -> None:
        """Kill a part, and wait until it is gone; another takes its place."""
        (pid,) = self.find(part, reader=reader)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: pid not in self.find(part, reader=reader))

    @contextmanager
    def primary_away(self) -> Iterator[None]:
        """Kill ingest; nobody starts it again before the end of the block."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            self.kill("ingest")
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def is_ready(self) -> bool:
        """Whether the first reader serves a generation."""
        try:
            return self.client.get("/-/readyz").is_success
        except httpx.TransportError:
            return False

    @property
    def auth(self) -> dict[str, str]:
        """The header that allows to write."""
        return {"Authorization": f"Bearer {self.token}"}

    def post(
        self, body: bytes | Iterator[bytes], filename: str | None = None, **options: Any
    ) -> httpx.Response:
        """POST one file; options are query parameters, `headers` are added."""
        headers = {**self.auth, **options.pop("headers", {})}
        if filename is not None:
            options["filename"] = filename
        return self.client.post("/ingest", content=body, params=options, headers=headers)

    def upload(self, body: bytes, filename: str | None = None, **options: Any) -> dict[str, Any]:
        """POST one file that is published within the request; give its receipt."""
        response = self.post(body, filename, **options)
        assert response.status_code == 201, response.text
        receipt: dict[str, Any] = response.json()
        return receipt

    def wait_until_live(self, receipt: dict[str, Any], *, reader: int = 0) -> None:
        """Wait until a reader serves the generation of a receipt."""
        url = f"http://127.0.0.1:{self.port + reader}/-/headrace.json"
        wait_for(lambda: (httpx.get(url).json()["generation"] or 0) >= receipt["generation"])

    def rows(self, path: str, *, reader: int = 0) -> list[dict[str, Any]]:
        """Read a table's rows over Datasette's JSON API."""
        url = f"http://127.0.0.1:{self.port + reader}{path}.json"
        response = httpx.get(url, params={"_shape": "array", "_size": "max"})
        assert response.status_code == 200, response.text
        rows: list[dict[str, Any]] = response.json()
        return rows


@contextmanager
def running(data: Path, *flags: str, readers: int = 1, **env: str) -> Iterator[System]:
    """Run a system while the block runs."""
    system = System(data, *flags, readers=readers, prefix=None, **env)
    try:
        yield system.start()
    finally:
        system.stop()
        system.client.close()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give one system for the tests of a module, with a small upload limit."""
    data = tmp_path_factory.mktemp("system") / "data"
    with running(data, "--max-upload", "5000000", "--workers", "1") as system:
        yield system
