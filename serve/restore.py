"""restore: a proven slot for every database of a generation, at a cost that grows with the change.

Three ways, the next one when a copy could not be made or is not what the generation says: an idle
slot is rolled forward; a first copy is made from a snapshot and what follows; ``litestream
restore``. What none of them proves is not served.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

import structlog

from headrace.errors import LtxError, ProofError, RestoreError
from headrace.generation import format_txid
from headrace.litestream_restore import LitestreamRestore
from headrace.patience import Patience
from headrace.roll import Aim, Roller, begin, finish
from headrace.sums import Sums, sum_file
from serve.groups import one_error
from serve.slot_files import part_path, remove_slot
from serve.slots import SlotPool
from serve.spare_slots import prepare_spares
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
SPARES_AFTER_S = 1.0  # from a switch until idle slots are prepared for the next one


class Restorer:
    """Makes slots, and removes those that nobody needs.

    Args:
        paths: The reader's folders.
        store: Where Litestream's replicas lie.
        metrics: Counts steps and bytes.
        retry_for_s: How long what is not there yet is waited for.

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
        self.pool = SlotPool(paths)
        self._metrics = metrics
        self._retry_for_s = retry_for_s
        self._roller = Roller(store, metrics.fetched_bytes.inc)
        self._litestream = LitestreamRestore(store)
        self._running = asyncio.Semaphore(PARALLEL)
        self._cuts: dict[str, tuple[str, Cut]] = {}  # by lineage, of the last generation
        self._slots: dict[str, tuple[Cut, Path]] = {}  # the same by name, each with its slot
        self._pruned = asyncio.Event()

    def find_slots(self, state: State) -> dict[str, Path] | None:
        """Give the slot of each database if all are here already; none of them is proven yet."""
        slots = self._find_paths(state)
        return slots if all(slot.exists() for slot in slots.values()) else None

    async def restore(self, state: State, *, superseded: asyncio.Event) -> dict[str, Path]:
        """Give the proven slot of each database, after making those that are missing.

        The slots given out are not written before ``prune`` has said which ones are served.

        Args:
            state: The generation.
            superseded: Set when a newer generation is known: then what is not there yet is not
                waited for, because the newer one may do without it.

        Raises:
            RestoreError: A copy could not be made, or is not what the generation says.
        """
        slots = self._find_paths(state)
        self.pool.reserve(slots.values())
        known = {slot for _, slot in self._slots.values()}  # not looked for at each generation
        missing = [
            name
            for name, slot in slots.items()
            if not (self.pool.is_proven(slot) and (slot in known or slot.exists()))
        ]
        try:
            with one_error():
                async with asyncio.TaskGroup() as tasks:
                    for name in missing:
                        cut = state.databases[name]
                        tasks.create_task(self._restore_one(name, cut, superseded))
        except OSError as exc:
            raise RestoreError(f"cannot write a slot: {exc}") from exc
        self._cuts = {cut.lineage: (name, cut) for name, cut in state.databases.items()}
        self._slots = {name: (cut, slots[name]) for name, cut in state.databases.items()}
        return slots

    async def prune(self, wanted: Iterable[Path]) -> None:
        """Learn which slots workers serve, and remove what nobody needs.

        Args:
            wanted: The slots of all workers, also of those that still drain. Every other slot may
                be written from now on.

        Raises:
            OSError: A file cannot be removed.
        """
        for lineage in self.pool.set_live(wanted):
            if not self.pool.lock(lineage).locked():  # else it is done after the next switch
                async with self.pool.lock(lineage):
                    await asyncio.to_thread(self.pool.prune, lineage)
        self._pruned.set()

    async def run(self) -> None:
        """Prepare an idle slot beside each one in service, until cancelled."""
        while True:
            await self._pruned.wait()
            self._pruned.clear()
            put_off = True
            while put_off:
                await asyncio.sleep(SPARES_AFTER_S)
                put_off = await self.prepare_spares()

    async def prepare_spares(self) -> bool:
        """Have an idle slot beside each one in service that is worth it, at the same TXID.

        Returns:
            Whether one was put off.
        """
        return await prepare_spares(self.pool, self._roller, self._cuts)

    def _find_paths(self, state: State) -> dict[str, Path]:
        """Give the slot of each database: what the last generation had as the same objects."""
        return {name: self._find_path(name, cut) for name, cut in state.databases.items()}

    def _find_path(self, name: str, cut: Cut) -> Path:
        before = self._slots.get(name)
        return before[1] if before and before[0] is cut else self.pool.path(cut)

    async def _restore_one(self, name: str, cut: Cut, superseded: asyncio.Event) -> None:
        slot = self.pool.path(cut)
        asked_s = perf_counter()
        async with self._running, self.pool.lock(cut.lineage):
            begun_s = perf_counter()
            if slot.exists() and await self._prove_again(name, cut, slot):
                return
            slot.parent.mkdir(parents=True, exist_ok=True)
            self.pool.note_unpruned(cut.lineage)
            aim = Aim(
                database=name,
                lineage=cut.lineage,
                txid=cut.txid,
                patience=Patience(self._retry_for_s, superseded),
            )
            try:
                way = await self._make(cut, aim, slot)
            except (RestoreError, OSError) as exc:
                why = exc if isinstance(exc, RestoreError) else f"cannot write a slot: {exc}"
                raise RestoreError(
                    f"cannot restore {name} at {format_txid(cut.txid)} of {cut.lineage}: {why}",
                    hint="the reader tries again by itself",
                ) from exc
        size_bytes = cut.pages * cut.page_size
        self._metrics.restored_bytes.inc(size_bytes)
        log.info(
            "slot restored",
            database=name,
            txid=format_txid(cut.txid),
            bytes=size_bytes,
            way=way,
            waited_s=round(begun_s - asked_s, 4),
            took_s=round(perf_counter() - begun_s, 4),
        )

    async def _prove_again(self, name: str, cut: Cut, slot: Path) -> bool:
        """Prove a slot that was found on disk, or is in doubt; it is read whole."""
        with self._metrics.step("verify"):
            sums = await asyncio.to_thread(self.pool.prove_again, slot)
            try:
                if sums is not None:
                    await verify_copy(slot, cut, sums.value)
                    return True
            except ProofError as exc:
                log.warning("slot thrown away", database=name, slot=slot.name, reason=str(exc))
                self.pool.distrust(cut.lineage)
        self._metrics.proof_failures.inc()
        return False

    async def _make(self, cut: Cut, aim: Aim, slot: Path) -> str:
        """Make a slot in the first way that gives a copy that can be proven; give that way.

        Raises:
            RestoreError: None does.
        """
        reasons: list[str] = []
        ways = {
            "roll": self._roll_slot,
            "anew": self._copy_anew,
            "litestream": self._run_litestream,
        }
        for way, make in ways.items():
            part = part_path(slot)
            try:
                sums = await make(cut, aim, part)
                if sums is None:
                    continue
                with self._metrics.step("verify"):
                    await verify_copy(part, cut, sums.value)
                await asyncio.to_thread(self.pool.keep, part, slot)
            except (LtxError, ProofError) as exc:
                if isinstance(exc, ProofError):
                    self._metrics.proof_failures.inc()
                log.warning(
                    "copy thrown away", database=aim.database, slot=slot.name, reason=str(exc)
                )
                reasons.append(str(exc))
            except RestoreError as exc:
                raise RestoreError("; ".join([*reasons, str(exc)])) from exc
            else:
                return way
            finally:
                remove_slot(part)
        raise RestoreError("; ".join(dict.fromkeys(reasons)))

    async def _roll_slot(self, cut: Cut, aim: Aim, part: Path) -> Sums | None:
        """Roll an idle slot forward, or a copy of a live one; None if there is neither."""
        sums = await asyncio.to_thread(self.pool.take_base, cut.lineage, cut.txid, part)
        if sums is not None:
            with self._metrics.step("restore"):
                await self._roller.roll(part, sums, aim)
        return sums

    async def _copy_anew(self, cut: Cut, aim: Aim, part: Path) -> Sums:
        sums = await asyncio.to_thread(begin, part, cut.page_size)
        with self._metrics.step("restore"):
            await self._roller.roll(part, sums, aim)
        return sums

    async def _run_litestream(self, cut: Cut, aim: Aim, part: Path) -> Sums:
        with self._metrics.step("restore"):
            reason = await self._litestream.run(aim.database, cut.lineage, cut.txid, part)
        if reason is not None:
            raise LtxError(f"litestream: {reason}")
        return await asyncio.to_thread(_record, part, cut)


def _record(part: Path, cut: Cut) -> Sums:
    """Write the sums of a copy that was made by other code."""
    sums = sum_file(part, cut.page_size)
    sums.txid = cut.txid
    finish(part, sums)
    return sums
