"""What the tests of faults stand on: a reader whose every fault is seen from outside."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.integration.reader_kit import ORDERS, Client, Loop, Publisher, Visitor, eventually
from tests.integration.slots_kit import with_checksum

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.generation import Cut

# Metrics that say what has failed.
RESTORE_FAILURES = 'headrace_reader_switch_failures_total{step="restore"}'
START_FAILURES = 'headrace_reader_switch_failures_total{step="start"}'
LOG_ERRORS = 'headrace_reader_follow_errors_total{source="log"}'


def be_impatient(client: Client, retry_for_s: float) -> None:
    """Have what is not there waited for only shortly, not 30 s."""
    client.reader.supervisor._restorer._retry_for_s = retry_for_s  # noqa: SLF001


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A reader of the database `sales`, and who publishes for it.

    Each generation has one row more, whose id is the generation's number.
    """

    client: Visitor
    publisher: Publisher

    @property
    def newest(self) -> int:
        """The generation that was published last."""
        return self.publisher.state.number

    def write(self, *statements: str, anew: bool = False) -> Cut:
        """Write the next generation's row and more, in a database that may be begun anew."""
        if anew:
            self.publisher.begin_lineage("sales")
        create = ORDERS if anew or not self.newest else ()
        row = f"INSERT INTO orders VALUES ({self.newest + 1}, 'pen')"
        cut = self.publisher.write("sales", *create, row, *statements)
        return with_checksum(self.publisher, "sales", cut)

    async def publish(self, cut: Cut | None = None) -> None:
        """Publish the next generation."""
        await self.publisher.publish({"sales": cut or self.write()})

    async def report(self) -> dict[str, Any]:
        """Give what the reader says of itself."""
        report: dict[str, Any] = await self.client.json("/-/headrace.json")
        return report

    @asynccontextmanager
    async def served_on(self, metric: str) -> AsyncIterator[None]:
        """Break something in the block, and heal it: the reader must bear it.

        No read fails meanwhile, the metric counts, and after it the newest generation comes into
        service by itself, with nothing left to complain of.
        """
        before = await self.client.metric(metric)
        # Rendered by Datasette each time, not from memory.
        query = "sql=select+count(*)+from+orders"
        loop = Loop(self.client, f"/sales.json?{query}&n={{n}}", pause_s=0.02)
        try:
            yield
            await self.client.wait_generation(self.newest)
            await eventually(self._is_well)
        finally:
            await loop.stop()
        assert (loop.failures, loop.reads > 0) == ([], True)
        assert (await self.client.rows("/sales/orders"))[-1]["id"] == self.newest
        assert await self.client.metric(metric) > before

    async def _is_well(self) -> bool:
        report = await self.report()
        return report["last_error"] is None and "log" not in report["following_errors"]
