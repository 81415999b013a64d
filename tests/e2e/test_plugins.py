"""Formats that come from outside: a plugin that is installed, and programs of `headrace.toml`."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.e2e.conftest import running
from tests.guide_kit import DOCS, ROOT, blocks_of, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import System

REFERENCE = DOCS / "reference"
PAGE = REFERENCE / "plugins.md"
FILES = ROOT / "tests" / "data" / "dbf"
LOG = b"""\
192.0.2.1 - - [23/Nov/2026:04:00:00 +0000] "GET / HTTP/1.1" 200 1043
192.0.2.2 - eve [23/Nov/2026:04:00:01 +0000] "GET /x HTTP/1.1" 304 -
"""
HEALTH = b"""\
<?xml version="1.0" encoding="UTF-8"?>
<HealthData locale="en_GB">
 <Record type="HKQuantityTypeIdentifierStepCount" unit="count" startDate="2026-01-01" value="812"/>
 <Record type="HKQuantityTypeIdentifierHeartRate" unit="bpm" startDate="2026-01-02" value="61"/>
</HealthData>
"""


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the plugin of the reference as its reader would, and beside it a broken one."""
    source = tmp_path_factory.mktemp("source")
    text = PAGE.read_text()
    for name in ("pyproject.toml", "headrace_access_log.py"):
        block = re.search(rf"(?ms)^`{re.escape(name)}`:\n\n```\w+\n(.*?)^```", text)
        assert block is not None
        (source / name).write_text(block[1])
    installed = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    alone = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, *alone, "--target", str(installed), str(source)], check=True)
    (installed / "broken_plugin.py").write_text("raise RuntimeError('on import')\n")
    described = installed / "broken_plugin-1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1\n")
    (described / "entry_points.txt").write_text("[headrace]\nbroken = broken_plugin\n")
    return installed


@pytest.fixture(scope="module")
def extended(plugins: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Run a system with the plugins and two programs."""
    data = tmp_path_factory.mktemp("extended") / "data"
    data.mkdir(mode=0o700)
    [programs] = [each.text for each in blocks_of(PAGE) if each.text.startswith("[converters.")]
    (data / "headrace.toml").write_text(programs)
    with running(data, "--workers", "1", PYTHONPATH=f"{ROOT}:{plugins}") as system:
        yield system


def test_added_formats_are_listed(extended: System) -> None:
    """Plugins and programs are among what can be sent, and a broken one stops nobody."""
    formats = extended.client.get("/ingest", headers={"Accept": "application/json"}).json()
    assert {"csv", "access-log", "dbf", "healthkit"} <= set(formats["formats"])
    metrics = httpx.get(f"http://127.0.0.1:{extended.port + 200}/metrics").text
    assert 'headrace_ingest_plugin_failures_total{plugin="broken"} 1.0' in metrics


def test_file_of_plugin_is_read_over_datasette(extended: System) -> None:
    """The example of the reference, installed as a package, brings its format in."""
    receipt = extended.upload(LOG, "web.txt", database="web", table="hits")
    assert receipt["format"] == "access-log"
    extended.wait_until_live(receipt)
    assert extended.rows("/web/hits") == [
        {
            "rowid": 1, "address": "192.0.2.1", "time": "23/Nov/2026:04:00:00 +0000",
            "request": "GET / HTTP/1.1", "status": 200, "bytes": 1043,
        },
        {
            "rowid": 2, "address": "192.0.2.2", "time": "23/Nov/2026:04:00:01 +0000",
            "request": "GET /x HTTP/1.1", "status": 304, "bytes": None,
        },
    ]  # fmt: skip


def test_upload_of_the_reference_works(plugins: Path, tmp_path: Path) -> None:
    """Who installs the example and sends a log as the reference says has a receipt for it."""
    (tmp_path / "access.log").write_bytes(LOG)
    path = f"export PYTHONPATH={ROOT}:{plugins} HEADRACE_WORKERS=1\n"
    up = "headrace up > up.log 2> up.err & until grep -q ready: up.log; do sleep 0.1; done\n"
    before = f"{path}{up}export TOKEN=$(cat data/token)"
    output = run("plugins.md", tmp_path, of=REFERENCE, before=before)
    assert '"state": "published"' in output
    assert '"format": "access-log"' in output


def test_file_that_plugin_refuses_changes_nothing(extended: System) -> None:
    """A plugin's refusal reaches the client with its line."""
    response = extended.post(LOG + b"nonsense\n", "access.log", database="refused")
    assert response.status_code == 422
    assert (response.json()["code"], response.json()["line"]) == ("invalid-file", 3)
    assert "refused" not in extended.client.get("/ingest").json()["databases"]


def test_dbf_file_comes_in_by_dbf_to_sqlite(extended: System) -> None:
    """A real dBase file is converted by a tool from PyPI that nobody wrote code for."""
    receipt = extended.upload((FILES / "blocks.dbf").read_bytes(), "Blocks 2000.dbf")
    assert receipt["format"] == "dbf"
    [table] = receipt["tables"]
    assert (table["name"], table["rows"]) == ("Blocks 2000", 663)
    extended.wait_until_live(receipt)
    rows = extended.rows(receipt["url"])
    assert rows[0] == {"rowid": 1, "bkg_key": "060750179029", "medianrent": 647}


def test_added_formats_are_found_within_archives(extended: System) -> None:
    """A plugin and a program convert what lies in a zip file as if it had been sent alone."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(FILES / "blocks.dbf", "blocks.dbf")
        archive.writestr("access.log", LOG)
    receipt = extended.upload(packed.getvalue(), "both.zip")
    assert {table["name"]: table["rows"] for table in receipt["tables"]} == {
        "blocks": 663,
        "access": 2,
    }


def test_health_export_comes_in_by_healthkit_to_sqlite(extended: System) -> None:
    """A second tool, that makes several tables; sent again, they are merged as any others."""
    receipt = extended.upload(HEALTH, "export.xml", database="health")
    assert receipt["format"] == "healthkit"
    assert {table["name"] for table in receipt["tables"]} == {"rHeartRate", "rStepCount"}
    again = extended.upload(HEALTH.replace(b"812", b"900"), "export.xml", database="health")
    assert again["lineage"] == receipt["lineage"]
    extended.wait_until_live(again)
    assert [row["value"] for row in extended.rows("/health/rStepCount")] == ["900"]


def test_dbf_file_that_the_tool_cannot_read_is_refused_with_its_words(extended: System) -> None:
    """A tool that fails is quoted, and nothing of the file is kept."""
    response = extended.post((FILES / "latin1.dbf").read_bytes(), "latin1.dbf")
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "converter-failed")
    assert problem["stderr"][-1].startswith("UnicodeDecodeError: 'ascii' codec")
    assert "latin1" not in extended.client.get("/ingest").json()["databases"]


def test_program_that_is_not_there_is_told_at_start(tmp_path: Path) -> None:
    """A primary whose configuration cannot work does not start, and says what to change."""
    config = tmp_path / "my.toml"
    config.write_text('[converters.x]\nmatch = "*.x"\ncommand = "no-such-tool {input} {output}"\n')
    command = [sys.executable, "-m", "headrace", "ingest"]
    command += ["--config", str(config), "--data", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.strip() == (
        "headrace: cannot use [converters.x] command: find no program 'no-such-tool'"
    )
