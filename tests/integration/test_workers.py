"""Datasette workers: forked, probed, replaced, retired."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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
from serve.workers import WorkerOptions, WorkerSet
from tests.integration.reader_kit import ORDERS, Publisher, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from serve.worker_process import Worker


pytestmark = pytest.mark.asyncio(loop_scope="module")


class Bench:
    """Makes sets of workers for databases."""

    def __init__(self, root: Path, nursery: Nursery) -> None:
        self.root = root
        self.nursery = nursery
        self.publisher = Publisher(root)
        self.paths = ReaderPaths(root / "reader")
        self.metrics = ReaderMetrics("test")
        self.sets: list[WorkerSet] = []
        self.memory_bytes: int | None = None

    async def make_set(self, count: int = 1, **databases: Cut) -> WorkerSet:
        """Make a set that is not started."""
        state = State(number=1, databases=databases)
        restorer = Restorer(self.paths, self.publisher.store, self.metrics)
        made = WorkerSet(
            self.nursery,
            WorkerOptions(
                sockets=socket_folder(self.root),
                count=count,
                secret="secret",  # noqa: S106 - a test's
                memory_bytes=self.memory_bytes,
            ),
            state=state,
            slots=await restorer.restore(state, superseded=asyncio.Event()),
            descriptions=Descriptions(),
            metrics=self.metrics,
        )
        self.sets.append(made)
        return made

    async def start_set(self, count: int = 1, **databases: Cut) -> WorkerSet:
        """Make a set and bring it into service."""
        made = await self.make_set(count, **databases)
        await made.start()
        await made.probe()
        made.begin_service()
        return made

    def configure(self, files: dict[str, str]) -> None:
        """Write a Datasette configuration directory."""
        for name, text in files.items():
            path = self.root / "config" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.nursery.configuration = Configuration(folder=self.root / "config")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nursery() -> AsyncIterator[Nursery]:
    """Give one nursery for the tests of this module."""
    nursery = Nursery("test_workers", Configuration())
    yield nursery
    await nursery.close()


@pytest_asyncio.fixture(loop_scope="module")
async def bench(tmp_path: Path, nursery: Nursery) -> AsyncIterator[Bench]:
    """Give a maker of sets; what is left of them is stopped after the test."""
    nursery.configuration = Configuration()
    bench = Bench(tmp_path, nursery)
    yield bench
    for each in bench.sets:
        await each.stop()


async def ask(worker: Worker, path: str) -> Any:
    """Read JSON from a worker."""
    async with worker.session.get(f"http://localhost{path}") as response:
        assert response.status == 200, await response.text()
        return json.loads(await response.text())


def is_alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def pid_of(worker: Worker) -> int:
    """Ask a worker for its process id, by the plugin of `PID_PLUGIN`."""
    return int((await ask(worker, "/-/pid"))["pid"])


PID_PLUGIN = """
import os
from datasette import hookimpl, Response
@hookimpl
def register_routes():
    return [(r"^/-/pid$", lambda: Response.json({"pid": os.getpid()}))]
"""


async def test_worker_serves_the_generation_without_counting_it(bench: Bench) -> None:
    """Hash, size and counts are those of the generation: nothing scans a file at start."""
    cut = bench.publisher.write("sales", *ORDERS, "INSERT INTO orders VALUES (1, 'pen')")
    told = replace(cut, tables={"orders": 12345})
    started = await bench.start_set(sales=told)

    databases = await ask(started.workers[0], "/-/databases.json")
    tables = (await ask(started.workers[0], "/sales.json"))["tables"]

    assert [database["name"] for database in databases] == ["sales"]
    assert databases[0]["size"] == cut.pages * cut.page_size
    assert databases[0]["is_mutable"] is False
    assert len(databases[0]["hash"]) == 64
    counts = {table["name"]: (table["count"], table["hidden"]) for table in tables}
    assert counts["orders"] == (12345, False)
    assert counts["_litestream_seq"][1]
    assert counts["_litestream_lock"] == (0, True)


async def test_worker_without_databases_answers(bench: Bench) -> None:
    """Generation 0 is served as well: an empty Datasette."""
    started = await bench.start_set()

    assert await ask(started.workers[0], "/-/databases.json") == []


async def test_workers_answer_names_of_every_kind(bench: Bench) -> None:
    """Tables with quotes, slashes, dots, emoji and percent signs pass the probe and are read."""
    names = ["a b", "a/b", "a.b", 'a"b', "a%b", "a~b", "\N{DOG FACE}", "a?#&"]
    creates = ['CREATE TABLE "{}" (x)'.format(name.replace('"', '""')) for name in names]
    started = await bench.start_set(odd=bench.publisher.write("odd", *creates))

    tables = (await ask(started.workers[0], "/odd.json"))["tables"]

    assert {table["name"] for table in tables if not table["hidden"]} == set(names)


async def test_worker_over_its_memory_limit_is_replaced_between_requests(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh worker comes first; the large one answers what it has, and only then ends."""
    monkeypatch.setattr("serve.workers.MEMORY_LOOK_S", 0.05)
    bench.memory_bytes = 200_000_000
    bench.configure({"plugins/pid.py": PID_PLUGIN + GROW})
    started = await bench.start_set(sales=bench.publisher.write("sales", *ORDERS))
    large = started.workers[0]

    growing = asyncio.create_task(ask(large, "/-/grow"))
    fresh = await started.get_worker(20.0, other_than=large)

    assert not growing.done()
    assert not large.fork.ended.is_set()
    assert await ask(fresh, "/sales/orders.json?_shape=array") == []
    (bench.root / "config" / "go").touch()
    assert await asyncio.wait_for(growing, 20) == {"grown": 300_000_000}
    await asyncio.wait_for(large.fork.ended.wait(), 20)
    assert started.workers == [fresh]
    assert bench.metrics.registry.get_sample_value("headrace_reader_memory_replacements_total") == 1


GROW = """
import asyncio, pathlib
async def grow():
    held = bytearray(b"x" * 300_000_000)
    while not (pathlib.Path(__file__).parents[1] / "go").exists():
        await asyncio.sleep(0.01)
    return Response.json({"grown": len(held)})
@hookimpl(specname="register_routes")
def register_grow():
    return [(r"^/-/grow$", grow)]
"""


async def test_worker_of_a_killed_nursery_is_replaced(bench: Bench) -> None:
    """The preloaded process may die: its workers go with it, and both come back."""
    started = await bench.start_set(sales=bench.publisher.write("sales", *ORDERS))
    first, nursery_pid = started.workers[0], bench.nursery.pid
    assert nursery_pid

    os.kill(nursery_pid, signal.SIGKILL)
    await asyncio.wait_for(first.fork.ended.wait(), 20)
    second = await started.get_worker(20.0, other_than=first)

    assert await ask(second, "/sales/orders.json?_shape=array") == []
    assert bench.nursery.pid != nursery_pid


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("plugins/bad.py", "raise ValueError('this plugin is broken')", "this plugin is broken"),
        (
            "plugins/bad.py",
            "from datasette import hookimpl\n@hookimpl\ndef startup(datasette):\n    1 / 0\n",
            "ZeroDivisionError",
        ),
        ("plugins/bad.py", "import os\nos._exit(3)", "ended with status 3 at its start"),
        ("plugins/bad.py", f"raise ValueError('x' * 100000 + {'end'!r})", "xend"),
        ("settings.json", '{"no_such_setting": 1}', "Invalid setting 'no_such_setting'"),
        ("metadata.json", "[1]", "cannot use the metadata: it is not an object"),
        ("metadata.yaml", "a: [", "Metadata is not valid"),
    ],
)
async def test_worker_that_cannot_start_says_why(
    bench: Bench, name: str, text: str, reason: str
) -> None:
    """Whatever of the user's stops Datasette comes back as the reason."""
    bench.configure({name: text})
    made = await bench.make_set()

    with pytest.raises(WorkerError, match=reason):
        await made.start()


async def test_probe_of_a_table_that_does_not_answer_fails(bench: Bench) -> None:
    """A generation whose table is not there does not come into service."""
    cut = bench.publisher.write("sales", *ORDERS)
    made = await bench.make_set(sales=cut)
    made.state = replace(
        made.state, databases={"sales": replace(cut, tables={"orders": 0, "gone": 1})}
    )
    await made.start()

    with pytest.raises(WorkerError, match=r"answers /sales/gone\.json\S* with 404"):
        await made.probe()


async def test_probe_of_a_protected_table_passes(bench: Bench) -> None:
    """A configuration that lets nobody in is no reason not to switch."""
    bench.configure({"metadata.json": '{"allow": {"id": "root"}}'})
    started = await bench.start_set(sales=bench.publisher.write("sales", *ORDERS))

    async with started.workers[0].session.get("http://localhost/sales/orders") as response:
        assert response.status == 403


async def test_retire_of_a_set_waits_for_its_requests(bench: Bench) -> None:
    """An old generation goes on until its last request is answered; then nothing of it is left."""
    bench.configure({"plugins/pid.py": PID_PLUGIN})
    started = await bench.start_set(2, sales=bench.publisher.write("sales", *ORDERS))
    pids = [await pid_of(worker) for worker in started.workers]
    async with started.hold():
        retiring = asyncio.create_task(started.retire())
        assert await ask(started.workers[0], "/sales/orders.json?_shape=array") == []
        assert not retiring.done()

    await asyncio.wait_for(retiring, 20)

    assert not any(is_alive(pid) for pid in pids)
    assert list(socket_folder(bench.root).iterdir()) == []


async def test_retire_of_a_set_has_a_deadline(bench: Bench) -> None:
    """A request that never ends does not keep an old generation for ever."""
    started = await bench.start_set()
    async with started.hold():
        await asyncio.wait_for(started.retire(drain_s=0.05), 20)

    assert started.workers == []


async def test_worker_that_ignores_sigterm_is_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin cannot keep a worker alive."""
    monkeypatch.setattr("serve.worker_process.TERMINATE_S", 0.2)
    bench.configure({"plugins/pid.py": PID_PLUGIN + BLOCK})
    started = await bench.start_set()
    worker = started.workers[0]
    pid = await pid_of(worker)
    blocked = asyncio.create_task(ask(worker, "/-/block"))
    await eventually((bench.root / "config" / "blocked").exists)

    await started.stop()

    assert worker.fork.status == -signal.SIGKILL
    assert not is_alive(pid)
    await asyncio.gather(blocked, return_exceptions=True)


BLOCK = """
import pathlib, time
def block():
    (pathlib.Path(__file__).parents[1] / "blocked").touch()
    time.sleep(3600)
@hookimpl(specname="register_routes")
def register_block():
    return [(r"^/-/block$", block)]
"""


async def test_worker_uses_the_users_directory(bench: Bench) -> None:
    """Plugins, templates, static files, settings, metadata and databases of the user work."""
    bench.configure(
        {
            "metadata.yaml": "title: Our data\ndatabases:\n  sales:\n    license: CC0\n",
            "settings.json": '{"default_page_size": 7}',
            "templates/index.html": "<p>{{ metadata.title }}: {{ metadata.description }}</p>",
            "static/site.css": "p { color: red }",
            "plugins/pid.py": PID_PLUGIN,
        }
    )
    for name in ("own", "sales"):
        cut = bench.publisher.write(name, f"CREATE TABLE of_{name} (x)")
        folder = bench.root / "primary" / name / cut.lineage
        (bench.root / "config" / f"{name}.db").write_bytes(folder.read_bytes())
        bench.publisher.begin_lineage(name)
    started = await bench.start_set(sales=bench.publisher.write("sales", *ORDERS))
    worker = started.workers[0]

    async with worker.session.get("http://localhost/") as response:
        assert "<p>Our data: Nothing has been published yet.</p>" in await response.text()
    async with worker.session.get("http://localhost/static/site.css") as response:
        assert await response.text() == "p { color: red }"
    assert (await ask(worker, "/-/settings.json"))["default_page_size"] == 7
    assert (await ask(worker, "/-/metadata.json"))["databases"]["sales"]["license"] == "CC0"
    assert await pid_of(worker)
    assert await ask(worker, "/own/of_own.json?_shape=array") == []
    assert await ask(worker, "/sales/orders.json?_shape=array") == []


async def test_worker_that_fails_a_request_logs_no_values(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a request held when it failed stays out of the log."""
    bench.nursery = Nursery("test_workers", Configuration())
    failing = "import os\nfrom datasette import hookimpl\n@hookimpl\ndef register_routes():\n"
    failing += (
        "    return [(r'^/-/fail$', fail)]\ndef fail():\n    row = 'se' + 'cret'\n    1 / 0\n"
    )
    bench.configure({"plugins/fail.py": failing})
    started = await bench.start_set()

    async with started.workers[0].session.get("http://localhost/-/fail") as response:
        assert response.status == 500
    await bench.sets.pop().stop()
    await bench.nursery.close()

    logged = capfd.readouterr().err
    assert "ZeroDivisionError" in logged
    assert "secret" not in logged


PINT = "datasette.vendored.pint.registry"
UNITS_PLUGIN = """
import sys
from datasette import hookimpl, Response
def loaded():
    parts = {"datasette.vendored.pint.registry", "httpx._client", "yaml.loader"}
    return sorted(parts & set(sys.modules))
at_start = loaded()
def convert():
    from datasette.vendored import pint
    return Response.json(str(pint.UnitRegistry()("3 km").to("m")))
async def ask_itself(datasette):
    return Response.json((await datasette.client.get("/-/databases.json")).status_code)
@hookimpl
def register_routes():
    return [
        (r"^/-/units$", lambda: Response.json({"at_start": at_start, "now": loaded()})),
        (r"^/-/converted$", convert),
        (r"^/-/itself$", ask_itself),
    ]
"""


async def test_worker_loads_what_few_use_when_it_is_used(bench: Bench) -> None:
    """A feature that few use costs no memory before: a plugin that uses it gets the real one."""
    bench.configure({"plugins/units.py": UNITS_PLUGIN})
    bench.nursery = Nursery("test_workers", bench.nursery.configuration)
    started = await bench.start_set(sales=bench.publisher.write("sales", *ORDERS))
    worker = started.workers[0]
    async with worker.session.get("http://localhost/sales/orders") as response:
        assert response.status == 200

    assert await ask(worker, "/-/units") == {"at_start": [], "now": []}
    assert await ask(worker, "/-/converted") == "3000.0 meter"
    assert await ask(worker, "/-/units") == {"at_start": [], "now": [PINT]}
    assert await ask(worker, "/-/itself") == 200
    assert await ask(worker, "/-/units") == {"at_start": [], "now": [PINT, "httpx._client"]}
    await bench.sets.pop().stop()
    await bench.nursery.close()


async def test_worker_shows_and_compares_units_that_the_metadata_names(bench: Bench) -> None:
    """Units and YAML are loaded before workers are forked then, and understood as by Datasette."""
    bench.configure(
        {
            "metadata.yaml": "custom_units: ['furlong = 220 yard = fur']\n"
            "databases: {sales: {tables: {lengths: {units: {length: m, race: fur}}}}}\n",
            "plugins/units.py": UNITS_PLUGIN,
        }
    )
    bench.nursery = Nursery("test_workers", bench.nursery.configuration)
    lengths = [
        "CREATE TABLE lengths (length INTEGER, race INTEGER)",
        "INSERT INTO lengths VALUES (1500, 8), (3, 1)",
    ]
    started = await bench.start_set(sales=bench.publisher.write("sales", *lengths))
    worker = started.workers[0]

    async with worker.session.get("http://localhost/sales/lengths") as response:
        page = await response.text()
    longer = await ask(worker, "/sales/lengths.json?length__gt=1km&_shape=array")

    assert "1.5&nbsp;km" in page
    assert "8&nbsp;fur" in page
    assert [row["length"] for row in longer] == [1500]
    assert (await ask(worker, "/-/units"))["at_start"] == [PINT, "yaml.loader"]
    await bench.sets.pop().stop()
    await bench.nursery.close()
