"""The faults: what is in the store is damaged, missing or nonsense; plugins and workers crash.

I4 and I7 survive: a reader serves on what it has, says why that is not newer, and recovers by
itself when the cause is gone.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio

from headrace.generation import format_txid
from headrace.keys import generation_key, lineage_key
from tests.integration.faults_kit import (
    LOG_ERRORS,
    RESTORE_FAILURES,
    START_FAILURES,
    Bench,
    be_impatient,
)
from tests.integration.reader_kit import Publisher, eventually, reading, settings_for
from tests.integration.slots_kit import cut_short, cut_to_nothing, flip, ltx_files, with_checksum

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from headrace.generation import Cut

    Heal = Callable[[], object]

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Pages that are in the middle of their answer until they are let go, whose worker can be killed.
WAITING = """
import asyncio, os, pathlib
from datasette import hookimpl, Response
from datasette.utils.asgi import AsgiStream
async def wait(request):
    folder = pathlib.Path(request.args["folder"])
    (folder / request.args["name"]).write_text(str(os.getpid()))
    while not (folder / "go").exists():
        await asyncio.sleep(0.01)
async def page(request):
    await wait(request)
    return Response.text("whole")
async def stream(request):
    async def send(writer):
        await writer.write("half")
        await wait(request)
    return AsgiStream(send)
@hookimpl
def register_routes():
    return [(r"^/-/page$", page), (r"^/-/stream$", stream)]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """Give one reader for the tests of this module, in generation 1."""
    root = tmp_path_factory.mktemp("reader")
    plugin = plugin_of(root)
    plugin.parent.mkdir(parents=True)
    plugin.write_text(WAITING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serve.switch.MAX_BACKOFF_S", 0.1)
        patch.setattr("serve.follow.POLL_S", 0.1)
        patch.setattr("serve.configuration.LOOK_S", 0.1)
        async with reading(settings_for(root, datasette_dir=root / "config")) as client:
            be_impatient(client, 0.2)
            made = Bench(client=client, publisher=Publisher(root))
            await made.publish()
            await client.wait_generation(1)
            yield made


def plugin_of(root: Path) -> Path:
    """Path of the plugin that the reader's Datasette has."""
    return root / "config" / "plugins" / "mine.py"


# the store's objects


def change(changed: Callable[[bytes], bytes]) -> Callable[[Bench, Cut], Heal]:
    """Give what changes the newest LTX file of a cut."""

    def damage(bench: Bench, cut: Cut) -> Heal:
        ltx = ltx_files(bench.publisher, "sales", cut)[-1]
        whole = ltx.read_bytes()
        ltx.write_bytes(changed(whole))
        return lambda: ltx.write_bytes(whole)

    return damage


def lose(bench: Bench, cut: Cut) -> Heal:
    """Hide the newest LTX file of a cut."""
    ltx = ltx_files(bench.publisher, "sales", cut)[-1]
    hidden = ltx.rename(bench.publisher.root / "hidden")
    return lambda: hidden.rename(ltx)


def lose_the_lineage(bench: Bench, cut: Cut) -> Heal:
    """Hide all of a lineage."""
    store = bench.publisher.store.folder
    assert store
    hidden = bench.publisher.remove_replica("sales", cut)
    return lambda: hidden.rename(store / lineage_key("sales", cut.lineage))


def swap(page_size: int) -> Callable[[Bench, Cut], Heal]:
    """Give what replaces the newest LTX file of a cut by that of another database."""

    def damage(bench: Bench, cut: Cut) -> Heal:
        publisher = bench.publisher
        name = f"other{page_size}"
        while (other := publisher.write(name, *more(), page_size=page_size)).txid < cut.txid:
            pass
        ltx = ltx_files(publisher, "sales", cut)[-1]
        whole = ltx.read_bytes()
        foreign = next(f for f in ltx_files(publisher, name, other) if f.name == ltx.name)
        ltx.write_bytes(foreign.read_bytes())
        return lambda: ltx.write_bytes(whole)

    def more() -> list[str]:
        return ["CREATE TABLE IF NOT EXISTS other (x)", "INSERT INTO other VALUES (1)"]

    return damage


FILE = "0-0000000000000002-0000000000000002.ltx"

# What is done to the newest cut, and what the reader says of it.
DAMAGES: dict[str, tuple[Callable[[Bench, Cut], Heal], str]] = {
    "cut short": (change(cut_short), f"{FILE}: a page is cut short"),
    "cut to nothing": (change(cut_to_nothing), f"{FILE}: an LTX file of 0 bytes is cut short"),
    "a bit in the header": (change(lambda body: flip(body, 43)), f"{FILE}: the checksum is "),
    "a bit in a page": (
        change(lambda body: flip(body, len(body) // 2)),
        f"{FILE}: a page cannot be decompressed",
    ),
    "a bit in the trailer": (change(lambda body: flip(body, -1)), f"{FILE}: the checksum is "),
    "missing": (lose, "to 0000000000000002; the newest is 0000000000000001"),
    "another database": (swap(4096), "find checksum "),
    "another page size": (swap(1024), f"{FILE}: it has pages of 1024 bytes, not 4096"),
    "missing lineage": (lose_the_lineage, "to 0000000000000001; there are none"),
}


@pytest.mark.parametrize("name", DAMAGES)
async def test_damaged_generation_is_told_and_served_when_it_is_whole(
    bench: Bench, name: str
) -> None:
    """Nothing of it is shown, the file or what is missing is named, and its repair is enough."""
    damage, reason = DAMAGES[name]
    anew = name == "missing lineage"
    await bench.publish(bench.write(anew=True))  # so that it is at its first transactions
    served = bench.newest
    await bench.client.wait_generation(served)
    async with bench.served_on(RESTORE_FAILURES):
        cut = bench.write(anew=anew)
        heal = damage(bench, cut)
        await bench.publish(cut)
        try:
            error = await bench.client.wait_error(reason)

            assert (error["generation"], error["step"]) == (served + 1, "restore")
            copy = f"sales at {format_txid(cut.txid)} of {cut.lineage}"
            assert error["message"].startswith(f"cannot restore {copy}: ")
            report = await bench.report()
            assert (report["generation"], report["newest_generation"]) == (served, served + 1)
            assert report["seconds_behind"] > 0
        finally:
            heal()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"generation": 2', "JSONDecodeError"),
        (b"\xff\xfe", "JSONDecodeError"),
        (b"[" * 200_000, "RecursionError"),
        (b'{"generation": 7}', "KeyError('epoch')"),
    ],
    ids=["cut short", "bytes", "nested too deep", "incomplete"],
)
async def test_log_entry_that_is_none_is_told_and_read_when_it_is_one(
    bench: Bench, body: bytes, reason: str
) -> None:
    """An entry that cannot be read is neither skipped nor the end of following."""
    served = bench.newest
    key = generation_key(served + 1)
    async with bench.served_on(LOG_ERRORS):
        await bench.publisher.store.create(key, body)

        report = await bench.client.wait_not_following(f"cannot read {key}: it is no entry of the")

        assert reason in report["following_errors"]["log"]
        assert report["generation"] == served
        await bench.publisher.store.delete(key)  # only who owns the log can mend it
        await bench.publish()


# what is no fault


async def test_database_without_tables_is_served(bench: Bench) -> None:
    """A generation may hold a database with nothing in it."""
    await bench.publisher.publish({"empty": bench.publisher.write("empty")})
    await bench.client.wait_generation(bench.newest)

    assert (await bench.client.get("/empty"))[0] == 200
    tables = (await bench.client.json("/empty.json"))["tables"]
    assert {table["name"] for table in tables} == {"_litestream_lock", "_litestream_seq"}


async def test_database_of_every_page_size_is_served_and_rolled_forward(bench: Bench) -> None:
    """Rows of pages from 512 to 65536 bytes are read, of a first copy and of a changed one."""
    publisher, sizes = bench.publisher, [2**power for power in range(9, 17)]
    for number in (1, 2):
        cuts = {}
        for size in sizes:
            create = ["CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)"]
            row = f"INSERT INTO orders VALUES ({number}, '{'x' * 1000}')"
            cut = publisher.write(f"pages{size}", *create[number - 1 :], row, page_size=size)
            cuts[f"pages{size}"] = with_checksum(publisher, f"pages{size}", cut)
        assert [cut.page_size for cut in cuts.values()] == sizes
        await publisher.publish(cuts)
        await bench.client.wait_generation(bench.newest)
        for size in sizes:
            rows = await bench.client.rows(f"/pages{size}/orders")
            assert [row["id"] for row in rows] == list(range(1, number + 1))
            assert {row["item"] for row in rows} == {"x" * 1000}


# plugins and workers


async def test_plugin_that_crashes_is_told_and_new_generations_are_served_without_it(
    bench: Bench,
) -> None:
    """The old workers stay, with the reason told; generations come to workers of the old plugin."""
    plugin = plugin_of(bench.publisher.root)
    async with bench.served_on(START_FAILURES):
        plugin.write_text("raise RuntimeError('the plugin does not like it')")

        error = await bench.client.wait_error()

        assert error["step"] == "start"
        assert "RuntimeError: the plugin does not like it" in error["message"]
        await bench.publish()
        report = await bench.client.wait_generation(bench.newest)
        assert "the plugin does not like it" in report["last_error"]["message"]
        plugin.write_text(WAITING)


async def test_plugin_that_crashes_at_the_readers_start_is_told_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader without any worker says why, and serves as soon as the plugin works."""
    monkeypatch.setattr("serve.switch.MAX_BACKOFF_S", 0.1)
    monkeypatch.setattr("serve.configuration.LOOK_S", 0.1)
    plugin = plugin_of(tmp_path)
    plugin.parent.mkdir(parents=True)
    plugin.write_text("import os; os._exit(3)")
    async with reading(settings_for(tmp_path, datasette_dir=tmp_path / "config")) as client:
        error = await client.wait_error("the worker ended with status 3 at its start")

        assert error["step"] == "start"
        assert (await client.get("/-/readyz"))[0] == 503
        assert (await client.get("/"))[0] == 503
        assert await client.metric(START_FAILURES) > 0

        plugin.write_text("")

        await client.wait_generation(0)
        await eventually(lambda: client.reader.supervisor.last_error is None)
        assert (await client.get("/"))[0] == 200


async def test_worker_killed_in_the_middle_of_answers_is_told_and_replaced(
    bench: Bench, tmp_path: Path
) -> None:
    """Who waits for a page gets it from the replacement; half a stream never looks whole."""
    client = bench.client
    restarts = "headrace_reader_worker_restarts_total"
    before = await client.metric(restarts)
    pages = [f"/-/page?folder={tmp_path}&name=page-{n}" for n in range(4)]
    asking = [asyncio.create_task(client.get(page)) for page in pages]
    async with client.session.get(
        f"{client.url}/-/stream?folder={tmp_path}&name=stream"
    ) as half_answered:
        assert await half_answered.content.readany() == b"half"
        await eventually(lambda: len(pids_in(tmp_path)) == 5)
        (pid,) = set(pids_in(tmp_path))

        os.kill(int(pid), signal.SIGKILL)

        with pytest.raises(aiohttp.ClientPayloadError):
            await half_answered.read()
    (tmp_path / "go").touch()
    assert await asyncio.gather(*asking) == [(200, "whole")] * 4
    assert await client.metric(restarts) == before + 1
    report = await bench.report()
    assert report["workers"] == 1
    assert report["last_crash"]["message"] == "the worker was ended by SIGKILL"


def pids_in(folder: Path) -> list[str]:
    """Read the process ids that the waiting pages have left."""
    return [pid for path in folder.iterdir() if (pid := path.read_text())]
