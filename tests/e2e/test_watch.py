"""`headrace watch`: a folder that is published."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import wait_for
from tests.e2e.conftest import System, running
from tests.e2e.push_kit import Person
from tests.integration.fault_proxy import FaultProxy, answering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PEOPLE = b"id,name\n1,Ada\n2,Grace\n"
BROKEN = b'id,name\n1,"Ada\n'


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give one system for all tests."""
    with running(tmp_path_factory.mktemp("system") / "data", "--workers", "1") as system:
        yield system


@pytest.fixture
def person(system: System, tmp_path: Path) -> Person:
    """Give somebody with the token, and a folder."""
    (tmp_path / "shared").mkdir()
    return Person(system.url, system.token, tmp_path)


def write_long_ago(path: Path, body: bytes, *, seconds: float = 100) -> None:
    """Write a file that was finished before anybody looked."""
    path.write_bytes(body)
    at_s = time.time() - seconds
    os.utime(path, (at_s, at_s))


class Watching:
    """One `headrace watch` that runs.

    Attributes:
        said: Its lines on standard error.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []

    async def receipt(self) -> dict[str, Any]:
        """Wait for the next receipt."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 30)
        document: dict[str, Any] = json.loads(line)
        return document

    async def says(self, text: str) -> str:
        """Wait until it says something."""
        assert self.process.stderr is not None
        async with asyncio.timeout(30):
            while True:
                line = (await self.process.stderr.readline()).decode()
                assert line, self.said
                self.said.append(line)
                if text in line:
                    return line


@asynccontextmanager
async def watching(person: Person, *flags: str) -> AsyncIterator[Watching]:
    """Watch a folder while the block runs; then a SIGTERM ends it with 0, unless it was killed."""
    process = await person.start("watch", "shared", "--json", *flags)
    found = Watching(process)
    try:
        await found.says("watching ")
        yield found
        if process.returncode is not None:
            return
        process.terminate()
        _output, errors = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, errors
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_files_are_pushed_when_they_are_finished_and_go_when_they_are_gone(
    system: System, person: Person
) -> None:
    """A folder in the folder is a database; renamed and deleted files take their tables along."""
    folder = person.home / "shared"
    async with watching(person, "--mirror-deletes", "--pk", "id") as watch:
        with (folder / "people.csv").open("wb") as file:
            file.write(PEOPLE[:9])
            file.flush()
            (folder / "first.csv").write_bytes(PEOPLE)
            assert (await watch.receipt())["path"] == "first.csv"  # and not half of the other
            file.write(PEOPLE[9:])
        receipt = await watch.receipt()
        assert (receipt["path"], receipt["tables"][0]["rows"]) == ("people.csv", 2)

        (folder / "sales").mkdir()
        (folder / ".orders.csv.part").write_bytes(PEOPLE)
        (folder / ".orders.csv.part").rename(folder / "sales" / "orders.csv")
        assert (await watch.receipt())["url"] == "/sales/orders"

        (folder / "people.csv").rename(folder / "sales" / "folk.csv")
        assert (await watch.receipt())["url"] == "/sales/folk"
        await watch.says("people.csv is gone: people is deleted")
        (folder / "sales" / "folk.csv").unlink()
        await watch.says("sales/folk.csv is gone: sales/folk is deleted")
    document = system.client.get("/ingest/status", headers=system.auth).json()
    assert document["databases"]["sales"]["tables"] == {"orders": 2}
    assert "people" not in document["databases"]


async def test_watch_that_starts_again_pushes_only_what_changed(person: Person) -> None:
    """What was pushed is remembered; what was changed, touched or made meanwhile is found."""
    folder = person.home / "shared"
    write_long_ago(folder / "same.csv", PEOPLE)
    write_long_ago(folder / "other.csv", PEOPLE)
    async with watching(person) as watch:
        paths = {(await watch.receipt())["path"] for _ in range(2)}
        assert paths == {"same.csv", "other.csv"}
    write_long_ago(folder / "same.csv", PEOPLE, seconds=50)
    write_long_ago(folder / "other.csv", PEOPLE + b"3,Edsger\n")
    async with watching(person) as watch:
        receipt = await watch.receipt()
        assert (receipt["path"], receipt["tables"][0]["added"]) == ("other.csv", 1)
        (folder / "last.csv").write_bytes(PEOPLE)
        assert (await watch.receipt())["path"] == "last.csv"


async def test_bad_file_is_said_and_tried_again_when_it_changes(person: Person) -> None:
    """One bad file does not end the watch, and is not sent again and again."""
    folder = person.home / "shared"
    async with watching(person) as watch:
        (folder / "bad.csv").write_bytes(BROKEN)
        assert (await watch.receipt())["state"] == "failed"
        assert "a quote that is never closed" in await watch.says("headrace: bad.csv: ")
        (folder / "next.csv").write_bytes(PEOPLE)
        assert (await watch.receipt())["path"] == "next.csv"
        (folder / "bad.csv").write_bytes(PEOPLE)
        receipt = await watch.receipt()
        assert (receipt["path"], receipt["state"]) == ("bad.csv", "published")


async def test_file_that_goes_while_the_server_is_away_ends_no_watch(
    system: System, person: Person
) -> None:
    """It is said, and what is there is pushed when the server is back."""
    folder = person.home / "shared"
    wire = FaultProxy(system.port)
    async with wire.listening() as port:
        person.env["HEADRACE_URL"] = f"http://127.0.0.1:{port}"
        async with watching(person) as watch:
            with wire.broken("/ingest", answering("503 Service Unavailable", "x", "y")):
                (folder / "left.csv").write_bytes(PEOPLE)
                await watch.says("left.csv: trying again")
                (folder / "left.csv").unlink()
                await watch.says("headrace: left.csv: cannot read")
            assert (await watch.receipt())["error"]["code"] == "changed"
            (folder / "after.csv").write_bytes(PEOPLE)
            assert (await watch.receipt())["state"] == "published"


async def test_deletion_that_was_refused_is_tried_again_also_after_a_restart(
    system: System, person: Person
) -> None:
    """No table stays for ever because somebody mistook a token, or something was in the way."""
    folder = person.home / "shared"
    for name in ("kept", "first", "second"):
        write_long_ago(folder / f"{name}.csv", PEOPLE)
    wire = FaultProxy(system.port)
    async with wire.listening() as port:
        person.env["HEADRACE_URL"] = f"http://127.0.0.1:{port}"
        async with watching(person, "--mirror-deletes") as watch:
            for _ in range(3):
                await watch.receipt()
            with wire.broken("/ingest/databases", answering("409 Conflict", "x", "y")):
                (folder / "first.csv").unlink()
                await watch.says("headrace: first.csv is gone, but")
            await watch.says("first.csv is gone: first is deleted")
            with wire.broken("/ingest/databases", answering("403 Forbidden", "x", "y")):
                (folder / "second.csv").unlink()
                await watch.says("headrace: second.csv is gone, but")
                watch.process.kill()
                await watch.process.wait()
        async with watching(person, "--mirror-deletes") as watch:
            await watch.says("second.csv is gone: second is deleted")
    document = system.client.get("/ingest/status", headers=system.auth).json()
    assert document["databases"].keys() & {"kept", "first", "second"} == {"kept"}


async def test_file_that_comes_back_after_half_a_deletion_is_pushed_anew(
    system: System, person: Person
) -> None:
    """It may have its size and time from before, but not all of its tables."""
    path = person.home / "shared" / "back.csv"
    write_long_ago(path, PEOPLE)
    write_long_ago(person.home / "shared" / "other.csv", PEOPLE)
    wire = FaultProxy(system.port)
    async with wire.listening() as port:
        person.env["HEADRACE_URL"] = f"http://127.0.0.1:{port}"
        async with watching(person, "--mirror-deletes") as watch:
            for _ in range(2):
                await watch.receipt()
            # Its table is deleted, but not the empty database.
            with wire.broken("/ingest/status", answering("403 Forbidden", "x", "y")):
                path.rename(person.home / "back.csv")
                await watch.says("headrace: back.csv is gone, but")
                (person.home / "back.csv").rename(path)
                assert (await watch.receipt())["path"] == "back.csv"
    document = system.client.get("/ingest/status", headers=system.auth).json()
    assert document["databases"]["back"]["tables"] == {"back": 2}


async def test_token_that_was_revoked_ends_the_watch_with_4_and_forgets_nothing(
    system: System, person: Person
) -> None:
    """Who starts it again with another token has the table deleted then."""
    folder = person.home / "shared"
    for name in ("stays", "goes"):
        write_long_ago(folder / f"{name}.csv", PEOPLE)
    fields = {"scopes": ["ingest:*"], "name": "watch"}
    made = system.client.post("/ingest/tokens", json=fields, headers=system.auth).json()
    process = await Person(system.url, made["token"], person.home).start(
        "watch", "shared", "--json", "--mirror-deletes"
    )
    watch = Watching(process)
    for _ in range(2):
        await watch.receipt()
    path = f"/ingest/tokens/{made['id']}"
    assert system.client.delete(path, headers=system.auth).status_code == 200
    (folder / "goes.csv").unlink()
    await watch.says("headrace: goes.csv is gone, but the token")
    _output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 4, errors
    async with watching(person, "--mirror-deletes") as watch:
        await watch.says("goes.csv is gone: goes is deleted")


async def test_names_that_are_no_utf8_are_said_and_left_alone(person: Person) -> None:
    """On Linux a name is any bytes: such a file, or folder, keeps no other."""
    folder = person.home / "shared"
    odd = os.fsdecode(b"donn\xe9es")
    (folder / f"日本{odd}").mkdir()
    write_long_ago(folder / f"{odd}.csv", PEOPLE)
    write_long_ago(folder / f"日本{odd}" / "people.csv", PEOPLE)
    async with watching(person) as watch:
        refused = {(await watch.receipt())["path"] for _ in range(2)}
        assert refused == {f"{odd}.csv", f"日本{odd}/people.csv"}
        await watch.says("its name is not UTF-8")
        (folder / "after.csv").write_bytes(PEOPLE)
        assert (await watch.receipt())["path"] == "after.csv"


async def test_folder_that_is_empty_at_once_deletes_nothing(system: System, person: Person) -> None:
    """A disk that is not mounted is no reason to delete all tables."""
    folder = person.home / "shared"
    write_long_ago(folder / "precious.csv", PEOPLE)
    async with watching(person, "--mirror-deletes") as watch:
        await watch.receipt()
    (folder / "precious.csv").unlink()
    done = person.run("watch", "shared", "--mirror-deletes")
    assert (done.returncode, b"is it mounted?" in done.stderr) == (1, True)
    wait_for(lambda: system.client.get("/precious/precious").status_code == 200)
    document = system.client.get("/ingest/status", headers=system.auth).json()
    assert document["databases"]["precious"]["tables"] == {"precious": 2}
