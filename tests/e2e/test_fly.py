"""What deploy/fly.toml runs, run: on its variables, its kind of addresses and its kind of store."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import AF_UNSPEC
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest

from headrace.config import ServeSettings
from tests.integration.reader_kit import eventually, reading
from tests.ports import free_ports
from tests.unit.test_deploy import read_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.reader_kit import Client
    from tests.integration.s3_kit import S3

FLY = Path(__file__).parents[2] / "deploy" / "fly.toml"
PRIMARY = "ingest.process.headrace.internal"
TOKEN = "of-tests"  # noqa: S105 - of these tests
QUICK = ("--lease-duration", "5", "--lease-renewal", "1")  # seconds
AUTH = {"Authorization": f"Bearer {TOKEN}"}
PORTS = ("8100", "8200", "8000", "8201")
# Of two machines that run here: the second one's is of IPv6, as all of them are there.
FIRST, SECOND = "127.0.0.2", "::1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fly:
    """The platform, as far as it is here.

    Attributes:
        commands: Of the process groups, on ports that are free.
        data: Where volumes are.
    """

    commands: dict[str, str]
    data: Path

    @contextmanager
    def ingest(self, address: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a machine of the primary's group while the block runs, on an address of its own."""
        name = f"ingest-{address.replace(':', '-')}"
        flags = shlex.split(self.commands["ingest"].replace("--host ::", f"--host {address}"))
        env = {
            **os.environ,
            "FLY_REGION": "ams",
            "FLY_MACHINE_ID": name,
            "FLY_PRIVATE_IP": address,
            "HEADRACE_DATA": str(self.data / name),
        }
        process = subprocess.Popen([sys.executable, "-m", "headrace", *flags, *QUICK], env=env)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


@pytest.fixture
def fly(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fly:
    """Give the platform with a bucket, as `fly storage create` makes it known."""
    said = tomllib.loads(FLY.read_text())
    s3.give_credentials(monkeypatch)
    told = {
        **said["env"],
        "BUCKET_NAME": s3.make_bucket(),
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{s3.port}",
        "HEADRACE_TOKEN": TOKEN,
        "HEADRACE_DATA": str(tmp_path / "reader"),
        "FLY_REGION": "sin",
        "FLY_MACHINE_ID": "reader-machine",
        "FLY_PRIVATE_IP": "fdaa:0:18:a7b::2",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    base = free_ports(list(range(len(PORTS))))
    ports = {named: str(base + offset) for offset, named in enumerate(PORTS)}
    commands = {
        group: re.sub("|".join(PORTS), lambda found: ports[found[0]], line)
        for group, line in said["processes"].items()
    }
    return Fly(commands=commands, data=tmp_path)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve the primary's name as Fly does: to the addresses of all machines of its group."""

    class Names(aiohttp.ThreadedResolver):
        async def resolve(self, host: str, port: int = 0, *args: Any, **named: Any) -> list[Any]:
            if host != PRIMARY:
                return await super().resolve(host, port, *args, **named)
            resolve = super().resolve
            found = [await resolve(each, port, AF_UNSPEC) for each in (FIRST, SECOND)]
            return [{**each, "hostname": host} for (each,) in found]

    monkeypatch.setattr("aiohttp.connector.DefaultResolver", Names)


async def test_deployment_takes_uploads_through_any_reader_and_survives_its_primary(
    fly: Fly, names: None
) -> None:
    """Readers find whichever machine is the primary, and are reached over IPv4 and IPv6 alike.

    They are told nothing but what Fly tells: the bucket, their region, machine and address.
    """
    settings = read_command(ServeSettings, fly.commands["serve"])
    with fly.ingest(SECOND) as primary:
        await eventually(lambda: _is_up(SECOND, settings.primary))
        with fly.ingest(FIRST):
            async with reading(settings) as client:
                await eventually(lambda: _regions(client, settings.port))
                first = await _upload(client, "127.0.0.1", settings.port, b"n\n1\n")
                assert first["live"].keys() == {"sin"}

                primary.send_signal(signal.SIGTERM)
                await eventually(lambda: _is_up(FIRST, settings.primary), timeout_s=40)
                await _upload(client, "[::1]", settings.port, b"n\n2\n", mode="append")

                status, rows = await client.get("/sales/sales.json?_shape=arrays")
                assert status == 200
                assert '"rows": [[1, 1], [2, 2]]' in rows
                await eventually(lambda: _regions(client, settings.port))
                said = await _status(client, settings.port)
    assert said["primary"] == {"region": "ams", "machine": "ingest-127.0.0.2", "address": FIRST}
    assert said["regions"]["sin"]["machines"] == [
        {
            "machine": "reader-machine",
            "address": "fdaa:0:18:a7b::2",
            "generation": said["generation"],
        }
    ]


def _is_up(address: str, primary: str) -> bool:
    host = f"[{address}]" if ":" in address else address
    try:
        return httpx.get(f"{primary.replace(PRIMARY, host)}/-/healthz").is_success
    except httpx.TransportError:
        return False


async def _status(client: Client, port: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}/ingest/status"
    async with client.session.get(url, headers=AUTH) as answer:
        said: dict[str, Any] = await answer.json()
        return said


async def _regions(client: Client, port: int) -> Any:
    return (await _status(client, port)).get("regions")


async def _upload(
    client: Client, host: str, port: int, body: bytes, **options: str
) -> dict[str, Any]:
    """Send a file to a reader, and wait until each region shows it; give the receipt."""
    async with client.session.post(
        f"http://{host}:{port}/ingest",
        params={"filename": "sales.csv", "wait_for": "regions", **options},
        data=body,
        headers=AUTH,
    ) as answer:
        assert answer.status == 201, await answer.text()
        receipt: dict[str, Any] = await answer.json()
        return receipt
