"""The checksum of every live database, kept up to date from Litestream's own files (invariant I4).

After each sync the new level-0 LTX files are followed page by page, at a cost that grows with the
change; the first of a lineage, which holds the whole database, comes with its sums (``adopt``).
Where that does not work out (a file is gone or damaged), the replica is restored at that TXID and
read whole, so what is published is always what readers can get.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import structlog

from headrace.errors import LitestreamError, LtxError, ObjectMissingError, ProofError, StoreError
from headrace.keys import ltx_key
from headrace.litestream_restore import LitestreamRestore
from headrace.ltx import decode_header, decode_pages
from headrace.sums import Sums, sum_file
from ingest.volume import make_empty

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.generation import Cut
    from headrace.keys import PrimaryPaths
    from headrace.store import Store
    from ingest.metrics import IngestMetrics

log = structlog.get_logger()


class Checksums:
    """The checksums of one primary's databases. One caller a lineage at a time."""

    def __init__(self, paths: PrimaryPaths, store: Store, metrics: IngestMetrics) -> None:
        self._paths = paths
        self._store = store
        self._litestream = LitestreamRestore(store)
        self._metrics = metrics
        self._known: dict[str, Sums] = {}  # of each lineage

    async def advance(self, database: str, cut: Cut) -> Sums:
        """Give the sums of a cut that is replicated; only its lineage and TXID matter.

        Raises:
            LitestreamError: They could not be worked out.
        """
        lineage, txid = cut.lineage, cut.txid
        path = self._paths.sums(database, lineage)
        sums = self._known.pop(lineage, None) or await asyncio.to_thread(_read_sums, path)
        try:
            if sums is not None and sums.txid > txid:
                raise ProofError(f"the sums are at {sums.txid}, past {txid}")
            sums = await asyncio.to_thread(self._follow_here, database, cut, sums)
            while sums is None or sums.txid < txid:
                number = 1 + (sums.txid if sums else 0)
                key = ltx_key(database, lineage, 0, number, number, s3=self._store.is_s3)
                body = await self._store.read(key)
                sums = await asyncio.to_thread(_follow, path, sums, body, number)
                sums = await asyncio.to_thread(self._follow_here, database, cut, sums)
        except (LtxError, ProofError, ObjectMissingError, StoreError) as exc:
            log.warning("checksum worked out anew", database=database, reason=str(exc))
            self._metrics.checksum_rebuilds.inc()
            sums = await self._rebuild(database, cut)
        self._known[lineage] = sums
        return sums

    def forget(self, lineage: str) -> None:
        """Let go of a lineage that is not live any more; its file goes with the lineage's."""
        self._known.pop(lineage, None)

    def _follow_here(self, database: str, cut: Cut, sums: Sums | None) -> Sums | None:
        """Follow the files of this volume, up to one that is gone; write down the end.

        All of it in one call: each way from one thread to another takes a while where the
        interpreter is busy.
        """
        path = self._paths.sums(database, cut.lineage)
        for number in range(1 + (sums.txid if sums else 0), cut.txid + 1):
            try:
                body = self._paths.level0(database, cut.lineage, number).read_bytes()
            except FileNotFoundError:
                return sums
            sums = _follow(path, sums, body, number)
        if sums is not None:
            sums.write()
        return sums

    async def _rebuild(self, database: str, cut: Cut) -> Sums:
        folder = self._paths.staging / f"sums-{cut.lineage}"
        output = folder / "restored.db"
        await asyncio.to_thread(make_empty, folder)
        try:
            reason = await self._litestream.run(database, cut.lineage, cut.txid, output)
            if reason is not None:
                raise LitestreamError(f"cannot restore {database}: {reason}")
            path = self._paths.sums(database, cut.lineage)
            return await asyncio.to_thread(_sum_restored, output, path, cut.txid)
        except ProofError as exc:
            raise LitestreamError(f"cannot sum up {database}: {exc}") from exc
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _read_sums(path: Path) -> Sums | None:
    """Read what an earlier process wrote; None if there is nothing that can be believed.

    It may have been killed between the shares of a change and the header that goes with them.
    """
    try:
        sums = Sums.read(path)
        sums.load()
    except ProofError:
        return None
    return sums


def _follow(path: Path, sums: Sums | None, body: bytes, txid: int) -> Sums:
    """Follow one level-0 file.

    Raises:
        LtxError: It is damaged, or not that transaction.
    """
    header = decode_header(body)
    if (header.min_txid, header.max_txid) != (txid, txid):
        raise LtxError(f"transaction {txid} is {header.min_txid} to {header.max_txid}")
    if sums is None:
        sums = Sums(path, header.page_size)
    sums.follow(header, decode_pages(body))
    return sums


def _sum_restored(restored: Path, path: Path, txid: int) -> Sums:
    with restored.open("rb") as file:
        file.seek(16)
        page_size = int.from_bytes(file.read(2), "big")
    sums = sum_file(restored, 65536 if page_size == 1 else page_size)
    path.unlink(missing_ok=True)
    sums.path, sums.txid = path, txid
    sums.write()
    return sums
