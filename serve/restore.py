"""Slots: one local file for one database at one TXID, made by ``litestream restore``.

A slot that exists is whole: it is written under another name, verified, fsynced, and renamed last.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from typing import TYPE_CHECKING

import structlog

from headrace.child import stop_process
from headrace.errors import RestoreError
from headrace.generation import format_txid
from headrace.keys import lineage_key
from headrace.leash import leashed
from headrace.litestream_binary import find_litestream, litestream_environment
from headrace.store import fsync_path
from serve.groups import one_error
from serve.verify import verify_copy

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from headrace.generation import Cut, State
    from headrace.keys import ReaderPaths
    from headrace.store import Store
    from serve.metrics import ReaderMetrics

log = structlog.get_logger()

PARALLEL = 4  # databases restored at once
NOT_THERE_YET_S = 30.0  # a store may show the log's entry before Litestream's files
FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 2.0
RESTORE_TIMEOUT_S = 3600.0  # for one run of litestream


class Restorer:
    """Makes slots, and removes those that nobody needs.

    Args:
        paths: The reader's folders.
        store: Where Litestream's replicas lie.
        metrics: Counts steps and bytes.
        retry_for_s: How long a restore that fails is tried again.

    Raises:
        ConfigError: There is no litestream.
    """

    def __init__(
        self,
        paths: ReaderPaths,
        store: Store,
        metrics: ReaderMetrics,
        *,
        retry_for_s: float = NOT_THERE_YET_S,
    ) -> None:
        self._paths = paths
        self._store = store
        self._metrics = metrics
        self._retry_for_s = retry_for_s
        self._litestream = find_litestream()
        self._running = asyncio.Semaphore(PARALLEL)

    def find_slots(self, state: State) -> dict[str, Path] | None:
        """Give the slot of each database if all are here already."""
        slots = {name: self._slot(cut) for name, cut in state.databases.items()}
        return slots if all(slot.exists() for slot in slots.values()) else None

    async def restore(self, state: State, *, superseded: asyncio.Event) -> dict[str, Path]:
        """Give the slot of each database, after making those that are missing.

        Args:
            state: The generation.
            superseded: Set when a newer generation is known: then a restore that fails is not tried
                again, because the newer one may do without it.

        Raises:
            RestoreError: A copy could not be made, or is not what the generation says.
        """
        try:
            with one_error():
                async with asyncio.TaskGroup() as tasks:
                    for name, cut in state.databases.items():
                        tasks.create_task(self._restore_one(name, cut, superseded))
        except OSError as exc:
            raise RestoreError(f"cannot write a slot: {exc}") from exc
        return {name: self._slot(cut) for name, cut in state.databases.items()}

    async def prune(self, wanted: Iterable[Path]) -> None:
        """Delete every slot but these, and what an earlier crash left half-made."""
        await asyncio.to_thread(_prune, self._paths.slots, frozenset(wanted))

    def _slot(self, cut: Cut) -> Path:
        return self._paths.slot(cut.lineage, format_txid(cut.txid))

    async def _restore_one(self, name: str, cut: Cut, superseded: asyncio.Event) -> None:
        slot = self._slot(cut)
        async with self._running:
            if slot.exists():
                return
            slot.parent.mkdir(parents=True, exist_ok=True)
            part = slot.with_name(f"{slot.name}.{secrets.token_hex(4)}.part")
            try:
                with self._metrics.step("restore"):
                    await self._fetch(name, cut, part, superseded)
                with self._metrics.step("verify"):
                    await self._prove(name, cut, part)
                await asyncio.to_thread(_keep, part, slot)
            finally:
                _remove_part(part)
        size_bytes = cut.pages * cut.page_size
        self._metrics.restored_bytes.inc(size_bytes)
        log.info("slot restored", database=name, txid=format_txid(cut.txid), bytes=size_bytes)

    async def _fetch(self, name: str, cut: Cut, part: Path, superseded: asyncio.Event) -> None:
        """Run litestream until it succeeds, or the time is over.

        Its exit status does not tell "not there yet" from other failures, so all are tried again.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._retry_for_s
        backoff_s = FIRST_BACKOFF_S
        while (reason := await self._run_litestream(name, cut, part)) is not None:
            _remove_part(part)
            if loop.time() + backoff_s > deadline_s or superseded.is_set():
                raise RestoreError(
                    f"cannot restore {name} at {format_txid(cut.txid)}: {reason}",
                    hint="the reader tries again by itself",
                )
            await _wait_for(superseded, backoff_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)

    async def _run_litestream(self, name: str, cut: Cut, part: Path) -> str | None:
        """Restore once; give why it failed."""
        url = self._store.litestream_url(lineage_key(name, cut.lineage))
        process = await asyncio.create_subprocess_exec(
            *leashed(str(self._litestream), "restore", "-txid", format_txid(cut.txid)),
            *("-o", str(part), url),
            env=litestream_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is for the reader alone
        )
        try:
            async with asyncio.timeout(RESTORE_TIMEOUT_S):
                _, output = await process.communicate()
        except TimeoutError:
            return f"it took longer than {RESTORE_TIMEOUT_S:.0f} s"
        finally:
            if process.returncode is None:
                await stop_process(process, grace_s=0.5)
        if process.returncode == 0:
            return None
        lines = output.decode(errors="replace").strip().splitlines()
        return (lines or [f"exit status {process.returncode}"])[-1].removeprefix("Error: ")

    async def _prove(self, name: str, cut: Cut, part: Path) -> None:
        try:
            await verify_copy(part, cut)
        except RestoreError as exc:
            where = f"{name} at {format_txid(cut.txid)}"
            raise RestoreError(f"cannot prove {where}: {exc}", hint=exc.hint) from exc


async def _wait_for(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return


def _keep(part: Path, slot: Path) -> None:
    fsync_path(part)
    part.rename(slot)
    fsync_path(slot.parent)


def _remove_part(part: Path) -> None:
    """Remove a temporary file, and those that litestream puts beside it."""
    for path in part.parent.glob(f"{part.name}*"):
        path.unlink(missing_ok=True)


def _prune(slots: Path, wanted: frozenset[Path]) -> None:
    if not slots.exists():
        return
    for lineage in slots.iterdir():
        kept = {path for path in wanted if path.parent == lineage}
        if not kept:
            shutil.rmtree(lineage, ignore_errors=True)
            continue
        for path in lineage.iterdir():
            if path not in kept:
                path.unlink(missing_ok=True)
