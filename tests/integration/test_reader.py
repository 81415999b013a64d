"""A whole reader: from the log to the edge, and back from whatever happens to it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from headrace.errors import ConfigError
from headrace.sockets import socket_folder
from serve.service import running
from tests.conftest import wait_for
from tests.faults.processes import descendants, is_alive, send
from tests.integration.reader_kit import (
    ORDERS,
    Loop,
    Publisher,
    Visitor,
    eventually,
    primary_of,
    reading,
    settings_for,
    slot_name,
    spawned_reader,
    with_broken_txid,
)
from tests.integration.slots_kit import flip, ltx_files

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """Give a publisher with an empty log."""
    return Publisher(tmp_path)


async def test_reader_of_an_empty_log_serves_generation_0(publisher: Publisher) -> None:
    """Before anything is published there is an empty Datasette, and it says so."""
    async with reading(settings_for(publisher.root)) as client:
        await client.wait_generation(0)

        status, page = await client.get("/")

        assert status == 200
        assert "Nothing has been published yet." in page


async def test_reader_switches_to_new_generations_and_no_read_fails(publisher: Publisher) -> None:
    """I7: people read all the while, and then read the new rows."""
    cut = publisher.write("sales", *ORDERS, "INSERT INTO orders VALUES (1, 'pen')")
    await publisher.publish({"sales": cut})
    async with (
        primary_of(publisher) as url,
        reading(settings_for(publisher.root, primary=url, workers=2)) as client,
    ):
        await client.wait_generation(1)
        loops = [Loop(client, path) for path in ("/", "/sales/orders", "/sales/orders.json")]
        for number in range(2, 7):
            cut = publisher.write("sales", f"INSERT INTO orders VALUES ({number}, 'ink')")
            await publisher.publish({"sales": cut})
            await client.wait_generation(number)
            assert len(await client.rows("/sales/orders")) == number
        for loop in loops:
            await loop.stop()

        assert [loop.failures for loop in loops] == [[], [], []]
        assert all(loop.reads for loop in loops)
        page = (await client.get("/sales"))[1]
        assert "from sales.csv" in page
        assert "Generation 6" in (await client.get("/"))[1]


async def test_reader_prunes_what_nobody_serves(publisher: Publisher) -> None:
    """The disk holds the slots of the generation in service, and no older ones."""
    await publisher.publish({"sales": publisher.write("sales", *ORDERS)})
    async with (
        primary_of(publisher) as url,
        reading(settings_for(publisher.root, primary=url)) as client,
    ):
        await client.wait_generation(1)
        new = publisher.write("sales", "INSERT INTO orders VALUES (1, 'pen')")
        await publisher.publish({"sales": new, "more": publisher.write("more", *ORDERS)})
        await client.wait_generation(2)
        await publisher.publish({}, removed=["more"])
        await client.wait_generation(3)

        slots = publisher.root / "reader" / "slots"
        await eventually(lambda: _slots_in(slots) == [slot_name(new)])
        assert (await client.get("/more"))[0] == 404


async def test_reader_coalesces_generations(publisher: Publisher) -> None:
    """Generations that come while one is brought up are skipped for the newest of them."""
    async with (
        primary_of(publisher) as url,
        reading(settings_for(publisher.root, primary=url)) as client,
    ):
        await client.wait_generation(0)
        for _ in range(30):
            await publisher.publish({})
        await client.wait_generation(30)

        assert await client.metric("headrace_reader_switches_total") < 30


async def test_reader_goes_past_a_generation_that_fails(publisher: Publisher) -> None:
    """A broken generation is left behind as soon as there is a newer one that works."""
    cut = publisher.write("sales", *ORDERS)
    await publisher.publish({"sales": cut})
    async with (
        primary_of(publisher) as url,
        reading(settings_for(publisher.root, primary=url)) as client,
    ):
        await client.wait_generation(1)
        await publisher.publish({"sales": with_broken_txid(cut)})
        await publisher.publish({"sales": cut})

        await client.wait_generation(3)


async def test_reader_restarted_without_the_store_serves_its_last_generation(
    publisher: Publisher,
) -> None:
    """I7, I4: without store and primary people read what is on its disk, if it is undamaged."""
    cut = publisher.write("sales", *ORDERS, "INSERT INTO orders VALUES (1, 'pen')")
    await publisher.publish({"sales": cut})
    settings = settings_for(publisher.root)
    async with reading(settings) as client:
        await client.wait_generation(1)
    assert publisher.store.folder
    publisher.store.folder.rename(publisher.root / "away")
    publisher.store.folder.mkdir()
    (publisher.store.folder / "generations").write_text("in the way: the log cannot be read")

    async with reading(settings) as client:
        await client.wait_generation(1)
        assert await client.rows("/sales/orders") == [{"id": 1, "item": "pen"}]
        await eventually(lambda: "log" in client.reader.follower.why)
    slot = settings.data / "slots" / cut.lineage / slot_name(cut)
    slot.write_bytes(flip(slot.read_bytes(), -1))

    async with reading(settings) as client:
        await eventually(lambda: not slot.exists())
        assert (await client.get("/sales/orders"))[0] == 503

        (publisher.store.folder / "generations").unlink()
        shutil.rmtree(publisher.store.folder)
        (publisher.root / "away").rename(publisher.store.folder)
        await publisher.publish({}, removed=["sales"])
        await client.wait_generation(2)


async def test_reader_whose_last_generation_is_torn_starts_from_the_log(
    publisher: Publisher,
) -> None:
    """What a crash may have left on the disk is not served, and not in the way."""
    await publisher.publish({"sales": publisher.write("sales", *ORDERS)})
    settings = settings_for(publisher.root)
    settings.data.mkdir()
    (settings.data / "serving.json").write_text('{"generation": 7, "epo')

    async with reading(settings) as client:
        await client.wait_generation(1)


async def test_reader_keeps_its_secret(publisher: Publisher) -> None:
    """People stay signed in over a restart: the secret is made once, for its owner only."""
    settings = settings_for(publisher.root)
    async with reading(settings) as client:
        await client.wait_generation(0)
    secret = (settings.data / "secret").read_text()
    async with reading(settings) as client:
        await client.wait_generation(0)

    assert (settings.data / "secret").read_text() == secret
    assert (settings.data / "secret").stat().st_mode & 0o777 == 0o600


# Deadlines that a busy machine could miss.
PATIENT = """
import headrace.stopping, serve.edge
headrace.stopping.HURRY_S = serve.edge.MIN_GENERATION_WAIT_S = 50.0
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_reader_that_is_stopped_leaves_nothing(
    publisher: Publisher, number: signal.Signals
) -> None:
    """It says so while it answers on, answers whoever came in time, and ends without a trace."""
    await publisher.publish({"sales": publisher.write("sales", *ORDERS)})
    async with (
        spawned_reader(publisher.root, prelude=PATIENT, shutdown_grace=50.0) as spawned,
        aiohttp.ClientSession() as session,
    ):
        client = Visitor(spawned.url, spawned.metrics_url, session)
        await client.wait_generation(1)
        tree = spawned.tree()
        assert len(tree) >= 3

        async def stops() -> bool:
            async with session.get(f"{spawned.url}/-/readyz") as answer:
                return answer.status == 503 and "stopping" in await answer.text()

        next_one = {"Headrace-Min-Generation": "2"}
        waiting = asyncio.create_task(client.get("/sales/orders.json", headers=next_one))
        spawned.process.send_signal(number)
        await eventually(stops)
        async with session.get(f"{spawned.url}/sales/orders.json") as answer:
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert await client.get("/-/healthz") == (200, '{"ok": true}')

        async def refuses() -> bool:
            spawned.process.send_signal(number)  # the second one, a second after the first, counts
            try:
                await client.get("/-/healthz")
            except aiohttp.ClientConnectorError:
                return True
            return False

        await eventually(refuses)
        await publisher.publish({"sales": publisher.write("sales", "DELETE FROM orders")})
        assert (await waiting)[0] == 200
        assert await asyncio.wait_for(spawned.process.wait(), 30) == 0
        assert not _alive(tree)
        sockets = socket_folder(publisher.root / "reader")
        assert list(sockets.iterdir()) == []


async def test_reader_that_is_killed_leaves_no_process(publisher: Publisher) -> None:
    """A reader that dies by kill -9 takes all its processes with it, and the next one starts."""
    await publisher.publish({"sales": publisher.write("sales", *ORDERS)})
    async with spawned_reader(publisher.root) as spawned:
        await eventually(lambda: _is_ready(spawned.url))
        tree = spawned.tree()
        assert len(tree) >= 3

        spawned.process.kill()

        await eventually(lambda: not _alive(tree))
    async with reading(settings_for(publisher.root)) as client:
        await client.wait_generation(1)


async def test_reader_that_is_killed_in_a_restore_leaves_no_process(
    publisher: Publisher, tmp_path: Path
) -> None:
    """A restore does not outlive its reader either."""
    slow = tmp_path / "bin" / "litestream"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 3600\n")
    slow.chmod(0o755)
    cut = publisher.write("sales", *ORDERS)
    for ltx in ltx_files(publisher, "sales", cut):  # so that litestream is asked
        ltx.write_bytes(ltx.read_bytes()[:-1] + b"?")
    await publisher.publish({"sales": cut})
    module = "headrace.litestream_restore"
    python = f"import {module}; {module}.find_litestream = lambda: {str(slow)!r}"
    async with spawned_reader(publisher.root, prelude=python) as spawned:
        await eventually(lambda: _commands(spawned.tree(), "3600"))
        tree = spawned.tree()

        spawned.process.kill()

        await eventually(lambda: not _alive(tree))


async def test_reader_of_a_folder_in_use_refuses(publisher: Publisher) -> None:
    """Two readers never share a data folder."""
    settings = settings_for(publisher.root)
    async with running(settings):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("headrace.lock.LOCK_WAIT_S", 0.0)
            with pytest.raises(ConfigError, match="another process holds it"):
                async with running(settings):
                    pass


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"store": None}, "needs the object store"),
        ({"datasette_dir": Path("no-such-folder")}, "cannot use --datasette-dir no-such-folder"),
        ({"data": Path("with space")}, "cannot use the folder"),
    ],
)
async def test_reader_with_settings_that_cannot_work_refuses(
    publisher: Publisher, values: dict[str, Any], reason: str
) -> None:
    """A setting that cannot work is named at the start, and not found out later."""
    with pytest.raises(ConfigError, match=reason):
        async with running(settings_for(publisher.root, **values)):
            pass


def _slots_in(folder: Path) -> list[str]:
    """List slots; unlike a glob, this bears folders that go while it looks."""
    return [name for _, _, names in os.walk(folder) for name in names if name.endswith(".db")]


async def _is_ready(url: str) -> bool:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/-/readyz") as response:
        return response.status == 200


def _alive(pids: Iterable[int]) -> list[int]:
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            found.append(pid)
    return found


def _commands(pids: Iterable[int], text: str) -> list[int]:
    return [pid for pid in _alive(pids) if text in Path(f"/proc/{pid}/cmdline").read_text()]


def test_nursery_that_is_killed_while_templates_are_compiled_leaves_no_process() -> None:
    """A child of it compiles them: nobody would read what it gives, and it would wait for ever."""
    command = [sys.executable, "-P", "-m", "serve.nursery_main"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as nursery:
        (child,) = wait_for(lambda: descendants(nursery.pid))
        send(child, signal.SIGSTOP)  # amid its work
        nursery.kill()
        nursery.wait()
        send(child, signal.SIGCONT)
        wait_for(lambda: not is_alive(child))


async def test_reader_writes_down_what_it_serves_while_the_primary_is_away(
    publisher: Publisher,
) -> None:
    """Where nobody is there to be told, the store keeps which region shows what."""
    await publisher.publish({"sales": publisher.write("sales", *ORDERS)})
    folder = publisher.root / "store" / "readers"
    async with reading(settings_for(publisher.root, region="syd")) as client:
        await client.wait_generation(1)

        (report,) = await eventually(lambda: list(folder.glob("*.json")))

        found = json.loads(report.read_bytes())
        assert (found["reader"], found["region"], found["generation"]) == (report.stem, "syd", 1)


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (64, 4)])
async def test_reader_has_a_worker_for_each_core_and_four_at_most(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, cores: int, workers: int
) -> None:
    """Without a setting the cores decide, up to what a reader of that size needs."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(cores)))
    async with reading(settings_for(publisher.root, workers=None)) as client:
        await client.wait_generation(0)

        assert client.reader.supervisor.current
        assert len(client.reader.supervisor.current.workers) == workers
