"""`headrace push` and `headrace status`, as people and scripts run them."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.conftest import wait_for
from tests.e2e.conftest import System, running
from tests.e2e.push_kit import MEGABYTE, Person, Wire, csv_of, receipts_of
from tests.integration.fault_proxy import answering, never_answering

if TYPE_CHECKING:
    from collections.abc import Iterator
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
    """Give somebody with the token."""
    return Person(system.url, system.token, tmp_path)


def test_files_and_patterns_are_pushed_with_a_receipt_each(system: System, person: Person) -> None:
    """A script reads one line of JSON for each file, and what it needs is in there."""
    (person.home / "more").mkdir()
    for name in ("a.csv", "more/b.csv", "more/c.csv"):
        (person.home / name).write_bytes(PEOPLE)
    flags = ["--json", "--database", "many", "--pk", "id", "--wait", "regions"]
    done = person.run("push", "a.csv", "more/*.csv", *flags)
    receipts = receipts_of(done.stdout)
    assert (done.returncode, set(receipts)) == (0, {"a.csv", "more/b.csv", "more/c.csv"})
    for receipt in receipts.values():
        assert receipt["state"] == "published"
        assert set(receipt["live"]) == {"a"}
        assert system.rows(receipt["url"])[0] == {"id": 1, "name": "Ada"}


def test_one_bad_file_keeps_no_other_and_is_said_with_its_place(
    system: System, person: Person
) -> None:
    """The exit code says that something failed, standard error where and why."""
    (person.home / "good.csv").write_bytes(PEOPLE)
    (person.home / "broken.csv").write_bytes(BROKEN)
    done = person.run("push", "broken.csv", "good.csv", "--wait", "regions")
    assert done.returncode == 1
    assert b"broken.csv: line 2 has a quote that is never closed" in done.stderr
    assert re.fullmatch(rb"good.csv: 2 rows in generation \d+: \S+/good/good\n", done.stdout)
    assert len(system.rows("/good/good")) == 2


def test_name_that_is_no_utf8_is_an_error_of_that_file_alone(
    system: System, person: Person
) -> None:
    """On Linux a name is any bytes; a folder may have any, and --filename is a way out."""
    odd = os.fsdecode(b"caf\xe9.csv")
    folder = person.home / os.fsdecode(b"donn\xe9es")
    folder.mkdir()
    (person.home / odd).write_bytes(PEOPLE)
    (folder / "rest.csv").write_bytes(PEOPLE)
    done = person.run("push", odd, f"{folder.name}/rest.csv", "--json")
    assert done.returncode == 1
    assert b"its name is not UTF-8\n  rename it, or push it alone with --filename" in done.stderr
    receipts = receipts_of(done.stdout)
    assert receipts[odd]["error"]["code"] == "bad-name"
    assert receipts[f"{folder.name}/rest.csv"]["state"] == "published"
    again = person.run("push", odd, "--filename", "cafe.csv", "--wait", "regions")
    assert again.returncode == 0, again.stderr
    assert len(system.rows("/cafe/cafe")) == 2


def test_standard_input_is_pushed_also_when_it_is_large(system: System, person: Person) -> None:
    """Nobody has to know how long it is, and it is not kept in a file."""
    flags = ["--json", "--wait", "regions"]
    small = person.run("push", "-", "--filename", "small.csv", *flags, stdin=PEOPLE)
    body = csv_of(9 * MEGABYTE)
    large = person.run("push", "-", "--database", "large", *flags, stdin=body)
    assert (small.returncode, large.returncode) == (0, 0)
    assert receipts_of(small.stdout)["-"]["filename"] == "small.csv"
    assert b"small.csv: received" in small.stderr
    assert receipts_of(large.stdout)["-"]["bytes"] == len(body)
    assert len(system.rows("/small/small")) == 2


def test_wrong_token_ends_with_4_and_nothing_is_published(system: System, person: Person) -> None:
    """A script tells a token that is wrong from a server that is away."""
    (person.home / "secret.csv").write_bytes(PEOPLE)
    (person.home / "big.csv").write_bytes(csv_of(2 * MEGABYTE))
    done = Person(system.url, "wrong", person.home).run("push", "secret.csv", "big.csv")
    assert done.returncode == 4
    assert b"the token is not known" in done.stderr
    assert system.client.get("/secret").status_code == 404


def test_token_that_was_kept_is_used(system: System, tmp_path: Path) -> None:
    """Who logged in pushes without a word about tokens; a wrong token is not kept."""
    person = Person(system.url, None, tmp_path)
    (tmp_path / "kept.csv").write_bytes(PEOPLE)
    assert person.run("login", stdin=b"wrong\n").returncode == 4
    without = person.run("push", "kept.csv")
    assert without.returncode == 4
    assert b"the request has no token\n  give one that may: `headrace login`, " in without.stderr
    assert person.run("login", stdin=f"{system.token}\n".encode()).returncode == 0
    assert person.run("push", "kept.csv").returncode == 0


def test_token_of_another_database_is_said_in_the_words_of_the_command(
    system: System, tmp_path: Path
) -> None:
    """Nobody who runs a command is told of requests and headers."""
    made = system.client.post(
        "/ingest/tokens", json={"scopes": ["ingest:other"]}, headers=system.auth
    ).json()
    (tmp_path / "mine.csv").write_bytes(PEOPLE)
    done = Person(system.url, made["token"], tmp_path).run("push", "mine.csv")
    assert done.returncode == 4
    assert b"may not write to that database\n  give one that may: `headrace log" in done.stderr


async def test_small_file_is_sent_before_it_is_answered(system: System, person: Person) -> None:
    """Who waits sees that the server has all of it."""
    (person.home / "small.csv").write_bytes(PEOPLE)
    wire = Wire(system)
    async with wire.listening() as port:
        person.env["HEADRACE_URL"] = f"http://127.0.0.1:{port}"
        with wire.broken("/ingest", never_answering):
            pushing = await person.start("push", "small.csv")
            assert pushing.stderr is not None
            line = await asyncio.wait_for(pushing.stderr.readline(), 30)
            pushing.kill()
            await pushing.communicate()
    assert line == b"small.csv: sent, 22 B\n"


def test_first_interrupt_ends_the_prompt_for_a_token(person: Person) -> None:
    """Who changed his mind is let go, and has the terminal back as it was."""
    terminal, command = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *person.command("login")],
        env=person.env,
        stdin=command,
        stdout=command,
        stderr=command,
    )
    os.close(command)
    seen = b""
    while b"Token: " not in seen:
        seen += os.read(terminal, 65536)
    os.write(terminal, b"\x03")
    assert process.wait(10) == 130
    os.close(terminal)


async def test_push_that_is_interrupted_says_what_the_same_command_does(
    system: System, person: Person
) -> None:
    """Nobody has to guess whether what was sent is lost."""
    (person.home / "stopped.csv").write_bytes(csv_of(6 * MEGABYTE))
    wire = Wire(system)
    async with wire.listening() as port:
        with wire.broken("/ingest/tus/", wire.hold_in_the_middle):
            url = f"http://127.0.0.1:{port}"
            pushing = await person.start("push", "stopped.csv", HEADRACE_URL=url)
            await asyncio.wait_for(wire.met.wait(), 30)
            pushing.send_signal(signal.SIGINT)
            _output, errors = await pushing.communicate()
    assert pushing.returncode == 130
    assert re.search(rb"stopped.csv: interrupted .*: the same command (goes on|says)", errors)


def test_command_in_the_folder_of_the_system_finds_its_port(system: System, person: Person) -> None:
    """Neither --to nor a token has to be said beside `headrace up`, whatever its port."""
    for name in ("HEADRACE_URL", "HEADRACE_TOKEN"):
        del person.env[name]
    (person.home / "data").symlink_to(system.data)
    assert (system.data / "url").read_text() == f"{system.url}\n"
    assert system.url.encode() in person.run("status", "--json").stdout
    assert person.run("token", "list").returncode == 0


def test_person_sees_bars_on_a_terminal(person: Person) -> None:
    """How much is sent, how far the server is, and what came of it, in one place."""
    (person.home / "big.csv").write_bytes(csv_of(4 * MEGABYTE))
    terminal, command = pty.openpty()
    process = subprocess.Popen(
        person.command("push", "big.csv"),
        cwd=person.home,
        env={**person.env, "TERM": "xterm-256color"},
        stdin=command,
        stdout=command,
        stderr=command,
    )
    os.close(command)
    seen = b""
    with suppress(OSError):  # EIO: the other end is closed
        while read := os.read(terminal, 65536):
            seen += read
    os.close(terminal)
    assert process.wait(30) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert re.search(r"big\.csv .* of 4\.\d MB", text)
    assert re.search(r"(read|merge|convert|publish)", text)
    assert re.search(r"big\.csv: [\d,]+ rows in generation \d+: ", text)


async def test_transfer_that_is_cut_goes_on_where_it_broke_off(
    system: System, person: Person
) -> None:
    """What the server has is not sent again."""
    body = csv_of(6 * MEGABYTE)
    (person.home / "cut.csv").write_bytes(body)
    wire = Wire(system)
    async with wire.listening() as port:
        url = f"http://127.0.0.1:{port}"
        with wire.broken("/ingest/tus/", wire.cut_in_the_middle):
            pushing = await person.start("push", "cut.csv", "--json", HEADRACE_URL=url)
            async with asyncio.timeout(30):
                await wire.met.wait()
        output, errors = await pushing.communicate()
    assert pushing.returncode == 0, errors
    assert receipts_of(output)["cut.csv"]["bytes"] == len(body)
    assert b"trying again" in errors
    assert wire.sent[0] == len(body)
    assert sum(wire.sent[1:]) <= len(body) - wire.kept_bytes


async def test_command_that_was_killed_goes_on_when_it_is_run_again(
    system: System, person: Person
) -> None:
    """The second time only the rest is sent, and the rows are there once."""
    body = csv_of(6 * MEGABYTE)
    (person.home / "killed.csv").write_bytes(body)
    flags = ["push", "killed.csv", "--json", "--mode", "append"]
    wire = Wire(system)
    async with wire.listening() as port:
        url = f"http://127.0.0.1:{port}"
        with wire.broken("/ingest/tus/", wire.hold_in_the_middle):
            killed = await person.start(*flags, HEADRACE_URL=url)
            await asyncio.wait_for(wire.met.wait(), 30)
            killed.kill()
            await killed.communicate()
        again = await person.start(*flags, HEADRACE_URL=url)
        output, errors = await again.communicate()
    assert again.returncode == 0, errors
    (table,) = receipts_of(output)["killed.csv"]["tables"]
    assert table["added"] == body.count(b"\n") - 1
    assert wire.sent[0] == len(body)
    assert sum(wire.sent[1:]) <= len(body) - wire.kept_bytes


async def test_server_that_is_away_for_a_moment_is_waited_for(
    system: System, person: Person
) -> None:
    """A restart in the middle costs a pause, and the same key makes it count once."""
    (person.home / "later.csv").write_bytes(PEOPLE)
    wire = Wire(system)
    async with wire.listening() as port:
        with wire.broken("/ingest", answering("503 Service Unavailable", "x", "y")):
            pushing = await person.start(
                "push", "later.csv", HEADRACE_URL=f"http://127.0.0.1:{port}"
            )
            assert pushing.stderr is not None
            await asyncio.wait_for(pushing.stderr.readuntil(b"trying again"), 30)
        output, errors = await pushing.communicate()
    assert (pushing.returncode, output[:24]) == (0, b"later.csv: 2 rows in gen"), errors


async def test_large_file_goes_to_a_reader_while_the_primary_is_away(
    system: System, person: Person
) -> None:
    """What only the primary can take bit by bit, a reader takes as a whole."""
    (person.home / "away.csv").write_bytes(csv_of(2 * MEGABYTE))
    wire = Wire(system)
    async with wire.listening() as port:
        with wire.broken("/ingest/tus", wire.without_primary):
            flags = ["push", "away.csv", "--wait", "none"]
            pushing = await person.start(*flags, HEADRACE_URL=f"http://127.0.0.1:{port}")
            output, errors = await pushing.communicate()
    assert wire.met.is_set()
    assert (pushing.returncode, output[:10]) == (0, b"away.csv: "), errors


async def test_file_that_is_not_done_in_time_ends_with_5_and_its_receipt(
    system: System, person: Person
) -> None:
    """A script asks later what became of it, and sends nothing twice."""
    (person.home / "slow.csv").write_bytes(csv_of(2 * MEGABYTE))
    wire = Wire(system)
    busy = answering("503 Service Unavailable", "x", "y")
    async with wire.listening() as port:
        url = f"http://127.0.0.1:{port}"
        with wire.broken("/ingest/receipts/", busy):
            flags = ["push", "slow.csv", "--json", "--retry-for", "0.2"]
            late = await person.start(*flags, HEADRACE_URL=url)
            output, errors = await late.communicate()
        with wire.broken("/ingest/tus", never_answering):
            flags = ["push", "slow.csv", "--timeout", "0.2", "--mode", "append"]
            unsent = await person.start(*flags, HEADRACE_URL=url)
            _output, said = await unsent.communicate()
    receipt = receipts_of(output)["slow.csv"]
    assert (late.returncode, receipt["error"]["code"]) == (5, "late"), errors
    assert (unsent.returncode, b"not sent in time" in said) == (5, True), said
    path = f"/ingest/receipts/{receipt['id']}"
    wait_for(lambda: system.client.get(path).json()["state"] == "published")


def test_status_says_how_far_everything_is(system: System, person: Person) -> None:
    """One look says which generation the primary and each region show, and what came last."""
    receipt = system.upload(PEOPLE, "looked-at.csv")
    system.wait_until_live(receipt)
    number = receipt["generation"]
    wait_for(lambda: _regions(system)["a"]["generation"] == number)
    table = person.run("status")
    assert table.returncode == 0
    text = table.stdout.decode()
    assert re.search(rf"^primary +{number} +epoch 1 *$", text, re.MULTILINE)
    assert re.search(rf"^region a +{number} +0 s +1 reader, heard \d+ s ago", text, re.MULTILINE)
    assert re.search(r"^looked-at +1 +2 ", text, re.MULTILINE)
    assert re.search(r"looked-at.csv +22 B +published +/looked-at/looked-at", text)
    del person.env["HEADRACE_TOKEN"]
    public = json.loads(person.run("status", "--json").stdout)
    assert public["reader"]["generation"] == number
    assert public["primary"] is None


def _regions(system: System) -> dict[str, dict[str, int]]:
    answer = system.client.get("/ingest/status", headers=system.auth)
    regions: dict[str, dict[str, int]] = answer.json()["regions"]
    return regions


async def test_status_is_shown_again_and_again(system: System, person: Person) -> None:
    """Who watches sees the next generation without asking."""
    watching = await person.start("status", "--watch", "--every", "0.1", "--json")
    assert watching.stdout is not None
    first = json.loads(await asyncio.wait_for(watching.stdout.readline(), 30))
    await asyncio.to_thread(system.upload, b"id\n1\n", "watched.csv")
    async with asyncio.timeout(30):
        while True:
            then = json.loads(await watching.stdout.readline())
            if then["primary"]["generation"] > first["primary"]["generation"]:
                break
    watching.terminate()
    await watching.communicate()
