"""Dates that jump by days, on the primary and on its standby: nothing is lost, nobody is fooled."""

from __future__ import annotations

import asyncio
from itertools import permutations
from pathlib import Path

import httpx

from headrace.lease import LeaseLog
from headrace.store import Store
from tests.e2e.primary_kit import TOKEN, Primary, primaries

(FAKETIME,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")  # Debian: libfaketime
LEASE = ("--lease-duration", "3", "--lease-renewal", "0.5")  # seconds
JUMPS = ("+3d", "-3d")  # further than an Idempotency-Key is kept


class Clocked(Primary):
    """A primary whose date is set by a file. Clocks that count from the boot go on as they do."""

    def set_date(self, offset: str) -> None:
        """Let its date jump: ``+3d`` is three days ahead of the truth."""
        file = self.data.with_suffix(".date")
        following = file.with_suffix(".next")
        following.write_text(offset)
        following.rename(file)
        self.env = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def append(self, number: int, *, key: str) -> str:
        """Append a row; give the receipt's id."""
        answer = self.post(b"n\n%d\n" % number, "log.csv", mode="append", key=key)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def list_ids(self) -> list[str]:
        """List the receipts, newest first."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx.get(f"{self.url}/ingest/receipts", headers=headers)
        return [each["id"] for each in answer.json()["receipts"]]


async def _wait_renewed(store: str) -> None:
    """Wait until the lease was renewed twice."""
    leases = LeaseLog(Store(store))
    newest = await leases.find_newest()
    assert newest is not None
    number = newest.number + 2
    while newest.number < number:
        await asyncio.sleep(0.05)
        found = await leases.find_newest()
        assert found is not None
        assert found.epoch == newest.epoch
        newest = found


async def test_dates_that_jump_end_no_lease_and_forget_no_key(tmp_path: Path) -> None:
    """Forwards and backwards, on the owner and on who waits: the lease, keys and order hold."""
    first = Clocked(tmp_path, "first", *LEASE)
    second = Clocked(tmp_path, "second", "--standby", "on", *LEASE)
    first.set_date("+0")
    second.set_date("+0")
    first.start().wait_until_up()
    with primaries(first, second.start()):
        ids = [first.append(0, key="before")]
        for number, (ours, theirs) in enumerate(permutations(JUMPS), 1):
            first.set_date(ours)
            second.set_date(theirs)
            await _wait_renewed(first.store)
            assert first.is_up()
            assert not second.is_up()
            assert first.append(0, key="before") == ids[0]
            ids.append(first.append(number, key=f"after-{number}"))
        assert first.list_ids() == ids[::-1]

        second.set_date("+3d")
        first.kill()
        second.wait_until_up()
        assert second.append(0, key="before") == ids[0]
        last = second.upload(b"n\n9\n", "log.csv", mode="append")
        assert last["tables"][0]["unchanged"] == len(ids)
        assert last["id"] > ids[-1]
        assert second.stop() == 0
