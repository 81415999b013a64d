"""A primary and a reader on a real S3 server: what they ask of it, and what nobody is shown."""

from __future__ import annotations

import asyncio
import re
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import aiohttp

from tests.e2e.primary_kit import Primary, primaries
from tests.integration.fault_proxy import answering
from tests.integration.reader_kit import Spawned, Visitor, eventually, spawned_reader
from tests.integration.s3_requests import LEASES, Asked, CountingProxy
from tests.integration.test_s3 import command_lines

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Iterator

    import pytest

    from tests.integration.s3_kit import S3

LITESTREAM_YML = Path(__file__).parents[2] / "litestream.yml"
HURRY = 1800  # times: an hour of theirs takes two seconds
HOUR_S = 3600 / HURRY
DATABASES = 3
REPLICAS = DATABASES + 1  # the journal is one
REPLICAS_OF_TEN = 11
RENEWAL = Asked(by="headrace", operation="create", area=LEASES)  # once a second
PER_HOUR = 200  # requests at rest, of a node; for the primary: with ten databases
HURRIED_READER = f"import serve.follow; serve.follow.POLL_WITH_PUSH_S /= {HURRY}"
REFUSING = answering("403 Forbidden", "SignatureDoesNotMatch", "Check your key.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """A running primary and a reader, and what is between them and the store."""

    primary: Primary
    spawned: Spawned
    reader: Visitor
    of_primary: CountingProxy
    of_reader: CountingProxy


@asynccontextmanager
async def nodes_on(s3: S3, root: Path, primary_log: Path) -> AsyncIterator[Nodes]:
    """Run both while the block runs, with all intervals of Litestream, and of polls, shortened."""
    bucket = s3.make_bucket()
    of_primary, of_reader = CountingProxy(s3.port), CountingProxy(s3.port)
    (root / "litestream.yml").write_text(_hurried(LITESTREAM_YML.read_text()))
    config = ("--litestream-config", str(root / "litestream.yml"))
    async with of_primary.listening() as port, of_reader.listening() as reader_port:
        primary = Primary(root, "primary", *config, store=s3.url(bucket, port=port))
        with primary_log.open("wb") as log:
            primary.start(stderr=log.fileno())
        with primaries(primary):
            await asyncio.to_thread(primary.wait_until_up)
            for number in range(DATABASES):
                await asyncio.to_thread(primary.upload, b"n\n1\n", f"d{number}.csv")
            store = s3.url(bucket, port=reader_port)
            async with (
                spawned_reader(
                    root, store=store, primary=primary.url, prelude=HURRIED_READER
                ) as spawned,
                aiohttp.ClientSession() as session,
            ):
                reader = Visitor(spawned.url, spawned.metrics_url, session)
                await reader.wait_generation(DATABASES)
                yield Nodes(
                    primary=primary,
                    spawned=spawned,
                    reader=reader,
                    of_primary=of_primary,
                    of_reader=of_reader,
                )


async def test_nodes_at_rest_ask_little_count_all_and_show_no_secret(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests fit a budget, metrics agree with what the server sees, logs hold no credentials."""
    s3.give_credentials(monkeypatch)
    token, secret = secrets.token_hex(16), secrets.token_hex(16)
    monkeypatch.setattr("tests.e2e.primary_kit.TOKEN", token)
    monkeypatch.setenv("DATASETTE_SECRET", secret)
    log = tmp_path / "primary.log"
    async with nodes_on(s3, tmp_path, log) as nodes:
        await _check_rest(nodes)
        await _check_counts(nodes)
        with (
            nodes.of_primary.broken(LEASES, REFUSING),
            nodes.of_reader.broken("generations", REFUSING),
        ):
            await eventually(lambda: b"lease not renewed" in log.read_bytes())
            await nodes.reader.wait_not_following("SignatureDoesNotMatch")
            shown = "".join(command_lines())
        assert nodes.primary.stop() == 0
    said = log.read_text() + (await nodes.spawned.log).decode()
    assert "SignatureDoesNotMatch" in said
    assert "litestream" in shown
    for value in (token, secret, s3.credentials["AWS_SECRET_ACCESS_KEY"]):
        assert value not in shown + said
        assert [path for path in _files(tmp_path) if value.encode() in path.read_bytes()] == []


async def _check_rest(nodes: Nodes) -> None:
    """See that an hour at rest is within the budget, Litestream's requests by its replicas.

    What falls into two seconds is a matter of luck: of several such hours, one has to be.
    """

    async def look() -> bool:
        by_primary, by_reader, hours = await _watch_an_hour(nodes)
        if any(each.operation == "put" for each in by_primary):  # something is still compacted
            return False
        assert {each.area for each in by_primary if each.by == "headrace"} == {LEASES}, by_primary
        by_litestream = sum(n for each, n in by_primary.items() if each.by == "litestream")
        of_ten = by_litestream / hours / REPLICAS * REPLICAS_OF_TEN
        return of_ten <= PER_HOUR and 0 < by_reader.total() / hours <= PER_HOUR

    await eventually(look)


async def _watch_an_hour(nodes: Nodes) -> tuple[Counter[Asked], Counter[Asked], float]:
    """Give what the primary, and the reader, ask while the lease is renewed twice; in how long."""
    primary, reader = nodes.of_primary, nodes.of_reader
    before, reader_before, started_s = primary.counts.copy(), reader.counts.copy(), perf_counter()
    await eventually(lambda: (primary.counts - before)[RENEWAL] >= HOUR_S)
    hours = (perf_counter() - started_s) / HOUR_S
    return primary.counts - before, reader.counts - reader_before, hours


async def _check_counts(nodes: Nodes) -> None:
    """Compare metrics of the primary with what passed by; its lease goes on being created."""
    primary = nodes.primary

    def metric(name: str, **labels: str) -> float:
        written = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
        return primary.metric(f"headrace_store_{name}_total{{{written}}}")

    for by, operation in (
        ("headrace", "get"),
        ("headrace", "head"),
        ("headrace", "list"),
        ("headrace", "multipart"),
        ("litestream", "put"),
    ):
        told = await asyncio.to_thread(metric, "requests", client=by, operation=operation)
        assert told == _sum(nodes.of_primary.counts, by, operation) > 0
    assert await asyncio.to_thread(metric, "cost_dollars", client="litestream", charge="a") > 0


def _sum(counts: Counter[Asked], by: str, operation: str) -> int:
    return sum(
        count for each, count in counts.items() if (each.by, each.operation) == (by, operation)
    )


def _hurried(config: str) -> str:
    """Shorten the intervals in a litestream.yml."""
    units = {"s": 1000, "m": 60_000, "h": 3_600_000}  # ms

    def shorten(found: re.Match[str]) -> str:
        return f"{found[1]}: {max(int(found[2]) * units[found[3]] // HURRY, 1)}ms"

    shortened, count = re.subn(r"(interval|retention): (\d+)([smh])\b", shorten, config)
    assert count >= 5
    return shortened


def _files(root: Path) -> Iterator[Path]:
    """Give all files of both nodes."""
    return (path for path in root.rglob("*") if path.is_file())
