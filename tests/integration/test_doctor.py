"""`headrace config` and `headrace doctor`, as commands, on real stores."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headrace import doctor
from headrace.config import IngestSettings, UpSettings, load_settings, store_url
from headrace.lock import volume_lock
from tests.e2e.test_clock_jumps import FAKETIME
from tests.integration.fault_proxy import FaultProxy, creating_twice

if TYPE_CHECKING:
    from tests.integration.s3_kit import S3

Ask = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Give a function that asks the doctor, in an empty folder: its exit code, and its findings."""

    def run(*arguments: str, **variables: str) -> tuple[int, dict[str, dict[str, Any]]]:
        done = subprocess.run(
            [sys.executable, "-m", "headrace", "doctor", *arguments, "--json"],
            cwd=tmp_path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout, done.stderr
        return done.returncode, {each["what"]: each for each in json.loads(done.stdout)}

    return run


def test_doctor_finds_a_machine_and_its_store_well(ask: Ask, store: str) -> None:
    """All that a store is asked is tried, and nothing is left in it."""
    if "://" not in store:
        Path(store).mkdir()
    code, found = ask("ingest", "--store", store, "--port", "0", "--metrics-port", "0")
    assert code == 0, found
    assert {each["verdict"] for each in found.values()} == {"ok"}
    assert found.keys() >= {"versions", "litestream", "data", "store", "clock", "ports"}
    assert "put-if-absent" in found["store"]["said"]
    if "://" not in store:
        assert [path for path in Path(store).rglob("*") if path.is_file()] == []


def test_doctor_makes_nothing_where_nothing_is_yet(ask: Ask, tmp_path: Path) -> None:
    """To be looked at changes nothing."""
    code, found = ask("up", "--port", "1024")
    assert code == 0, found
    assert list(tmp_path.iterdir()) == []


def test_doctor_notices_settings_that_are_not_read(ask: Ask, tmp_path: Path) -> None:
    """A file of settings in the folder that one is in, and not in the data folder, says nothing."""
    (tmp_path / "headrace.toml").write_text("port = 1024\n")
    code, found = ask("serve", "--store", "store", "--port", "0", "--metrics-port", "0")
    assert code == 0, found
    assert found["config"]["verdict"] == "note"
    assert "data/headrace.toml" in found["config"]["said"]
    _code, found = ask("serve", "--store", "store", "--config", "headrace.toml")
    assert "config" not in found


def test_doctor_says_which_right_is_missing(ask: Ask, s3: S3) -> None:
    """Credentials that the store does not know are found, are not shown, and advice is given."""
    store = s3.url(s3.make_bucket())
    code, found = ask(
        *("ingest", "--store", store, "--port", "0", "--metrics-port", "0"),
        AWS_ACCESS_KEY_ID="nobody",
        AWS_SECRET_ACCESS_KEY="very-secret-key",  # noqa: S106 - of nobody
    )
    assert code == 1
    assert found["store"]["verdict"] == "bad"
    assert "AWS_" in found["store"]["advice"]
    assert "very-secret-key" not in str(found)


async def test_doctor_refuses_a_store_without_conditional_writes(ask: Ask, s3: S3) -> None:
    """Two primaries could both publish in it: it is said before the first of them is started."""
    proxy = FaultProxy(s3.port)
    async with proxy.listening() as port:
        store = s3.url(s3.make_bucket(), port=port)
        asked = ("ingest", "--store", store, "--port", "0", "--metrics-port", "0")
        with proxy.broken("", creating_twice):
            code, found = await asyncio.to_thread(ask, *asked, **s3.credentials)
    assert (code, found["store"]["verdict"]) == (1, "bad")
    assert "If-None-Match" in found["store"]["advice"]


async def test_doctor_refuses_a_disk_a_litestream_and_a_python_that_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uploads would be refused, and files written that nobody reads; a Python is only noted."""
    litestream = tmp_path / "bin" / "litestream"  # it is taken from beside Python
    litestream.parent.mkdir()
    litestream.write_text("#!/bin/sh\necho 0.3.13\n")
    litestream.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(litestream.with_name("python")))
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    said = {"data": tmp_path, "disk_reserve": "1000000GB", "port": "0", "metrics_port": "0"}
    examined = await doctor.examine(load_settings(IngestSettings, said), lambda _settings: [])
    found = {each.what: each for each in examined}
    verdicts = {what: each.verdict for what, each in found.items() if each.verdict != "ok"}
    assert verdicts == {"versions": "note", "litestream": "bad", "data": "bad"}
    assert "--disk-reserve" in (found["data"].advice or "")
    assert "0.5" in (found["litestream"].advice or "")
    assert "3.13" in (found["versions"].advice or "")


def test_doctor_notices_a_clock_that_is_off(
    ask: Ask, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's clock is what this machine's is compared with."""
    s3.give_credentials(monkeypatch)
    _code, found = ask(
        *("ingest", "--store", s3.url(s3.make_bucket()), "--port", "0", "--metrics-port", "0"),
        LD_PRELOAD=str(FAKETIME),
        FAKETIME="+90s",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    assert found["clock"]["verdict"] == "note", found
    assert "-9" in found["clock"]["said"] or "-8" in found["clock"]["said"]


async def test_doctor_takes_a_port_for_its_own_where_a_node_runs(ask: Ask, tmp_path: Path) -> None:
    """A node is looked at while it runs as well: its ports are taken then, as they should be."""
    async with volume_lock(tmp_path / "data" / "lock"):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            code, found = ask("ingest", "--port", str(port), "--metrics-port", "0")
    assert (code, found["ports"]["verdict"]) == (0, "note"), found


def test_doctor_names_each_thing_that_is_wrong(ask: Ask, tmp_path: Path) -> None:
    """A token that others can read, a port that is taken, plugins that do not load."""
    plugins = tmp_path / "config" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "broken.py").write_text("import no_such_module")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "token").write_text("very-secret-token")
    (tmp_path / "data" / "token").chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, found = ask(
            *("serve", "--port", str(port), "--metrics-port", "0"),
            *("--primary", "http://127.0.0.1:1", "--datasette-dir", "config"),
        )
    assert code == 1
    assert found["data"]["advice"] == f"chmod 600 {tmp_path}/data/token"
    assert str(port) in found["ports"]["said"]
    assert found["ports"]["verdict"] == "bad"
    assert found["primary"]["verdict"] == "note"
    assert found["datasette"]["verdict"] == "bad"
    assert "no_such_module" in found["datasette"]["said"]
    assert "very-secret-token" not in str(found)


def test_config_says_where_each_setting_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest wins; secrets are hidden, and what is in force is what a node would load."""
    file = tmp_path / "headrace.toml"
    file.write_text("workers = 3\nmax_upload = '2 GB'\nport = 7000\n")
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("HEADRACE_PORT", "7100")
    monkeypatch.setenv("HEADRACE_TOKEN", "very-secret-token")
    command = [sys.executable, "-m", "headrace", "config", "up", "--config", "headrace.toml"]
    done = subprocess.run(
        [*command, "--readers", "2"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    rows = {row[0]: row[1:] for row in (line.split() for line in done.stdout.splitlines())}
    assert rows["setting"] == ["value", "from"]
    assert rows["workers"] == ["3", "headrace.toml"]
    assert rows["max_upload"] == ["2000000000", "headrace.toml"]
    assert rows["port"] == ["7100", "HEADRACE_PORT"]
    assert rows["readers"] == ["2", "--readers"]
    assert rows["token"] == ["(hidden)", "HEADRACE_TOKEN"]
    assert rows["queue_length"] == ["256", "default"]
    assert "very-secret-token" not in done.stdout
    monkeypatch.chdir(tmp_path)
    assert rows["store"] == [f"file://{store_url(load_settings(UpSettings, {}))}", "default"]
