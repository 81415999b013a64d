"""Switches of a running reader: dressed spares, configurations, intervals, drains, hooks."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import ConfigError
from tests.integration.reader_kit import (
    ORDERS,
    Client,
    Publisher,
    eventually,
    primary_of,
    reading,
    settings_for,
)
from tests.samples import find_sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """Give a publisher with an empty store."""
    return Publisher(tmp_path)


@asynccontextmanager
async def reader_of(publisher: Publisher, **settings: Any) -> AsyncIterator[Client]:
    """Run a reader that hears of generations at once, while the block runs."""
    async with (
        primary_of(publisher) as url,
        reading(settings_for(publisher.root, primary=url, **settings)) as client,
    ):
        yield client


async def spares_ready(client: Client) -> int:
    """Ask how many spares are ready."""
    return int((await client.json("/-/headrace.json"))["spares"])


async def sample(client: Client, name: str) -> float:
    """Read one metric; 0 if it was never set."""
    async with client.session.get(client.reader.metrics_url) as response:
        return find_sample(await response.text(), name) or 0.0


class Readers:
    """People who read all the while; every answer but 200 is a failure."""

    def __init__(self, client: Client, *paths: str) -> None:
        self.failures: list[str] = []
        self.reads = 0
        self._client = client
        self._stopping = False
        self._tasks = [asyncio.create_task(self._read(path)) for path in paths]

    async def _read(self, path: str) -> None:
        while not self._stopping:
            self.reads += 1
            try:
                status, body = await self._client.get(path)
            except Exception as exc:  # noqa: BLE001 - whatever it is, a person saw it
                self.failures.append(repr(exc))
                continue
            if status != 200:
                self.failures.append(f"{path}: {status} {body[:200]}")

    async def stop(self) -> None:
        """Let all end."""
        self._stopping = True
        await asyncio.gather(*self._tasks)


async def test_hundred_switches_under_load_fail_no_read(publisher: Publisher) -> None:
    """I7: with spares recycled a hundred times, nobody sees anything but answers."""
    cuts = {name: publisher.write(name, *ORDERS) for name in ("sales", "weather")}
    await publisher.publish(cuts)
    versions = [cuts["sales"], publisher.write("sales", "INSERT INTO orders VALUES (1, 'pen')")]
    async with reader_of(publisher, workers=2, min_switch_interval=0.0) as client:
        await client.wait_generation(1)
        readers = Readers(client, "/sales/orders", "/weather/orders.json", "/sales/orders.csv", "/")
        for number in range(2, 102):
            await publisher.publish({"sales": versions[number % 2]})
            await client.wait_generation(number)
            assert len(await client.rows("/sales/orders")) == number % 2
        await readers.stop()

        assert readers.failures == []
        assert readers.reads > 100
        assert await sample(client, "headrace_reader_switches_total") == 101
        assert await sample(client, "headrace_reader_dressed_switches_total") > 50


async def test_killed_spare_is_missed_by_nobody(publisher: Publisher) -> None:
    """A spare that dies costs nothing: the next switch forks, and keeps what it replaced."""
    await publisher.publish({"sales": publisher.write("sales", *ORDERS)})
    async with reader_of(publisher) as client:
        await client.wait_generation(1)
        await publisher.publish({})
        await eventually(lambda: spares_ready(client))
        spare = client.reader.supervisor._spares._spare  # noqa: SLF001 - to kill it
        assert spare is not None

        os.kill(spare.workers[0].fork.pid, signal.SIGKILL)
        await publisher.publish({"sales": publisher.write("sales", "CREATE TABLE more (x)")})

        await client.wait_generation(3)
        assert await client.rows("/sales/more") == []
        await eventually(lambda: spares_ready(client))


async def test_killed_nursery_comes_back_with_workers(publisher: Publisher) -> None:
    """All Datasette processes of a reader may die at once; the next generation is served."""
    await publisher.publish({"sales": publisher.write("sales", *ORDERS)})
    async with reader_of(publisher) as client:
        await client.wait_generation(1)
        await publisher.publish({})
        await eventually(lambda: spares_ready(client))
        pid = client.reader.nursery.pid
        assert pid

        os.kill(pid, signal.SIGKILL)
        await publisher.publish({"sales": publisher.write("sales", "CREATE TABLE more (x)")})

        await client.wait_generation(3)
        assert await client.rows("/sales/more") == []


async def test_changed_configuration_is_switched_in(publisher: Publisher) -> None:
    """Metadata, plugins, settings: what the user changes is there within seconds."""
    config = publisher.root / "config"
    config.mkdir()
    metadata = config / "metadata.yaml"
    metadata.write_text("title: First")
    await publisher.publish({"sales": publisher.write("sales", *ORDERS)})
    async with reader_of(publisher, datasette_dir=config) as client:
        await client.wait_generation(1)
        nursery = client.reader.nursery
        readers = Readers(client, "/sales/orders")
        assert "First" in (await client.get("/"))[1]

        metadata.write_text("title: Second")

        async def look() -> bool:
            return "Second" in (await client.get("/"))[1]

        await eventually(look)
        await readers.stop()
        assert readers.failures == []
        assert client.reader.nursery is not nursery
        await eventually(lambda: nursery.pid is None)
        assert await sample(client, "headrace_reader_configuration_switches_total") == 1
        await publisher.publish({"sales": publisher.write("sales", "CREATE TABLE more (x)")})
        await client.wait_generation(2)
        assert "Second" in (await client.get("/"))[1]


async def test_switches_keep_their_interval_and_the_newest_wins(publisher: Publisher) -> None:
    """Generations that come faster than switches may are skipped for the newest."""
    async with reader_of(publisher, min_switch_interval=0.5) as client:
        await client.wait_generation(0)
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        for _ in range(40):
            await publisher.publish({})
        await client.wait_generation(40)
        took_s = loop.time() - started_s

        switches = await sample(client, "headrace_reader_switches_total")
        assert switches <= 2 + took_s / 0.5


LONG = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) "
    "INSERT INTO orders SELECT i, printf('%0100d', i) FROM n"
)


async def test_drain_waits_for_a_long_csv_until_its_deadline(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export goes on over a switch; one that never ends is cut, and looks cut."""
    monkeypatch.setattr("serve.retirement.DRAIN_S", 1.0)
    await publisher.publish({"sales": publisher.write("sales", *ORDERS, LONG)})
    async with reader_of(publisher) as client:
        await client.wait_generation(1)
        serving = client.reader.supervisor.current
        assert serving is not None
        [worker] = serving.workers
        url = f"{client.reader.url}/sales/orders.csv?_stream=1&_size=max"
        async with client.session.get(url) as answer:
            assert await answer.content.readline() == b"id,item\r\n"
            await publisher.publish({"more": publisher.write("more", *ORDERS)})
            await client.wait_generation(2)
            assert (await answer.content.readline()).startswith(b"1,")

            await asyncio.wait_for(worker.fork.ended.wait(), 20)

            with pytest.raises(Exception, match=r"payload|closed|reset|disconnected"):
                await answer.read()


async def begin_export(client: Client, number: int) -> aiohttp.ClientResponse:
    """Read one line of a long export in a generation, and leave the rest."""
    await client.wait_generation(number)
    url = f"{client.reader.url}/sales/orders.csv?_stream=1&_size=max&_n={number}"
    answer = await client.session.get(url)
    assert await answer.content.readline() == b"id,item\r\n"
    return answer


async def test_reader_of_an_export_of_each_generation_holds_back_no_news(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest of too many exports is cut short, and the reader says what waits for what."""
    monkeypatch.setattr("serve.retirement.AT_MOST", 2)
    monkeypatch.setattr("serve.retirement.LEAST_DRAIN_S", 3600.0)
    monkeypatch.setattr("serve.retirement.DRAIN_S", 3600.0)
    monkeypatch.setattr("serve.proxy.SEND_TIMEOUT_S", 3600.0)
    await publisher.publish({"sales": publisher.write("sales", *ORDERS, LONG)})
    async with reader_of(publisher) as client:

        async def drain_only(*numbers: int) -> bool:
            told = (await client.json("/-/headrace.json"))["draining"]
            return [each["generation"] for each in told] == list(numbers)

        async def waits() -> bool:
            return bool((await client.json("/-/headrace.json"))["waits_for_drains"])

        first = await begin_export(client, 1)
        await publisher.publish({})
        second = await begin_export(client, 2)
        await publisher.publish({})
        await client.wait_generation(3)
        await publisher.publish({})
        await eventually(waits)
        assert await drain_only(1, 2)
        second.close()
        third = await begin_export(client, 4)
        await eventually(lambda: drain_only(1))
        assert not await waits()
        monkeypatch.setattr("serve.retirement.LEAST_DRAIN_S", 0.0)
        await publisher.publish({})
        await client.wait_generation(5)
        assert await drain_only(1, 4)
        await publisher.publish({})
        await client.wait_generation(6)

        await eventually(lambda: drain_only(4))
        with pytest.raises(Exception, match=r"payload|closed|reset|disconnected"):
            await first.read()
        third.close()


HOOK = "env | grep ^HEADRACE_ | sort > $HOOK_OUT.part && mv $HOOK_OUT.part $HOOK_OUT"


async def test_hook_is_told_what_changed(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command knows the generation and its databases, and no secret."""
    out = publisher.root / "hook"
    monkeypatch.setenv("HOOK_OUT", str(out))
    monkeypatch.setenv("HEADRACE_TOKEN", "very-secret")
    await publisher.publish({"sales": publisher.write("sales", *ORDERS)})
    async with reader_of(publisher, on_generation=HOOK) as client:
        await eventually(lambda: out.exists() and "GENERATION=1\n" in out.read_text())
        assert out.read_text() == (
            "HEADRACE_CHANGED_DATABASES=sales\n"
            "HEADRACE_GENERATION=1\n"
            "HEADRACE_PREVIOUS_GENERATION=\n"
            "HEADRACE_REMOVED_DATABASES=\n"
        )
        cuts = {name: publisher.write(name, *ORDERS) for name in ("more", "less")}
        await publisher.publish(cuts, removed=["sales"])
        await eventually(lambda: "GENERATION=2\n" in out.read_text())
        assert out.read_text() == (
            "HEADRACE_CHANGED_DATABASES=more,less\n"
            "HEADRACE_GENERATION=2\n"
            "HEADRACE_PREVIOUS_GENERATION=1\n"
            "HEADRACE_REMOVED_DATABASES=sales\n"
        )
        runs = 'headrace_reader_hook_runs_total{outcome="ok"}'
        await eventually(lambda: sample(client, runs))


async def test_failing_hook_is_counted_and_changes_nothing(publisher: Publisher) -> None:
    """A command that fails is the operator's trouble, not the readers'."""
    async with reader_of(publisher, on_generation="exit 3") as client:
        await client.wait_generation(0)
        await publisher.publish({"sales": publisher.write("sales", *ORDERS)})
        await client.wait_generation(1)
        runs = 'headrace_reader_hook_runs_total{outcome="failed"}'
        await eventually(lambda: sample(client, runs))
        assert (await client.json("/-/headrace.json"))["last_error"] is None


async def test_slow_hook_is_killed_with_its_group_and_skips_to_the_newest(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command over its deadline is ended, children too; the next run is for the newest."""
    monkeypatch.setattr("serve.service.HOOK_DEADLINE_S", 0.5)
    pids, seen = publisher.root / "pids", publisher.root / "seen"
    command = f"echo $HEADRACE_GENERATION >> {seen}; sleep 3600 & echo $! >> {pids}; wait"
    async with reader_of(publisher, on_generation=command) as client:
        await eventually(pids.exists)
        for _ in range(3):
            await publisher.publish({})
        await client.wait_generation(3)
        late = 'headrace_reader_hook_runs_total{outcome="late"}'

        async def look() -> bool:
            return await sample(client, late) >= 2

        await eventually(look)
        await eventually(lambda: not _runs(int(pids.read_text().split()[0])))
        assert seen.read_text().split()[:2] == ["0", "3"]


def _runs(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_python_hook_is_called_with_the_same_facts(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function of an importable module does as well as a command."""
    (publisher.root / "purging.py").write_text(
        "calls = []\ndef purge(facts): calls.append(facts)\n"
    )
    monkeypatch.syspath_prepend(publisher.root)
    async with reader_of(publisher, on_generation="python:purging:purge") as client:
        await client.wait_generation(0)
        import purging  # type: ignore[import-not-found] # noqa: PLC0415

        await eventually(lambda: purging.calls)
        assert purging.calls[0]["HEADRACE_GENERATION"] == "0"


async def test_python_hook_that_is_not_there_is_refused_at_start(publisher: Publisher) -> None:
    """A typing error is told when the reader starts, not at the first switch."""
    with pytest.raises(ConfigError, match="cannot use --on-generation python:nowhere:purge"):
        async with reader_of(publisher, on_generation="python:nowhere:purge"):
            pass
