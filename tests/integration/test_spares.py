"""Spare workers: what they are dressed in equals what a fresh worker serves."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from headrace.errors import WorkerError
from headrace.generation import Cut, State
from headrace.keys import ReaderPaths
from headrace.sockets import socket_folder
from serve.configuration import Configuration
from serve.describe import Descriptions
from serve.metrics import ReaderMetrics
from serve.nursery import Nursery
from serve.restore import Restorer
from serve.spares import Spares
from serve.workers import WorkerOptions, WorkerSet
from tests.integration.reader_kit import ORDERS, Publisher, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from serve.worker_process import Worker

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGES = (
    "/",
    "/-/databases.json",
    "/own",
    *("/sales", "/sales.json", "/sales/orders", "/sales/orders.json", "/sales/orders.csv"),
    *("/weather", "/weather/days", "/weather/days.json"),
    *("/people", "/people/names.json", "/gone", "/gone/orders.json"),
    "/-/metadata.json",  # last: Datasette writes into the metadata of what it shows
)
CONFIGURATION = {
    "metadata.yaml": "title: Ours\n"
    "license: CC0\n"
    "databases:\n"
    "  people: {description: Who, tables: {names: {title: Names}}}\n"
    "  weather: {source: A station}\n"
    "  gone: {description: Not for long}\n",
    "plugins/internal.py": """
from datasette import hookimpl, Response
@hookimpl
def register_routes():
    async def internal(datasette):
        await datasette.refresh_schemas()
        databases = datasette.databases
        db = databases.get("_internal") or datasette.get_internal_database()
        return Response.json({
            table: sorted(map(repr, map(tuple, await db.execute(f"select * from {table}"))))
            for table in await db.table_names() if table != "_sqlite_migrations"
        })
    return [(r"^/-/internal$", internal)]
""",
}


class Wardrobe:
    """Makes sets of workers for states, and asks them for pages."""

    def __init__(self, root: Path, nursery: Nursery) -> None:
        self.publisher = Publisher(root)
        self.sets: list[WorkerSet] = []
        self._root = root
        self._nursery = nursery
        self._metrics = ReaderMetrics("test")
        self._restorer = Restorer(ReaderPaths(root / "reader"), self.publisher.store, self._metrics)

    async def slots(self, state: State) -> dict[str, Path]:
        """Restore a state."""
        return await self._restorer.restore(state, superseded=asyncio.Event())

    async def start(self, state: State, count: int = 1) -> WorkerSet:
        """Start a fresh set."""
        options = WorkerOptions(
            sockets=socket_folder(self._root),
            count=count,
            secret="secret",  # noqa: S106 - a test's
        )
        made = WorkerSet(
            self._nursery,
            options,
            state=state,
            slots=await self.slots(state),
            descriptions=Descriptions(),
            metrics=self._metrics,
        )
        self.sets.append(made)
        await made.start()
        return made

    def configure(self) -> None:
        """Write a configuration directory with a database of its own."""
        for name, text in CONFIGURATION.items():
            path = self._root / "config" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name in ("own", "gone"):
            self.publisher.write(name, f"CREATE TABLE of_{name} (x)")
            [live] = (self._root / "primary" / name).glob("????????????????")
            (self._root / "config" / f"{name}.db").write_bytes(live.read_bytes())
            self.publisher.begin_lineage(name)
        self._nursery.configuration = Configuration(folder=self._root / "config")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nursery() -> AsyncIterator[Nursery]:
    """Give one nursery for the tests of this module."""
    nursery = Nursery("test_spares", Configuration())
    yield nursery
    await nursery.close()


@pytest_asyncio.fixture(loop_scope="module")
async def wardrobe(tmp_path: Path, nursery: Nursery) -> AsyncIterator[Wardrobe]:
    """Give a maker of sets; what is left of them is stopped after the test."""
    nursery.configuration = Configuration()
    wardrobe = Wardrobe(tmp_path, nursery)
    yield wardrobe
    for each in wardrobe.sets:
        await each.stop()


async def read(worker: Worker, path: str) -> tuple[int, str, str]:
    """Read a page; give status, ETag and body."""
    async with worker.session.get(f"http://localhost{path}") as response:
        return response.status, response.headers.get("ETag", ""), _timeless(await response.text())


def _timeless(page: str) -> str:
    """Leave out how long SQL took: no two pages share it."""
    return re.sub(r'"query_ms": ?[\d.e-]+|Queries took [\d.e-]+', "", page)


def open_slots(worker: Worker) -> set[str]:
    """List the slots that a worker holds open."""
    links = Path(f"/proc/{worker.fork.pid}/fd").iterdir()
    targets = [str(link.readlink()) for link in links if link.is_symlink()]
    return {target for target in targets if "/slots/" in target}


async def test_dressed_worker_equals_a_fresh_one(wardrobe: Wardrobe) -> None:
    """I2: pages of changed, unchanged, removed, new and returned databases are the same bytes."""
    wardrobe.configure()
    write = wardrobe.publisher.write
    sales = write("sales", *ORDERS, "INSERT INTO orders VALUES (1, 'pen')")
    weather = write("weather", "CREATE TABLE days (day TEXT PRIMARY KEY, degrees REAL)")
    gone = write("gone", *ORDERS)
    old = State(number=7, databases={"gone": gone, "sales": sales, "weather": weather})
    dressed = await wardrobe.start(old, count=2)
    await dressed.probe()
    for path in PAGES:
        await read(dressed.workers[0], path)
    await dressed.rest()

    sales = write("sales", "INSERT INTO orders VALUES (2, 'ink')", "CREATE TABLE more (x)")
    people = write("people", "CREATE TABLE names (name)", "CREATE INDEX by_name ON names (name)")
    new = State(number=8, databases={"people": people, "sales": sales, "weather": weather})
    await dressed.dress(new, await wardrobe.slots(new))
    fresh = await wardrobe.start(new)

    for path in (*PAGES, "/-/internal"):
        for worker in dressed.workers:
            assert await read(worker, path) == await read(fresh.workers[0], path), path
    assert (await read(dressed.workers[0], "/gone/of_gone.json"))[0] == 200

    back = State(number=9, databases={"sales": sales, "gone": gone})
    await dressed.dress(back, await wardrobe.slots(back))
    fresh = await wardrobe.start(back)
    for path in (*PAGES, "/-/internal"):
        assert await read(dressed.workers[0], path) == await read(fresh.workers[0], path), path


async def test_worker_that_rests_holds_no_slot_open(wardrobe: Wardrobe) -> None:
    """A slot that was served may be written as soon as its set rests or is dressed anew."""
    cuts = {name: wardrobe.publisher.write(name, *ORDERS) for name in ("sales", "weather")}
    state = State(number=1, databases=cuts)
    made = await wardrobe.start(state)
    await made.probe()
    [worker] = made.workers
    assert len(open_slots(worker)) == 2

    await made.rest()
    assert open_slots(worker) == set()

    await made.dress(state, made.slots)
    assert (await read(worker, "/sales/orders"))[0] == 200
    new = wardrobe.publisher.write("sales", "INSERT INTO orders VALUES (1, 'pen')")
    state = State(number=2, databases={**cuts, "sales": new})
    await made.dress(state, await wardrobe.slots(state))
    assert open_slots(worker) <= set(map(str, made.slots.values()))


async def test_slot_rewritten_in_place_is_read_anew(wardrobe: Wardrobe) -> None:
    """The same file with another TXID is another database: nothing of the old one is shown."""
    old = State(number=1, databases={"sales": wardrobe.publisher.write("sales", *ORDERS)})
    made = await wardrobe.start(old)
    await made.probe()
    await made.rest()
    slot = made.slots["sales"]
    insert = "INSERT INTO orders VALUES (1, 'pen')"
    new = State(number=2, databases={"sales": wardrobe.publisher.write("sales", insert)})
    restored = await wardrobe.slots(new)

    slot.write_bytes(restored["sales"].read_bytes())
    await made.dress(new, {"sales": slot})

    assert "pen" in (await read(made.workers[0], "/sales/orders.json"))[2]


async def test_spare_that_nobody_takes_is_stopped(wardrobe: Wardrobe) -> None:
    """A reader without new generations holds no more workers than it serves with."""
    made = await wardrobe.start(State(number=1))
    rests = asyncio.Event()

    async def on_rest() -> None:
        rests.set()

    spares = Spares(on_rest, ReaderMetrics("test"), kept_s=0.01)
    [worker] = made.workers

    assert spares.offer(made)

    async with asyncio.timeout(10):
        await rests.wait()
        await worker.fork.ended.wait()
    assert await spares.take() is None


async def test_next_switch_waits_until_the_replaced_set_rests(
    wardrobe: Wardrobe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generation that comes at once finds an idle slot, and need not copy one in service."""
    monkeypatch.setattr("serve.spares.DRAINING_WAIT_S", 60)
    made = await wardrobe.start(State(number=1))
    pruned = asyncio.Event()
    spares = Spares(pruned.wait, ReaderMetrics("test"))  # type: ignore[arg-type]
    spares.expect()
    waiting = asyncio.create_task(spares.wait_rest())

    assert spares.offer(made)
    await eventually(lambda: spares.ready)
    assert not waiting.done()

    pruned.set()
    await waiting
    assert await spares.take() is made


async def test_forked_set_is_asked_for_what_the_other_does_not_serve(wardrobe: Wardrobe) -> None:
    """A switch asks for what is new, also when it has to fork, with a thousand databases."""
    write = wardrobe.publisher.write
    cuts = {name: write(name, *ORDERS) for name in ("sales", "weather")}
    served = await wardrobe.start(State(number=1, databases=cuts))
    changed = {**cuts, "sales": write("sales", "CREATE TABLE more (x)")}
    new = await wardrobe.start(State(number=2, databases=changed))
    unlike = replace(cuts["weather"], tables={"not there": 0})  # what is asked, is missed
    served.state = replace(served.state, databases={**cuts, "weather": unlike})
    new.state = replace(new.state, databases={**changed, "weather": unlike})

    await new.probe(served)

    with pytest.raises(WorkerError, match="not"):
        await new.probe()


async def test_dressing_of_a_killed_worker_fails(wardrobe: Wardrobe) -> None:
    """A spare that dies while it is dressed is noticed before anything is switched."""
    cut = wardrobe.publisher.write("sales", *ORDERS)
    made = await wardrobe.start(State(number=1, databases={"sales": cut}))
    pid = made.workers[0].fork.pid
    os.kill(pid, signal.SIGSTOP)
    dressing = asyncio.create_task(made.dress(State(number=2), {}))
    done, _ = await asyncio.wait([dressing], timeout=0.2)
    assert not done

    os.kill(pid, signal.SIGKILL)

    with pytest.raises(WorkerError, match="did not dress"):
        await dressing


async def test_describing_opens_only_changed_slots(wardrobe: Wardrobe) -> None:
    """The cost of a dressing grows with the change: what is known is not read again."""
    cuts: dict[str, Cut] = {
        name: wardrobe.publisher.write(name, *ORDERS) for name in ("sales", "weather")
    }
    state = State(number=1, databases=cuts)
    slots = await wardrobe.slots(state)
    descriptions = Descriptions()
    before = await descriptions.describe(state, slots)

    slots["weather"].unlink()
    new = wardrobe.publisher.write("sales", "CREATE TABLE more (x)")
    state = State(number=2, databases={**cuts, "sales": new})
    slots["sales"] = (await wardrobe.slots(State(databases={"sales": new})))["sales"]
    after = await descriptions.describe(state, slots)

    assert after["weather"] == before["weather"]
    assert "more" in after["sales"]["tables"]
