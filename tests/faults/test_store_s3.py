"""The fault: the object store, a real one over S3, fails in all the ways that a network lets it.

I7 survives: a reader serves on what it has, says why that is not newer, and recovers by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from headrace.keys import generation_key, ltx_key
from tests.integration.fault_proxy import (
    FaultProxy,
    answering,
    cutting_short,
    falling_silent,
    never_answering,
    of_litestream,
    resetting,
)
from tests.integration.faults_kit import LOG_ERRORS, RESTORE_FAILURES, Bench, be_impatient
from tests.integration.reader_kit import Publisher, reading, settings_for
from tests.integration.slots_kit import cut_short

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.fault_proxy import Fault
    from tests.integration.s3_kit import S3

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEADLINE_S = 1.0  # of the reader, for an answer; those who hang do so until the reader is stopped

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
    "hang": (never_answering, "no answer in 1 s"),
    "silence in a body": (falling_silent, "no answer in 1 s"),
    "body cut short": (cutting_short, "the store's answer was cut short"),
    "reset": (resetting, "the store cannot be asked: connection reset by peer"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Bench(Bench):
    """A reader of a store behind a proxy; who publishes does so directly."""

    proxy: FaultProxy


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[S3Bench]:
    """Give one reader for the tests of this module, with short deadlines, in generation 1."""
    root = tmp_path_factory.mktemp("reader")
    bucket = s3.make_bucket()
    proxy = FaultProxy(s3.port)
    with pytest.MonkeyPatch.context() as patch:
        s3.give_credentials(patch)
        patch.setattr("headrace.store.ANSWER_S", DEADLINE_S)
        patch.setattr("headrace.roll.STALL_S", DEADLINE_S)
        patch.setattr("headrace.litestream_restore.STALL_S", DEADLINE_S / 2)
        patch.setattr("serve.switch.MAX_BACKOFF_S", 0.1)
        patch.setattr("serve.follow.POLL_S", 0.1)
        async with proxy.listening() as port:
            settings = settings_for(root, store=s3.url(bucket, port=port))
            async with reading(settings) as client:
                publisher = Publisher(root, s3.url(bucket))
                made = S3Bench(client=client, publisher=publisher, proxy=proxy)
                await made.publish()
                await client.wait_generation(1)
                be_impatient(client, DEADLINE_S)
                yield made


@pytest.mark.parametrize("name", FAULTS)
async def test_log_that_cannot_be_read_is_told_and_read_when_it_can(
    bench: S3Bench, name: str
) -> None:
    """The generation in service stays, and the newest comes as soon as the log can be read."""
    fault, reason = FAULTS[name]
    served = bench.newest
    async with bench.served_on(LOG_ERRORS):
        with bench.proxy.broken("generations/", fault):
            key = generation_key(served + 1)
            await bench.client.wait_not_following(f"cannot read {key}: {reason}")

            await bench.publish()

            report = await bench.client.wait_not_following(f"cannot read {key}: {reason}")
            assert (report["generation"], report["newest_generation"]) == (served, served)


@pytest.mark.parametrize("name", FAULTS)
async def test_files_that_cannot_be_fetched_are_told_and_fetched_when_they_can(
    bench: S3Bench, name: str
) -> None:
    """The generation in service stays, and the newest comes as soon as its files can be fetched."""
    fault, reason = FAULTS[name]
    served = bench.newest
    async with bench.served_on(RESTORE_FAILURES):
        with bench.proxy.broken("dbs/", fault):
            await bench.publish()

            error = await bench.client.wait_error(reason)

            assert (error["generation"], error["step"]) == (served + 1, "restore")
            assert error["message"].startswith("cannot restore sales at ")
            report = await bench.report()
            assert (report["generation"], report["newest_generation"]) == (served, served + 1)


async def test_litestream_that_hangs_is_told_and_started_again(bench: S3Bench) -> None:
    """A damaged file has Litestream asked, and what hangs then is not waited for until its end."""
    store = bench.publisher.store
    async with bench.served_on(RESTORE_FAILURES):
        with bench.proxy.broken("dbs/", of_litestream(never_answering)):
            cut = bench.write()
            key = ltx_key("sales", cut.lineage, 0, cut.txid, cut.txid, s3=True)
            whole = await store.read(key)
            await store.replace(key, cut_short(whole))
            await bench.publish(cut)

            error = await bench.client.wait_error("litestream: it wrote nothing for 0.5 s")

            assert "a page is cut short" in error["message"]
        await store.replace(key, whole)
