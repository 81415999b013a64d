"""``headrace up``: ingest and readers as child processes on one machine, on one object store."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import aiohttp
import click
import structlog

from headrace.child import Child
from headrace.config import (
    INGEST_PORT_OFFSET,
    METRICS_PORT_OFFSET,
    ReaderSettings,
    WriterSettings,
    find_or_make_secret,
    store_url,
)
from headrace.durable import replace_file
from headrace.errors import ConfigError
from headrace.lock import volume_lock
from headrace.logs import configure_logs
from headrace.privacy import forbid_inspection
from headrace.settings import as_flags, names_of
from headrace.stopping import Stop
from headrace.store_url import check_plain_path

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.config import UpSettings

log = structlog.get_logger()

START_DEADLINE_S = 120.0
_SHARED = ("host", "store_prices", "shutdown_timeout")  # settings that all nodes have
REGIONS = "abcdefghijklmnopqrstuvwxyz"


async def run(settings: UpSettings) -> None:
    """Run everything until SIGINT or SIGTERM.

    Raises:
        ConfigError: A part could not start.
    """
    configure_logs("up")
    forbid_inspection()
    stop = Stop(settings.shutdown_timeout)
    stop.listen()
    data = check_plain_path(settings.data)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with volume_lock(data / "lock"):
        _check_ports(settings)
        await _run_parts(settings, data, stop)


async def _run_parts(settings: UpSettings, data: Path, stop: Stop) -> None:
    env = _environment(settings, data)
    failed: asyncio.Queue[str] = asyncio.Queue()
    parts = _Parts(settings, data, env, failed, stop)
    children = [parts.ingest(), *map(parts.reader, range(settings.readers))]
    tasks = [asyncio.create_task(child.run()) for child in children]
    try:
        if await _wait_until_ready(settings, stop, failed):
            replace_file(data / "url", f"{_first_url(settings)}\n".encode())  # for commands there
            _say_ready(settings, data)
            await stop.asked.wait()
    finally:
        stop.ask()
        await _end(children, tasks, stop)


async def _end(children: list[Child], tasks: list[asyncio.Task[None]], stop: Stop) -> None:
    """End all at once, in one time: readers hand on what ingest still answers to uploads."""

    async def hurry() -> None:
        await stop.hurried.wait()
        for child in children:
            child.hurry()

    hurrying = asyncio.create_task(hurry())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    hurrying.cancel()


def _check_ports(settings: UpSettings) -> None:
    """Refuse to start beside another program: its answers would be taken for ours.

    Raises:
        ConfigError: A port is taken.
    """
    for port in settings.ports:
        check_port(settings.host, port)


def check_port(host: str, port: int) -> None:
    """Try to listen on a port.

    Raises:
        ConfigError: It is taken, or cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as exc:
            raise ConfigError(
                f"cannot listen on {host}:{port}: {exc}", hint="choose another --port"
            ) from exc


class _Parts:
    """What is run, as children."""

    def __init__(
        self,
        settings: UpSettings,
        data: Path,
        env: dict[str, str],
        failed: asyncio.Queue[str],
        stop: Stop,
    ) -> None:
        self._settings = settings
        self._data = data
        self._env = env
        self._failed = failed
        self._stop = stop

    def ingest(self) -> Child:
        settings = self._settings
        commands = {name: asdict(each) for name, each in settings.converters.items()}
        return self._child(
            "ingest",
            "ingest",
            *("--data", str(self._data / "primary")),
            *("--port", str(settings.port + INGEST_PORT_OFFSET)),
            *("--metrics-port", str(settings.port + METRICS_PORT_OFFSET)),
            *as_flags(settings, names_of(WriterSettings)),
            HEADRACE_CONVERTERS=json.dumps(commands),
        )

    def reader(self, number: int) -> Child:
        settings = self._settings
        primary = f"http://{_reachable(settings.host)}:{settings.port + INGEST_PORT_OFFSET}"
        return self._child(
            f"reader {number}",
            "serve",
            *("--data", str(self._data / f"reader-{number}")),
            *("--port", str(settings.port + number)),
            *("--metrics-port", str(settings.port + METRICS_PORT_OFFSET + 1 + number)),
            *("--primary", primary),
            *("--region", _region(number)),
            *("--shutdown-grace", "0"),  # nobody chooses between readers here
            *as_flags(settings, names_of(ReaderSettings)),
        )

    def _child(self, name: str, command: str, *flags: str, **env: str) -> Child:
        return Child(
            name,
            [
                *(sys.executable, "-m", "headrace", command),
                *("--store", store_url(self._settings)),
                *as_flags(self._settings, _SHARED),
                *flags,
            ],
            env={**self._env, **env},
            on_exit=lambda code: self._failed.put_nowait(f"{name} ended with exit code {code}"),
            grace_s=self._stop.left_s,
        )


def _region(number: int) -> str:
    return REGIONS[number % len(REGIONS)]


def _environment(settings: UpSettings, data: Path) -> dict[str, str]:
    """Give the children's environment: one token and one Datasette secret for all of them."""
    token = settings.token if settings.token is not None else find_or_make_secret(data / "token")
    secret = os.environ.get("DATASETTE_SECRET") or find_or_make_secret(data / "secret")
    # Their settings come as flags: what is meant for `up` must not be read a second time.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return {**kept, "HEADRACE_TOKEN": token, "DATASETTE_SECRET": secret}


async def _wait_until_ready(settings: UpSettings, stop: Stop, failed: asyncio.Queue[str]) -> bool:
    """Wait until every node answers, and ingest knows every reader; False if a stop comes first.

    Raises:
        ConfigError: A part ended, or the deadline passed.
    """
    host = _reachable(settings.host)
    ingest = f"http://{host}:{settings.port + INGEST_PORT_OFFSET}"
    urls = [f"{ingest}/-/healthz"]
    urls += [f"http://{host}:{settings.port + n}/-/readyz" for n in range(settings.readers)]
    urls += [f"{ingest}/-/readers/{_region(n)}" for n in range(settings.readers)]
    deadline = asyncio.get_running_loop().time() + START_DEADLINE_S
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while urls:
            if stop.asked.is_set():
                return False
            if not failed.empty():
                raise ConfigError(f"cannot start: {failed.get_nowait()}")
            if asyncio.get_running_loop().time() > deadline:
                raise ConfigError(f"cannot start: no answer from {urls[0]}")
            if await _is_ready(session, urls[0]):
                urls.pop(0)
            else:
                await asyncio.sleep(0.05)
    return True


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.ok
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


def _say_ready(settings: UpSettings, data: Path) -> None:
    host = _reachable(settings.host)
    for number in range(1, settings.readers):
        click.echo(f"reader {number}: http://{host}:{settings.port + number}")
    where = "in HEADRACE_TOKEN" if settings.token is not None else f"in {data / 'token'}"
    click.echo(f"token: {where}")
    click.echo(f"ready: {_first_url(settings)}")


def _first_url(settings: UpSettings) -> str:
    return f"http://{_reachable(settings.host)}:{settings.port}"


def _reachable(host: str) -> str:
    """Give the address at which this machine reaches itself, for one that it listens on."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - only compared
