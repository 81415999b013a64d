"""``litestream restore``: slow, whole, and by other code than ours; for when ours finds no way."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from headrace.child import stop_process
from headrace.generation import format_txid
from headrace.keys import lineage_key
from headrace.leash import leashed
from headrace.litestream_binary import find_litestream, litestream_environment

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.store import Store

RESTORE_TIMEOUT_S = 3600.0  # for one run
# That it may write nothing: it waits for a store that hangs for a day. The last fsync of a large
# database is such a time too.
STALL_S = 300.0


class LitestreamRestore:
    """Runs ``litestream restore``.

    Args:
        store: Where the replicas lie.

    Raises:
        ConfigError: There is no litestream.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._litestream = find_litestream()

    async def run(self, database: str, lineage: str, txid: int | None, output: Path) -> str | None:
        """Restore a lineage once; give why that failed, or None.

        Args:
            database: Its database.
            lineage: The lineage.
            txid: As of which transaction; None: as far as it goes.
            output: The file to write.
        """
        url = self._store.litestream_url(lineage_key(database, lineage))
        flags = [] if txid is None else ["-txid", format_txid(txid)]
        process = await asyncio.create_subprocess_exec(
            *leashed(str(self._litestream), "restore", *flags, "-o", str(output), url),
            env=litestream_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is for its parent alone
        )
        try:
            async with asyncio.timeout(RESTORE_TIMEOUT_S):
                said = await _hear(process, output)
        except TimeoutError:
            return f"it took longer than {RESTORE_TIMEOUT_S:.0f} s"
        finally:
            if process.returncode is None:
                await stop_process(process, grace_s=0.5)
        if said is None:
            return f"it wrote nothing for {STALL_S:g} s"
        if process.returncode == 0:
            return None
        lines = said.decode(errors="replace").strip().splitlines()
        return (lines or [f"exit status {process.returncode}"])[-1].removeprefix("Error: ")


async def _hear(process: asyncio.subprocess.Process, output: Path) -> bytes | None:
    """Give what it says until its end; None if it stalls before."""
    talking = asyncio.create_task(process.communicate())
    try:
        written_bytes = -1
        while not (await asyncio.wait([talking], timeout=STALL_S))[0]:
            before_bytes, written_bytes = written_bytes, _written_bytes(output)
            if written_bytes == before_bytes:
                return None
        return talking.result()[1]
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)


def _written_bytes(output: Path) -> int:
    """Give the size of what there is of a restore, which has another name until it is whole."""
    found = 0
    for path in output.parent.glob(f"{output.name}*"):
        with suppress(FileNotFoundError):
            found += path.stat().st_size
    return found
