"""Earlier generations: what they held, how two differ, and their databases as files again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.errors import LogError, ProofError, RestoreError
from headrace.generation import State, format_txid
from headrace.keys import ltx_level_key, parse_ltx_name
from headrace.litestream_restore import LitestreamRestore
from headrace.log import CHECKPOINT_EVERY
from headrace.metadata import changed_keys
from headrace.patience import Patience
from headrace.plan import LEVELS
from headrace.roll import Aim, Roller, begin
from headrace.sums import sum_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from headrace.generation import Cut, Entry
    from headrace.log import GenerationLog
    from headrace.store import Store

NEAREST = 5  # earlier TXIDs that are tried
STALL_S = 30.0  # without an answer of the store


async def read_at(log: GenerationLog, number: int) -> State:
    """Read what a generation held: one GET for each entry since the checkpoint before it.

    Raises:
        LogError: It is not published, or pruned.
        StoreError: The store could not be asked.
    """
    # A number far beyond the newest would have all checkpoints below it looked for.
    if number and await log.find_entry(number) is None:
        state = await log.find_checkpoint_of(number)
        if state is None:
            raise _no_generation(number)
        return state
    base = number // CHECKPOINT_EVERY * CHECKPOINT_EVERY
    state = State()
    while base and (state := await log.find_checkpoint_of(base)) is None:
        base -= CHECKPOINT_EVERY  # one that could not be written is left out
    state = state or State()
    while state is not None and state.number < number:
        entry = await log.find_entry(state.number + 1)
        state = state.apply(entry) if entry else None
    if state is None:
        raise _no_generation(number)
    return state


def _no_generation(number: int) -> LogError:
    return LogError(
        f"there is no generation {number}",
        hint="it is not published yet, or older than --log-retention",
    )


async def read_back(log: GenerationLog, number: int, limit: int) -> AsyncIterator[Entry]:
    """Give the entries of a generation and of those before it, as far as they are kept.

    Raises:
        LogError: An entry cannot be read.
        StoreError: The store could not be asked.
    """
    for each in range(number, max(number - limit, 0), -1):
        entry = await log.find_entry(each)
        if entry is None:
            return
        yield entry


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDifference:
    """How one table differs between two generations.

    Attributes:
        database: Its database.
        table: Its name.
        before: Rows in the first; None if it is not there.
        after: Rows in the second; None if it is not there.
    """

    database: str
    table: str
    before: int | None
    after: int | None


def compare(first: State, second: State) -> list[TableDifference]:
    """Give the tables of all databases that changed from one generation to another.

    A database that changed shows all tables whose rows differ in number; if there are none, all of
    its tables, since one of them has other values.
    """
    found: list[TableDifference] = []
    for name in sorted({*first.databases, *second.databases}):
        before, after = first.databases.get(name), second.databases.get(name)
        if is_same(before, after):
            continue
        old, new = (before.tables if before else {}), (after.tables if after else {})
        tables = [
            TableDifference(database=name, table=table, before=old.get(table), after=new.get(table))
            for table in sorted({*old, *new})
        ]
        found += [each for each in tables if each.before != each.after] or tables
    return found


def compare_metadata(first: State, second: State) -> dict[str, list[str]]:
    """Give what is said otherwise of a database that both generations have, as keys."""
    found = {}
    for name in sorted(first.databases.keys() & second.databases.keys()):
        before, after = first.databases[name].metadata, second.databases[name].metadata
        if keys := changed_keys(before, after):
            found[name] = keys
    return found


async def restore_files(
    store: Store, state: State, folder: Path, database: str | None
) -> AsyncIterator[tuple[str, int]]:
    """Write the databases of a generation as files, ``<database>.db``; none may be there yet.

    Args:
        store: Where they are.
        state: The generation.
        folder: Where they go.
        database: The only one; None for all.

    Yields:
        Each database with the TXID that was restored.

    Raises:
        RestoreError: There is no such database, one cannot be restored, or a file is in the way.
        ProofError: What was restored is not what was published.
        StoreError: The store could not be asked.
    """
    if database is not None and database not in state.databases:
        raise RestoreError(f"generation {state.number} has no database {database!r}")
    litestream = LitestreamRestore(store)
    for name in [database] if database else sorted(state.databases):
        output = folder / f"{name}.db"
        if output.exists():
            raise RestoreError(f"{output} is in the way", hint="choose an empty folder")
        yield name, await restore_cut(store, litestream, name, state.databases[name], output)


async def restore_cut(
    store: Store, litestream: LitestreamRestore, name: str, cut: Cut, output: Path
) -> int:
    """Restore a database as a generation held it, or as shortly before that as is still kept.

    Litestream keeps each transaction for a day (``l0-retention``), and after that what compaction
    made of them: then the newest state that is not newer than the cut is taken.

    Args:
        store: Where it is.
        litestream: Restores it.
        name: The database.
        cut: What is wanted.
        output: The file to write.

    Returns:
        The TXID that was restored.

    Raises:
        RestoreError: Nothing of it is kept.
        ProofError: What was restored is not what was published.
        StoreError: The store could not be asked.
    """
    try:
        await restore_exactly(litestream, name, cut, output)
    except ProofError:
        raise
    except RestoreError as exc:
        tried: set[int] = set()
        while len(tried) < NEAREST:
            # Asked each time: Litestream may just be deleting single transactions.
            kept = await _kept_txids(store, name, cut) - tried
            if not kept:
                break
            txid = max(kept)
            if await litestream.run(name, cut.lineage, txid, output) is None:
                return txid
            tried.add(txid)
        hint = "what no generation names any more is kept for --generation-retention"
        raise RestoreError(str(exc), hint=hint) from exc
    return cut.txid


async def restore_exactly(litestream: LitestreamRestore, name: str, cut: Cut, output: Path) -> None:
    """Restore a database as a generation held it, and prove it.

    Raises:
        RestoreError: That failed: it is not kept, or the store does not give it just now.
        ProofError: What was restored is not what was published.
    """
    reason = await litestream.run(name, cut.lineage, cut.txid, output)
    if reason is not None:
        raise RestoreError(f"cannot restore {name} at {format_txid(cut.txid)}: {reason}")
    if cut.checksum is None:
        return
    found = await asyncio.to_thread(sum_file, output, cut.page_size)
    if found.value != cut.checksum:
        raise ProofError(f"what was restored of {name} is not what was published")


async def restore_by_pages(store: Store, name: str, cut: Cut, output: Path) -> None:
    """Make a copy of a database as a generation held it out of its LTX files, and prove it.

    That is faster than ``litestream restore``, and the proof comes with it. What is not there is
    not waited for, and the copy is not fsynced.

    Args:
        store: Where they are.
        name: The database.
        cut: What is wanted.
        output: The file to write; worth nothing if this fails.

    Raises:
        LtxError: A file is damaged, or none lead there although newer ones exist.
        OSError: The copy cannot be written.
        ProofError: It is not what was published.
        RestoreError: The store does not give the files just now.
    """
    patience = Patience(0, asyncio.Event())
    aim = Aim(database=name, lineage=cut.lineage, txid=cut.txid, patience=patience)
    sums = begin(output, cut.page_size)
    await Roller(store).write(output, sums, aim)
    if sums.pages != cut.pages or cut.checksum not in {None, sums.value}:
        raise ProofError(f"what was restored of {name} is not what was published")


async def _kept_txids(store: Store, name: str, cut: Cut) -> set[int]:
    """List the TXIDs before a cut at which a file ends."""
    ends: set[int] = set()
    for level in LEVELS:
        prefix = ltx_level_key(name, cut.lineage, level, s3=store.is_s3)
        for file in await store.list_sizes(prefix, stall_s=STALL_S):
            parsed = parse_ltx_name(file)
            if parsed is not None and parsed[1] < cut.txid:
                ends.add(parsed[1])
    return ends


def is_same(before: Cut | None, after: Cut | None) -> bool:
    """Say whether a database holds the same in two generations, or is in neither."""
    if before is None or after is None:
        return before is after
    return (before.lineage, before.txid) == (after.lineage, after.txid)
