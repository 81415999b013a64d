"""Rolling forward: fetch the LTX files that a copy lacks, and write their pages.

A first copy is the same, from nothing.
"""

from __future__ import annotations

import asyncio
import mmap
import os
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import LtxError, ObjectMissingError, StoreError
from headrace.generation import format_txid
from headrace.keys import ltx_key, ltx_level_key
from headrace.ltx import Header, decode_header, decode_pages
from headrace.plan import LEVELS, LtxFile, decode_listing, find_plan, single_transactions
from headrace.sums import Sums, sums_path

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from headrace.patience import Patience
    from headrace.store import Store

FETCHES = 16  # at once
MEMORY_BYTES = 2 * 1024 * 1024  # a larger LTX file goes through the disk
STALL_S = 15.0  # that the store may send nothing
GUESSED_FILES = 64  # as many level-0 files are asked for by name before anything is listed
_BATCH_BYTES = 1024 * 1024
_BATCH_PAGES = 512  # writev(2) takes 1,024


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """Where to roll to.

    Attributes:
        database: Its name.
        lineage: Its lineage.
        txid: The transaction that is wanted.
        patience: How long what is not there yet is waited for.
        damaged: Files to do without; one that is found damaged is added.
    """

    database: str
    lineage: str
    txid: int
    patience: Patience
    damaged: set[LtxFile] = field(default_factory=set)


class Roller:
    """Fetches and applies LTX files.

    Args:
        store: Where they are.
        count_bytes: Told how large each is.
    """

    def __init__(self, store: Store, count_bytes: Callable[[int], None] = lambda _: None) -> None:
        self._store = store
        self._count_bytes = count_bytes

    async def roll(self, part: Path, sums: Sums, aim: Aim) -> None:
        """Write a part until it is at a TXID; then it and its sums are fsynced.

        Args:
            part: The file, which nobody serves.
            sums: Its sums.
            aim: What is wanted.

        Raises:
            LtxError: A file is damaged, or none lead there although newer ones exist.
            RestoreError: The files were not there in time.
            OSError: The part cannot be written.
        """
        await self.write(part, sums, aim)
        await asyncio.to_thread(finish, part, sums)

    async def write(self, part: Path, sums: Sums, aim: Aim) -> None:
        """Do the same, and leave it to the caller to fsync the part and to write its sums."""
        turn = 0
        while sums.txid < aim.txid:
            listing = _lists(sums.txid, aim.txid, turn)
            try:
                await self._follow(part, sums, aim, await self._choose(sums.txid, aim, listing))
            except ObjectMissingError as exc:
                # A list tells "not there yet" from "not there any more"; it costs ten requests.
                turn += 1
                if listing or not _lists(sums.txid, aim.txid, turn):
                    await aim.patience.wait(str(exc))
            except StoreError as exc:
                await aim.patience.wait(str(exc))

    async def _follow(self, part: Path, sums: Sums, aim: Aim, files: Sequence[LtxFile]) -> None:
        """Fetch and apply files in their order."""
        async with aclosing(self._fetch(part, aim, files)) as bodies:
            async for file, body in bodies:
                try:
                    await asyncio.to_thread(apply_file, part, sums, file, body)
                except LtxError as exc:
                    aim.damaged.add(file)
                    raise LtxError(f"{_describe(file)}: {exc}") from exc

    async def _choose(self, at: int, aim: Aim, listing: bool) -> Sequence[LtxFile]:
        """Give files that lead from a TXID to the one that is wanted."""
        if not listing:
            files = single_transactions(at, aim.txid)
            if aim.damaged.isdisjoint(files):
                return files
        listed = await asyncio.gather(*(self._list(aim, level) for level in LEVELS))
        files = [file for level in listed for file in level]
        sound = [file for file in files if file not in aim.damaged]
        plan = await asyncio.to_thread(find_plan, sound, after=at, upto=aim.txid)
        if plan is not None:
            return plan
        newest = max((file.max_txid for file in files), default=0)
        reason = f"no LTX files lead from {format_txid(at)} to {format_txid(aim.txid)}"
        if newest >= aim.txid:
            raise LtxError(reason)
        found = f"the newest is {format_txid(newest)}" if files else "there are none"
        raise ObjectMissingError(f"{reason}; {found}")

    async def _list(self, aim: Aim, level: int) -> list[LtxFile]:
        key = ltx_level_key(aim.database, aim.lineage, level, s3=self._store.is_s3)
        return decode_listing(level, await self._store.list_sizes(key, stall_s=STALL_S))

    async def _fetch(
        self, part: Path, aim: Aim, files: Sequence[LtxFile]
    ) -> AsyncGenerator[tuple[LtxFile, bytes | Path], None]:
        """Give the files in order, while those that follow are on their way."""
        left = deque(files)
        running: deque[tuple[LtxFile, Path, asyncio.Task[bytes | Path]]] = deque()
        try:
            while left or running:
                while left and len(running) < FETCHES:
                    file = left.popleft()
                    key = ltx_key(aim.database, aim.lineage, *_name(file), s3=self._store.is_s3)
                    spill = part.with_name(f"{part.name}.{_describe(file)}")
                    read = self._store.read_or_spill(
                        key, spill, memory_bytes=MEMORY_BYTES, stall_s=STALL_S
                    )
                    running.append((file, spill, asyncio.create_task(read)))
                file, spill, task = running.popleft()
                try:
                    body = await task
                    size_bytes = body.stat().st_size if isinstance(body, Path) else len(body)
                    self._count_bytes(size_bytes)
                    yield file, body
                finally:
                    task.cancel()
                    spill.unlink(missing_ok=True)
        finally:
            for _file, _spill, task in running:
                task.cancel()
            await asyncio.gather(*(task for *_, task in running), return_exceptions=True)
            for _file, spill, _task in running:
                spill.unlink(missing_ok=True)


def _lists(at: int, upto: int, turn: int) -> bool:
    """Whether the files are listed at a turn: at all if they are many, else at 1, 3, 7, 15."""
    many = upto - at > GUESSED_FILES or (at == 0 and upto > FETCHES)
    return many or (turn > 0 and (turn + 1) & turn == 0)


def _name(file: LtxFile) -> tuple[int, int, int]:
    return file.level, file.min_txid, file.max_txid


def _describe(file: LtxFile) -> str:
    return f"{file.level}-{format_txid(file.min_txid)}-{format_txid(file.max_txid)}.ltx"


def apply_file(part: Path, sums: Sums, file: LtxFile, body: bytes | Path) -> None:
    """Write the pages of one file; the part is worth nothing if this fails.

    Raises:
        LtxError: The file is damaged, or another than it should be.
        OSError: The part cannot be written.
    """
    view = _map(body)
    header = decode_header(view)
    _check_header(header, sums, file)
    # Opened anew for each file: a thread that outlives a cancelled restore then never writes to
    # a descriptor that has become another file.
    descriptor = os.open(part, os.O_RDWR)
    try:
        _write_pages(descriptor, sums, header, view)
        os.ftruncate(descriptor, header.commit * header.page_size)
    finally:
        os.close(descriptor)
    sums.txid = file.max_txid


def _map(body: bytes | Path) -> memoryview:
    if not isinstance(body, Path):
        return memoryview(body)
    with body.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _check_header(header: Header, sums: Sums, file: LtxFile) -> None:
    if (header.min_txid, header.max_txid) != (file.min_txid, file.max_txid):
        raise LtxError(f"it holds transactions {header.min_txid} to {header.max_txid}")
    if header.page_size != sums.page_size:
        raise LtxError(f"it has pages of {header.page_size} bytes, not {sums.page_size}")
    if not file.min_txid - 1 <= sums.txid < file.max_txid:
        raise LtxError(f"it does not follow transaction {sums.txid}")


def _write_pages(descriptor: int, sums: Sums, header: Header, view: memoryview) -> None:
    """Write pages in order, those that lie side by side at once, and follow them in the sums."""
    page_size = header.page_size
    at_once = min(_BATCH_PAGES, _BATCH_BYTES // page_size)
    batch: list[bytes] = []
    first = 0
    sums.truncate(header.commit)
    set_page = sums.set_page
    for number, page in decode_pages(view):
        set_page(number, page)
        if batch and (number != first + len(batch) or len(batch) == at_once):
            _write_batch(descriptor, batch, (first - 1) * page_size)
            batch = []
        if not batch:
            first = number
        batch.append(page)
    if batch:
        _write_batch(descriptor, batch, (first - 1) * page_size)
    sums.extend(header.commit)


def _write_batch(descriptor: int, batch: list[bytes], at_bytes: int) -> None:
    written = os.pwritev(descriptor, batch, at_bytes)
    if written < sum(map(len, batch)):  # the disk is nearly full: the next write says so
        rest = memoryview(b"".join(batch))[written:]
        while rest:
            at_bytes += written
            written = os.pwrite(descriptor, rest, at_bytes)
            rest = rest[written:]


def begin(part: Path, page_size: int) -> Sums:
    """Begin a copy that is made out of nothing; give its sums."""
    part.touch()
    return Sums(sums_path(part), page_size)


def finish(part: Path, sums: Sums) -> None:
    """Fsync the pages, then the sums that vouch for them."""
    descriptor = os.open(part, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sums.write()
