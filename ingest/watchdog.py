"""Looks at one live database after another in the background: is it still what was replicated?"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import structlog

from headrace.child import stop_process
from headrace.leash import leashed

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.keys import PrimaryPaths
    from ingest.metrics import IngestMetrics
    from ingest.primary import Primary

log = structlog.get_logger()

PAUSE_S = 60.0  # between two databases
TIMEOUT_S = 3600.0


class Watchdog:
    """Verifies the live databases in turn."""

    def __init__(self, paths: PrimaryPaths, primary: Primary, metrics: IngestMetrics) -> None:
        self._paths = paths
        self._primary = primary
        self._metrics = metrics

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            for database, cut in list(self._primary.state.databases.items()):
                await asyncio.sleep(PAUSE_S)
                live = self._primary.state.databases.get(database)
                if live is None or live.lineage != cut.lineage:
                    continue
                (differs,) = await verify_apart(self._paths.database(database, cut.lineage))
                self._metrics.verifications.labels("differs" if differs else "equal").inc()
                if differs:
                    log.error("database differs from its replica", database=database, why=differs)
            if not self._primary.state.databases:
                await asyncio.sleep(PAUSE_S)


async def verify_apart(*databases: Path, at_rest: bool = False) -> list[str | None]:
    """Verify live databases in a process of its own; give what differs of each.

    Args:
        databases: The files.
        at_rest: Whether nothing has them open, Litestream included.
    """
    flags = ["--at-rest"] if at_rest else []
    process = await asyncio.create_subprocess_exec(
        *leashed(sys.executable, "-m", "ingest.verify", *flags, *map(str, databases)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        return ["it took too long to tell"] * len(databases)
    finally:
        if process.returncode is None:
            await stop_process(process, grace_s=0.5)
    found = [json.loads(line)["differs"] for line in output.splitlines()]
    ended = f"the process that looks ended with {process.returncode}"
    return [*found, *[ended] * (len(databases) - len(found))]
