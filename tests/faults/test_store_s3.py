"""The fault: the object store, a real one over S3, fails in all the ways that a network lets it.

I7 survives: a reader serves on what it has, says why that is not newer, and recovers by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.integration.fault_proxy import (
    FaultProxy,
    answering,
    cutting_short,
    falling_silent,
    never_answering,
    resetting,
)
from tests.integration.reader_kit import (
    ORDERS,
    Client,
    Publisher,
    be_impatient,
    eventually,
    reading,
    served_all_the_while,
    settings_for,
)
from tests.integration.s3_kit import s3_server
from tests.integration.slots_kit import with_checksum

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.integration.fault_proxy import Fault
    from tests.integration.s3_kit import S3

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEADLINE_S = 0.5  # of the reader, for an answer; those who hang do so until the reader is stopped

# What happens to a request, and what the reader has to say of it.
FAULTS: dict[str, tuple[Fault, str]] = {
    "500": (
        answering("500 Internal Server Error", "InternalError", "We encountered an error."),
        "the store answers 500 Internal Server Error (InternalError: We encountered an error)",
    ),
    "503": (
        answering("503 Slow Down", "SlowDown", "Please reduce your request rate."),
        "the store answers 503 Service Unavailable (SlowDown: Please reduce your request rate)",
    ),
    "403": (
        answering("403 Forbidden", "AccessDenied", "Access Denied."),
        "the store answers 403 Forbidden (AccessDenied: Access Denied)",
    ),
    "hang": (never_answering, "no answer in 0.5 s"),
    "silence in a body": (falling_silent, "no answer in 0.5 s"),
    "body cut short": (cutting_short, "the store's answer was cut short"),
    "reset": (resetting, "the store cannot be asked: connection reset by peer"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A reader, the store that it reads through a proxy, and who publishes there directly."""

    client: Client
    proxy: FaultProxy
    publisher: Publisher

    async def publish(self) -> int:
        """Publish one row more; give how many there are."""
        number = self.publisher.state.number + 1
        more = () if number > 1 else ORDERS
        cut = self.publisher.write("sales", *more, f"INSERT INTO orders VALUES ({number}, 'pen')")
        await self.publisher.publish({"sales": with_checksum(self.publisher, "sales", cut)})
        return number

    async def report(self) -> dict[str, Any]:
        """Give what the reader says of itself."""
        report: dict[str, Any] = await self.client.json("/-/headrace.json")
        return report

    async def wait_recovered(self, rows: int) -> None:
        """Wait until the newest generation is in service, and nothing is wrong."""
        await self.client.wait_generation(self.publisher.state.number)
        assert len(await self.client.rows("/sales/orders")) == rows
        assert (await self.report())["last_error"] is None
        await eventually(lambda: "log" not in self.client.reader.follower.why)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Give a running S3 server."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """Give one reader for the tests of this module, with short deadlines, in generation 1."""
    root = tmp_path_factory.mktemp("reader")
    bucket = s3.make_bucket()
    proxy = FaultProxy(s3.port)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headrace.store.ANSWER_S", DEADLINE_S)
        patch.setattr("serve.roll.STALL_S", DEADLINE_S)
        patch.setattr("serve.switch.MAX_BACKOFF_S", 0.1)
        patch.setattr("serve.follow.POLL_S", 0.1)
        async with proxy.listening() as port:
            settings = settings_for(root, store=s3.url(bucket, port=port))
            async with reading(settings) as client:
                publisher = Publisher(root, s3.url(bucket))
                made = Bench(client=client, proxy=proxy, publisher=publisher)
                await made.publish()
                await client.wait_generation(1)
                be_impatient(client)
                yield made


@pytest.mark.parametrize("name", FAULTS)
async def test_log_that_cannot_be_read_is_told_and_read_when_it_can(
    bench: Bench, name: str
) -> None:
    """The generation in service stays, and the newest comes as soon as the log can be read."""
    fault, reason = FAULTS[name]
    served = bench.publisher.state.number
    counter = 'headrace_reader_follow_errors_total{source="log"}'
    before = await bench.client.metric(counter)
    async with served_all_the_while(bench.client):
        with bench.proxy.broken("generations/", fault):
            rows = await bench.publish()
            why = await eventually(lambda: bench.client.reader.follower.why.get("log"))

            report = await bench.report()
            assert report["following_errors"]["log"] == why
            assert why.startswith("cannot read generations/")
            assert why.endswith(f".json: {reason}")
            assert report["generation"] == served
            assert await bench.client.metric(counter) > before
        await bench.wait_recovered(rows)


@pytest.mark.parametrize("name", FAULTS)
async def test_files_that_cannot_be_fetched_are_told_and_fetched_when_they_can(
    bench: Bench, name: str
) -> None:
    """The generation in service stays, and the newest comes as soon as its files can be fetched."""
    fault, reason = FAULTS[name]
    served = bench.publisher.state.number
    counter = 'headrace_reader_switch_failures_total{step="restore"}'
    before = await bench.client.metric(counter)
    async with served_all_the_while(bench.client):
        with bench.proxy.broken("dbs/", fault):
            rows = await bench.publish()
            error = await bench.client.wait_error()

            assert (error["generation"], error["step"]) == (served + 1, "restore")
            assert error["message"].startswith("cannot restore sales at ")
            assert reason in error["message"]
            report = await bench.report()
            assert (report["generation"], report["newest_generation"]) == (served, served + 1)
            assert await bench.client.metric(counter) > before
        await bench.wait_recovered(rows)
