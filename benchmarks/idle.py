"""What a primary with ten databases, and a reader, ask of the object store at rest.

SeaweedFS over S3, behind a proxy for each node that counts. Ten minutes of rest are looked at,
after six in which what follows uploads soon has been done; what comes every hour, or every six, is
added by its share.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.table import Result, Row
from tests.e2e.primary_kit import Primary, primaries
from tests.integration.reader_kit import Visitor, spawned_reader
from tests.integration.s3_kit import s3_server
from tests.integration.s3_requests import LEASES, Asked, CountingProxy

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from tests.integration.s3_kit import S3

DATABASES = 10
SETTLE_S = float(os.environ.get("IDLE_SETTLE_S", "360"))  # what follows a start and uploads
REST_S = float(os.environ.get("IDLE_REST_S", "600"))
GOAL_PER_HOUR = 200
RARELY_HOURS = 6
REPLICAS = DATABASES + 1  # the journal is one
# What Litestream does less often than is waited for (litestream.yml).
LOOK = Asked(by="litestream", operation="list", area="level 0000 and 0001")  # for old files
LISTS = 2 * REPLICAS
COMPACTION = Asked(by="litestream", operation="list", area="level 0001")  # every hour
DEFAULT_LEASE = ("--lease-duration", "30", "--lease-renewal", "10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What was asked.

    Attributes:
        rest: By node, at rest.
        prune: By the primary, to delete what nobody needs: every six hours.
    """

    rest: dict[str, Counter[Asked]]
    prune: Counter[Asked]


def run(folder: Path) -> Result:
    """Measure, and give the table as Markdown."""
    (folder / "s3").mkdir()
    with s3_server(folder / "s3") as server:
        os.environ.update(server.credentials)
        counted = asyncio.run(_measure(folder, server))
    lines = [
        f"## At rest: a primary with {DATABASES} databases and a reader, {REST_S:.0f} s",
        "",
        "| node | by | operation | on | counted | an hour |",
        "|---|---|---|---|---|---|",
    ]
    for node, asked in counted.rest.items():
        lines += [_tell(node, *each, hours=REST_S / 3600) for each in sorted(asked.items())]
    every = f"primary, every {RARELY_HOURS} h"
    lines += [_tell(every, *each, hours=RARELY_HOURS) for each in sorted(counted.prune.items())]
    lines.append(_tell(every, LOOK, LISTS, hours=RARELY_HOURS))
    lines.append(_tell("primary, every hour", COMPACTION, REPLICAS, hours=1))
    rarely = (counted.prune.total() + LISTS) / RARELY_HOURS + REPLICAS
    rows = (
        _judge("primary", counted.rest["primary"], rarely),
        _judge("reader", counted.rest["reader"], 0),
    )
    return Result(text="\n".join(lines) + "\n", rows=rows)


async def _measure(folder: Path, server: S3) -> Counted:
    bucket = server.make_bucket()
    ours, theirs = CountingProxy(server.port), CountingProxy(server.port)
    async with ours.listening() as port, theirs.listening() as reader_port:
        store = server.url(bucket, port=port)
        primary = Primary(folder, "primary", *DEFAULT_LEASE, store=store).start()
        with primaries(primary):
            await asyncio.to_thread(_fill, primary)
            store = server.url(bucket, port=reader_port)
            async with (
                spawned_reader(folder, store=store, primary=primary.url) as spawned,
                aiohttp.ClientSession() as session,
            ):
                reader = Visitor(spawned.url, spawned.metrics_url, session)
                await reader.wait_generation(2 * DATABASES)
                await asyncio.sleep(SETTLE_S)
                ours.counts.clear()
                theirs.counts.clear()
                await asyncio.sleep(REST_S)
                rest = {"primary": ours.counts.copy(), "reader": theirs.counts.copy()}
                ours.counts.clear()
                await asyncio.to_thread(primary.prune)
                return Counted(rest=rest, prune=ours.counts.copy())


def _tell(node: str, asked: Asked, count: int, *, hours: float) -> str:
    what = f"{asked.by} | {asked.operation} | {asked.area}"
    return f"| {node} | {what} | {count} | {count / hours:.1f} |"


def _fill(primary: Primary) -> None:
    primary.wait_until_up()
    for number in range(DATABASES):
        primary.upload(b"id,name\n1,Ada\n2,Grace\n", f"d{number}.csv")
        primary.upload(b"id,name\n3,Eve\n", f"d{number}.csv", mode="append")


def _judge(node: str, asked: Counter[Asked], rarely: float) -> Row:
    count = sum(number for each, number in asked.items() if each.area != LEASES)
    hour = count * 3600 / REST_S + rarely
    return Row(
        what=f"requests of an idle {node}, {DATABASES} databases, Litestream's included",
        headrace=f"{hour:.0f} an hour, beside the lease's renewals",
        against="the limit",
        goal=f"at most {GOAL_PER_HOUR}",
        reached=hour <= GOAL_PER_HOUR,
    )
