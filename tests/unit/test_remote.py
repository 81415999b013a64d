"""What the commands decide without a server."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from headrace.cli import main
from headrace.errors import RefusedError, RemoteError, UnreachableError
from headrace.exits import Exit
from headrace.options import FIELDS
from headrace.receipt import NOTHING_CHANGED
from headrace.remote import credentials, wording
from headrace.remote.display import Screen
from headrace.remote.fields import HELP, OWN, read_fields
from headrace.remote.files import Item, find_items
from headrace.remote.folder import is_temporary
from headrace.remote.insisting import Insisting
from headrace.remote.remembered import Pushed, Remembered, watch_of
from headrace.remote.server import connected
from headrace.remote.sources import FileSource, StreamSource
from headrace.remote.status import Standing, render
from headrace.remote.unfinished import UnfinishedUploads, mark_of
from headrace.remote.urls import find_url

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://127.0.0.1:8000"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home of the test's own, and no token."""
    for name in ("HEADRACE_TOKEN", "HEADRACE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def push(*arguments: str) -> tuple[int, str]:
    """Run `headrace push` where nothing listens; give its exit code and what it says."""
    flags = ["--to", "http://127.0.0.1:1", "--retry-for", "0"]
    done = CliRunner().invoke(main, ["push", *flags, *arguments])
    return done.exit_code, done.output


def test_status_says_of_a_region_that_is_silent_for_how_long() -> None:
    """A region that is gone stands among the others: so nobody takes it for one that is well."""
    heard = {"generation": 1, "readers": 1, "seconds_behind": 0.0, "heard_s_ago": 8.0}
    silent = {**heard, "readers": 0, "seconds_behind": 40.0, "heard_s_ago": 45.2}
    primary: dict[str, Any] = {"epoch": 1, "lease_held": True, "litestream_up": True}
    primary |= {"generation": 2, "databases": {}, "in_flight": 0, "uploads": [], "receipts": []}
    primary["regions"] = {"fra": heard, "syd": silent}
    console = Console(file=io.StringIO(), width=100)
    console.print(render(Standing(url=URL, reader=None, primary=primary, why=None, end=Exit.DONE)))
    assert isinstance(console.file, io.StringIO)
    fra, syd = (line for line in console.file.getvalue().splitlines() if "region" in line)
    assert " ".join(fra.split()) == "region fra 1 0 s 1 reader, heard 8 s ago"
    assert " ".join(syd.split()) == "region syd 1 40.0 s silent for 45 s"


def test_every_option_of_an_upload_is_a_flag() -> None:
    """The command knows every field that the server does, but for those that are its own."""
    assert set(HELP) | OWN == FIELDS


def test_flags_become_the_fields_of_a_request() -> None:
    """What was not said is not sent; a flag is 1 or 0; --option carries what is not known yet."""
    flags = {"mode": "append", "header": False, "strict": True, "pk": None, "jobs": 4}
    fields = read_fields({**flags, "others": ("shape=round", "index=a=b")})
    assert fields == {
        "mode": "append",
        "header": "0",
        "strict": "1",
        "shape": "round",
        "index": "a=b",
    }


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["none.csv"], "cannot read none.csv: No such file"),
        (["*.csv"], "no file is named like '*.csv'"),
        (["folder"], "`headrace watch folder`"),
        (["-"], "give --filename, or --database"),
        (["a.txt", "b.txt", "--filename", "c.csv"], "--filename is for one file"),
        (["a.txt", "b.txt", "--table", "t"], "take each other's place"),
        (["a.txt", "--types", "id:word"], "a type is one of"),
        (["a.txt", "--database", "a b"], "'a_b' would be allowed"),
        (["a.txt", "--option", "mode"], "write NAME=VALUE"),
        (["a.txt", "--pk", "caf\udce9"], "what --pk says is not UTF-8"),
        (["a.txt", "--option", "filename=x"], "write NAME=VALUE"),
    ],
)
def test_command_that_cannot_work_ends_with_2_before_anything_is_sent(
    home: Path, arguments: list[str], why: str
) -> None:
    """Nobody has to find out which half of the files was sent."""
    (home / "folder").mkdir()
    (home / "a.txt").write_text("1")
    (home / "b.txt").write_text("1")
    code, said = push("a.txt", *arguments) if arguments[0] == "none.csv" else push(*arguments)
    assert code == 2
    assert why in " ".join(said.split())
    assert not (home / "state").exists()


def test_server_that_is_not_there_ends_with_3_and_a_line_for_each_file(home: Path) -> None:
    """A script reads of each file that it was not sent."""
    for name in ("a.csv", "b.csv"):
        (home / name).write_text("id\n1\n")
    done = CliRunner().invoke(
        main, ["push", "--to", "http://127.0.0.1:1", "--retry-for", "0", "--json", "a.csv", "b.csv"]
    )
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 3
    assert [each["path"] for each in documents] == ["a.csv", "b.csv"]
    assert {each["error"]["code"] for each in documents} == {"unreachable"}


def test_pattern_that_the_shell_left_is_expanded_once(home: Path) -> None:
    """Quoted patterns work as unquoted ones, and a file that two of them name is sent once."""
    for name in ("a.csv", "b.csv", "c.txt"):
        (home / name).write_text("1")
    (home / "d.csv").mkdir()
    items = find_items(["*.csv", "a.*", "c.txt"], None, {})
    assert [each.shown for each in items] == ["a.csv", "b.csv", "c.txt"]


def test_token_is_taken_from_the_nearest_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is named comes before the environment, that before what was kept, then data."""
    assert credentials.find_token(URL) is None
    (home / "data").mkdir()
    (home / "data" / "token").write_text("of-data\n")
    assert credentials.find_token(URL) == "of-data"
    credentials.keep(URL, "kept")
    assert credentials.find_token(f"{URL}/") == "kept"
    monkeypatch.setenv("HEADRACE_TOKEN", "of-environment")
    assert credentials.find_token(URL) == "of-environment"
    (home / "named").write_text("named\n")
    assert credentials.find_token(URL, home / "named") == "named"


def test_token_of_this_machine_is_sent_to_no_other(home: Path) -> None:
    """The folder that a command happens to run in gives nothing away."""
    (home / "data").mkdir()
    (home / "data" / "token").write_text("of-data")
    assert credentials.find_token("https://data.example.org") is None
    assert credentials.find_token("http://localhost:8000") == "of-data"


def test_token_in_a_file_is_nobody_elses_to_read(home: Path) -> None:
    """Where there is no keyring, a file of mode 0600 has it, for one server alone."""
    assert credentials.keep("https://a.example.org/", "one").endswith("tokens.json")
    credentials.keep("https://b.example.org", "other")
    path = home / "config" / "headrace" / "tokens.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert credentials.read_kept("https://A.example.org") == "one"
    assert credentials.forget("https://a.example.org")
    assert credentials.read_kept("https://a.example.org") is None
    assert credentials.read_kept("https://b.example.org") == "other"


def test_token_is_kept_in_the_keyring_where_there_is_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is only for machines without."""
    import keyring  # noqa: PLC0415 - with the environment of the test
    from keyrings.alt.file import PlaintextKeyring  # noqa: PLC0415

    before = keyring.get_keyring()
    ring = PlaintextKeyring()
    monkeypatch.setattr(type(ring), "priority", 1)  # as that of a desktop
    monkeypatch.setattr(type(ring), "file_path", str(home / "ring.cfg"))
    keyring.set_keyring(ring)
    try:
        assert credentials.keep(URL, "secret") == "the keyring"
        assert credentials.find_token(URL) == "secret"
        assert not (home / "config").exists()
        assert credentials.forget(URL)
        assert credentials.find_token(URL) is None
    finally:
        keyring.set_keyring(before)


def test_plain_file_of_a_keyring_is_not_taken_for_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told that a token is in the keyring which anybody who reads a backup can read."""
    import keyring  # noqa: PLC0415 - with the environment of the test
    from keyrings.alt.file import PlaintextKeyring  # noqa: PLC0415

    before = keyring.get_keyring()
    monkeypatch.setattr(PlaintextKeyring, "file_path", str(home / "ring.cfg"))
    keyring.set_keyring(PlaintextKeyring())
    try:
        assert credentials.keep(URL, "secret").endswith("tokens.json")
    finally:
        keyring.set_keyring(before)
    assert not (home / "ring.cfg").exists()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("localhost:8300", "did you mean http://localhost:8300?"),
        (":8399", "did you mean http://127.0.0.1:8399?"),
        ("data.example.org", "did you mean https://data.example.org?"),
        ("http://", "is no URL like http://127.0.0.1:8000"),
        ("ftp://data.example.org", "is no URL like"),
        ("http://data.example.org:port", "is no URL like"),
        ("http://data.example.org/?page=1", "is no URL like"),
        ("", "is no URL like"),
    ],
)
@pytest.mark.parametrize("command", [["push", "a.csv"], ["prune"]])
def test_url_that_is_none_ends_with_2_and_a_guess(
    home: Path, command: list[str], url: str, why: str
) -> None:
    """Nobody waits for a server that cannot be there."""
    (home / "a.csv").write_text("id\n1\n")
    done = CliRunner().invoke(main, [*command, "--to", url])
    assert (done.exit_code, why in " ".join(done.output.split())) == (2, True), done.output


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("http://127.0.0.1:8300\n", "http://127.0.0.1:8300"),
        ("https://evil.example.org\n", URL),
        ("localhost\n", URL),
    ],
)
def test_server_of_this_folder_is_asked_if_nobody_says_which(
    home: Path, written: str, found: str
) -> None:
    """`headrace up --port` needs no --to; a folder of somebody else's leads to no other machine."""
    assert find_url() == URL
    (home / "data").mkdir()
    (home / "data" / "url").write_text(written)
    assert find_url() == found


async def test_server_that_never_was_there_is_given_up_sooner() -> None:
    """A wrong port is said after seconds; a server that restarts is waited for."""
    insisting = Insisting(60, first_for_s=0)
    async with connected("http://127.0.0.1:1", None) as server:
        with pytest.raises(UnreachableError) as never:
            await server.ask("GET", "/")
    with pytest.raises(UnreachableError):
        await insisting.pause(never.value)
    async with asyncio.timeout(5):
        await insisting.pause(UnreachableError("it restarts"))


@pytest.mark.parametrize("command", [["prune"], ["token", "list"], ["rollback", "1"]])
def test_commands_of_an_operator_end_as_the_table_of_exit_codes_says(command: list[str]) -> None:
    """A script tells a server that is away from one that refuses."""
    done = CliRunner().invoke(main, [*command, "--to", "http://127.0.0.1:1"])
    assert done.exit_code == 3
    assert "cannot reach http://127.0.0.1:1: connection refused" in done.output
    assert "is it running" in done.output


def test_token_file_that_is_not_there_ends_with_2(home: Path) -> None:
    """It is the command that is wrong, not the server."""
    (home / "a.csv").write_text("id\n1\n")
    code, said = push("a.csv", "--token-file", "nope")
    assert code == 2
    assert "'nope' does not exist" in said
    assert "Errno" not in said


def test_token_that_cannot_be_one_is_neither_sent_nor_shown(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went wrong with a file of tokens shows nobody the tokens."""
    (home / "a.csv").write_text("id\n1\n")
    monkeypatch.setenv("HEADRACE_TOKEN", "secret\nother")
    code, said = push("a.csv")
    assert code == 4
    assert "no token" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    "command", [["generations"], ["diff", "1", "2"], ["restore", "1", "--to", "x"]]
)
def test_folder_without_a_store_ends_with_2_and_stays_without(
    home: Path, command: list[str]
) -> None:
    """An empty table would say that there are no generations."""
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    assert "there is no store in" in done.output
    assert not (home / "data").exists()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (0, "the same command begins anew"),
        (12_600_000, "interrupted at 12.6 MB: the same command goes on there"),
        (20_000_000, "the same command says what became of it"),
    ],
)
def test_interruption_says_what_the_same_command_would_do(home: Path, sent: int, said: str) -> None:
    """Who pressed Ctrl-C knows whether it was in vain."""
    path = home / "a.csv"
    item = Item(shown="a.csv", path=path, filename="a.csv", size=20_000_000, mtime_ns=0, fields={})
    assert said in wording.interruption(item, sent)


def test_bar_counts_what_is_sent_now_and_stays_full_at_the_end(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who goes on at 12 MB does not read 12 MB/s, and a file that was read looks like it."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    path, size = home / "a.csv", 20_000_000
    item = Item(shown="a.csv", path=path, filename="a.csv", size=size, mtime_ns=0, fields={})

    def shown() -> str:
        written.truncate(0)
        bars = screen._bars  # noqa: SLF001
        assert bars is not None
        bars._progress.refresh()  # noqa: SLF001 - it is drawn by a clock else
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue())

    with Screen(URL, as_json=False) as screen:
        screen.begun(item)
        screen.sent(item, 12_000_000)
        screen.sent(item, 12_000_001)
        assert "12.0 MB of 20.0 MB" in shown()
        assert "MB/s" not in shown()
        screen.step(item, "converting", {"step": "read", "bytes": 0, "of_bytes": size})
        assert "0 B of 20.0 MB" in shown()
        screen.step(item, "published", None)
        assert "20.0 MB of 20.0 MB published" in shown()


@pytest.mark.parametrize("command", [["push", "a.csv"], ["watch", "folder"]], ids=["push", "watch"])
@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"XDG_STATE_HOME": "/proc/none"}, "cannot use /proc/none/headrace/"),
        ({"XDG_STATE_HOME": "", "HOME": "~"}, "find no home folder"),  # nor does passwd(5) say one
    ],
    ids=["no folder", "no home"],
)
def test_state_folder_that_cannot_be_made_is_said_with_what_to_do(
    home: Path, command: list[str], env: dict[str, str], why: str
) -> None:
    """In a container nobody has a home: it is no traceback, and nothing is sent."""
    (home / "a.csv").write_text("id\n1\n")
    (home / "folder").mkdir()
    done = CliRunner().invoke(main, [*command, "--to", "http://127.0.0.1:1"], env=env)
    assert done.exit_code == 1
    assert why in done.output
    assert "set " in done.output
    assert "XDG_STATE_HOME" in done.output


def test_upload_that_was_begun_is_found_again_with_its_key(home: Path) -> None:
    """Whoever is killed goes on with the same key; another file or option is another upload."""
    path = home / "a.csv"
    mark = mark_of(URL, path, 5, 7, {"mode": "append"})
    begun = UnfinishedUploads().begin(mark, "a.csv")
    UnfinishedUploads().note(mark, "f" * 32)
    again = UnfinishedUploads().begin(mark, "a.csv")
    assert (again.key, again.upload) == (begun.key, "f" * 32)
    others = [
        mark_of("http://other", path, 5, 7, {"mode": "append"}),
        mark_of(URL, home / "b.csv", 5, 7, {"mode": "append"}),
        mark_of(URL, path, 6, 7, {"mode": "append"}),
        mark_of(URL, path, 5, 8, {"mode": "append"}),
        mark_of(URL, path, 5, 7, {}),
    ]
    assert len({mark, *others}) == 6
    UnfinishedUploads().end(mark)
    assert UnfinishedUploads().begin(mark, "a.csv").key != begun.key


async def test_file_that_changes_while_it_is_sent_is_not_sent_to_its_end(home: Path) -> None:
    """No mixture of two files is published."""
    path = home / "a.csv"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 1))
    source = FileSource(path, 5, 1)
    assert (await source.chunk_at(2)).length == 3
    path.write_bytes(b"67890")
    with pytest.raises(RemoteError, match="changed while it was sent"):
        await source.chunk_at(2)


@pytest.mark.parametrize("then", [None, b"another"])
async def test_file_that_goes_while_the_server_is_away_is_an_error_of_its_own(
    home: Path, then: bytes | None
) -> None:
    """A small file is read anew at each try: one that is gone, or another by then, is not sent."""
    path = home / "a.csv"
    path.write_bytes(b"12345")
    source = FileSource(path, 5, path.stat().st_mtime_ns)
    path.unlink()
    if then is not None:
        path.write_bytes(then)
    with pytest.raises(RemoteError) as raised:
        await anext(source.blocks(0, 5))
    assert raised.value.code == "changed"


async def test_stream_holds_what_the_server_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was lost on the way is sent again, and what arrived is let go of."""
    monkeypatch.setattr("headrace.remote.sources.HELD_BYTES", 4)
    source = StreamSource(io.BytesIO(b"0123456789"))

    async def read(offset: int) -> tuple[bytes, bool]:
        chunk = await source.chunk_at(offset)
        blocks = [block async for block in source.blocks(offset, chunk.length)]
        return b"".join(blocks), chunk.is_last

    assert await read(0) == (b"0123", False)
    assert await read(1) == (b"1234", False)
    assert await read(5) == (b"5678", False)
    assert await read(9) == (b"9", True)
    with pytest.raises(RefusedError, match="cannot be read again"):
        await read(3)


async def test_stream_that_cannot_be_read_is_said() -> None:
    """A disk that fails in the middle of a pipe's file is no traceback."""
    with (
        open("/proc/self/mem", "rb") as unreadable,  # noqa: PTH123, ASYNC230 - nothing waits
        pytest.raises(RemoteError, match="cannot read standard input: Input/output error"),
    ):
        await StreamSource(unreadable).chunk_at(0)


def test_watch_remembers_by_server_folder_and_options(home: Path) -> None:
    """The same folder with other options is pushed anew."""
    pushed = Pushed(size=1, mtime_ns=2, sha256="aa", database="d", tables=("t", "u"))
    watch = watch_of(URL, home, {})
    Remembered(watch).note("a.csv", pushed)
    assert Remembered(watch).read() == {"a.csv": pushed}
    assert Remembered(watch_of(URL, home, {"mode": "append"})).read() == {}
    Remembered(watch).forget("a.csv")
    assert Remembered(watch).read() == {}


@pytest.mark.parametrize(
    ("name", "temporary"),
    [
        (".a.csv", True),
        ("~$a.xlsx", True),
        ("a.csv~", True),
        ("a.csv.part", True),
        ("a.csv.PART", True),
        ("a.csv.tmp", True),
        ("a.csv.crdownload", True),
        ("a.db-wal", True),
        ("a.db-journal", True),
        (".a.csv.swp", True),
        ("a.csv", False),
        ("part.csv", False),
        ("a.db", False),
        ("tmp", False),
    ],
)
def test_names_that_programs_write_under_first_are_nobodys_business(
    name: str, temporary: bool
) -> None:
    """Half a download is not published."""
    assert is_temporary(name) is temporary


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"detail": "a quote is missing", "line": 3}, "line 3: a quote is missing"),
        (
            {"detail": "bad", "line": 3, "column": 4, "hint": "mend it"},
            "line 3, column 4: bad\n  mend it",
        ),
        ({"detail": "line 3 is bad", "line": 3}, "line 3 is bad"),
        (
            {"detail": "bad", "hint": "is it so? on_bad_rows=quarantine loads the other rows"},
            "bad\n  is it so? --on-bad-rows quarantine loads the other rows",
        ),
        (
            {"detail": "bad", "hint": "?pk=id, or say it with ?columns=, or by ?encoding=…"},
            "bad\n  --pk id, or say it with --columns, or by --encoding …",
        ),
    ],
)
def test_problem_is_said_with_its_place(document: dict[str, Any], said: str) -> None:
    """A person finds the line, and what can be done, in the words of the command."""
    assert wording.problem(document) == said


def test_file_that_changed_nothing_is_not_said_to_be_in_a_generation() -> None:
    """The newest generation shows it, but it is of somebody else's file."""
    tables = [{"rows": 1}, {"rows": 2}]
    receipt = {"state": "published", "tables": tables, "url": "/a", "generation": 42}
    said = wording.outcome({**receipt, "warnings": [NOTHING_CHANGED]}, URL)
    assert said == f"nothing changed, 3 rows in 2 tables: {URL}/a"
    assert wording.outcome({**receipt, "warnings": []}, URL).endswith(f"in generation 42: {URL}/a")


def test_names_cannot_write_on_a_terminal() -> None:
    """A file that is named as an escape sequence is shown as one."""
    assert wording.printable("a\x1b[2Jb\ud800.csv\n") == "a\ufffd[2Jb\ufffd.csv\n"


def test_fields_are_refused_with_the_servers_own_words() -> None:
    """What the server would say is said before the file is sent."""
    with pytest.raises(click.UsageError, match="mode is one of"):
        read_fields({"others": ("mode=sideways",)})
