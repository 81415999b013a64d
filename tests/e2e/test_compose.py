"""What deploy/compose.yml runs, run: its commands and variables, as processes of this machine."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from headrace.leash import leashed
from tests.conftest import wait_for
from tests.ports import free_ports
from tests.unit.compose_kit import read_compose

if TYPE_CHECKING:
    from collections.abc import Iterator

# Ports that the commands and variables name, or that are their defaults, in each service.
NAMED = ("8333", "8100", "8000")
OF_S3 = ("master", "volume", "filer", "admin", "s3")  # each has a second one, for gRPC


def test_services_work_together(tmp_path: Path) -> None:
    """A file that is sent to a reader lies in the S3 server, and is read from the reader.

    Hosts are this machine, ports are free ones, and volumes are folders; the rest is as it stands.
    """
    token = secrets.token_hex(16)
    services = read_compose(HEADRACE_TOKEN=token, S3_SECRET=secrets.token_hex(16))["services"]
    ports = {name: free_ports([0]) for name in NAMED}
    reader = f"http://127.0.0.1:{ports['8000']}"
    with ExitStack() as stack:
        for name in ("s3", "ingest", "serve-a"):
            service = services[name]
            stack.enter_context(_running(name, service, ports, tmp_path))
            wait_for(lambda: _is_healthy(service, ports), timeout_s=60)  # noqa: B023 - at once
        answer = httpx.post(
            f"{reader}/ingest?filename=cities.csv&wait_for=regions",
            content=b"city,people\nBern,133000\n",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )
        assert answer.status_code == 201, answer.text
        rows = httpx.get(f"{reader}/cities/cities.json?_shape=array").json()
        assert [row["city"] for row in rows] == ["Bern"]


@contextmanager
def _running(
    name: str, service: dict[str, Any], ports: dict[str, int], folder: Path
) -> Iterator[None]:
    """Run a service while the block runs; each can start only when those before it are healthy."""
    words = shlex.split(_here(service["command"], ports))
    if name == "s3":
        command = [str(Path(sys.executable).with_name("weed")), *words, f"-dir={folder / name}"]
        command += [f"-s3.port={ports['8333']}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        others = [f"{part}.port{kind}" for part in OF_S3 for kind in ("", ".grpc")]
        command += [f"-{other}={free_ports([0])}" for other in others if other != "s3.port"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-filer.localSocket={folder / 'sock'}"]
    else:
        own = ports["8100" if name == "ingest" else "8000"]
        command = [sys.executable, "-m", "headrace", *words, "--host", "127.0.0.1"]
        command += ["--port", str(own), "--metrics-port", str(free_ports([0]))]
        command += ["--data", str(folder / name)]
        command += ["--shutdown-grace", "0"] if name != "ingest" else []
    (folder / name).mkdir()
    told = {key: _here(value, ports) for key, value in service["environment"].items()}
    process = subprocess.Popen(leashed(*command), env={**os.environ, **told}, cwd=folder / name)
    try:
        yield
    finally:
        if name == "s3":
            process.kill()  # its orderly end takes two seconds
        process.terminate()
        process.wait(60)


def _here(text: str, ports: dict[str, int]) -> str:
    for host in ("s3", "ingest"):
        text = text.replace(f"//{host}:", "//127.0.0.1:")
    for named, port in ports.items():
        text = text.replace(f":{named}", f":{port}")
    return text


def _is_healthy(service: dict[str, Any], ports: dict[str, int]) -> bool:
    """Ask what the container's check asks."""
    (url,) = [
        word
        for word in _here(service["healthcheck"]["test"][-1], ports).split("'")
        if "http:" in word
    ]
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False
