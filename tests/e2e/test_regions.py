"""Three regions with 80 ms between them: an upload in any is live in all, and soon."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING

import httpx

from tests.conftest import wait_for
from tests.e2e.primary_kit import TOKEN, Primary, primaries
from tests.faults.links import Link
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from tests.integration.s3_kit import S3

ROUND_TRIP_S = 0.08
HOME, *FAR = REGIONS = ("fra", "iad", "syd")
APPENDS = 4
# Of a reader, for a generation of one row: its transaction, and the report that it is live. Uploads
# that it hands on, connections and heartbeats come on top.
MOST_ROUND_TRIPS = {"store": 3, "primary": 4}


class Region:
    """A reader, and its ways to the primary and to the store.

    Args:
        name: The region.
        primary: The primary.
        s3: The server of the store.
        one_way_s: How far both are.
    """

    def __init__(self, name: str, primary: Primary, s3: S3, one_way_s: float) -> None:
        self.name = name
        self.port = free_ports([0, 1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.links = {
            "primary": Link(lambda: primary.port, one_way_s=one_way_s),
            "store": Link(lambda: s3.port, one_way_s=one_way_s),
        }

    def start(self, root: Path, s3: S3, bucket: str) -> subprocess.Popen[bytes]:
        """Start the reader; the links listen."""
        command = [sys.executable, "-m", "headrace", "serve", "--data", str(root / self.name)]
        command += ["--store", s3.url(bucket, port=self.links["store"].port)]
        command += ["--primary", f"http://127.0.0.1:{self.links['primary'].port}"]
        command += ["--region", self.name, "--workers", "1", "--shutdown-grace", "0"]
        command += ["--port", str(self.port), "--metrics-port", str(self.port + 1)]
        return subprocess.Popen(command, env={**os.environ, "DATASETTE_SECRET": TOKEN})

    def is_ready(self) -> bool:
        """Whether it serves a generation."""
        try:
            return httpx.get(f"{self.url}/-/readyz").is_success
        except httpx.TransportError:
            return False

    def append(self, number: int, **options: str) -> dict[str, object]:
        """Append a row over this region's reader; give the receipt."""
        answer = httpx.post(
            f"{self.url}/ingest",
            params={"filename": "log.csv", "mode": "append", **options},
            content=b"n\n%d\n" % number,
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=60,
        )
        assert answer.status_code == 201, answer.text
        receipt: dict[str, object] = answer.json()
        return receipt

    def numbers(self, *, least: object) -> list[int]:
        """Read the rows of a generation at least, which the reader waits for."""
        answer = httpx.get(
            f"{self.url}/log/log.json?_shape=array&_size=max",
            headers={"Headrace-Min-Generation": str(least)},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        return sorted(row["n"] for row in answer.json())

    def round_trips(self) -> dict[str, int]:
        """Count so far."""
        return {name: link.round_trips for name, link in self.links.items()}


@contextmanager
def started(regions: list[Region], root: Path, s3: S3, bucket: str) -> Iterator[None]:
    """Run the readers while the block runs."""
    processes = [region.start(root, s3, bucket) for region in regions]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(60)


def use(primary: Primary, regions: list[Region]) -> dict[str, dict[str, float]]:
    """Upload and read in every region; give the round trips of each, per generation."""
    for region in regions:
        wait_for(region.is_ready)
    sent = [0]
    primary.upload(b"n\n0\n", "log.csv")
    regions[0].append(1, wait_for="regions")
    sent.append(1)
    before = [region.round_trips() for region in regions]
    for number in range(2, APPENDS + 2):
        uploading = regions[number % len(regions)]
        # Every other one waits for all regions itself; else whoever reads says what it wants.
        options = {"wait_for": "regions"} if number % 2 else {}
        receipt = uploading.append(number, **options)
        sent.append(number)
        if options:
            assert isinstance(receipt["live"], dict)
            assert set(receipt["live"]) == set(REGIONS)
        for region in regions:
            assert region.numbers(least=receipt["generation"]) == sent
    return {
        region.name: {
            name: (count - counted[name]) / APPENDS for name, count in region.round_trips().items()
        }
        for region, counted in zip(regions, before, strict=True)
    }


async def test_uploads_are_live_in_three_regions(
    tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row is in every region after few round trips, and whoever asks for it gets it there."""
    s3.give_credentials(monkeypatch)
    bucket = s3.make_bucket()
    primary = Primary(tmp_path, "primary", store=s3.url(bucket)).start()
    regions = [
        Region(name, primary, s3, 0 if name == HOME else ROUND_TRIP_S / 2) for name in REGIONS
    ]
    with primaries(primary):
        await asyncio.to_thread(primary.wait_until_up)
        async with AsyncExitStack() as stack:
            for region in regions:
                for link in region.links.values():
                    await stack.enter_async_context(link.listening())
            with started(regions, tmp_path, s3, bucket):
                counted = await asyncio.to_thread(use, primary, regions)
        assert await asyncio.to_thread(primary.stop) == 0
    with capsys.disabled():
        print(f"\nround trips of {ROUND_TRIP_S * 1000:g} ms per generation: {counted}")  # noqa: T201
    for name in FAR:
        for to, most in MOST_ROUND_TRIPS.items():
            assert 0 < counted[name][to] <= most, counted
