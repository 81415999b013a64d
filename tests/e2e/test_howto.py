"""The how-to guides, run word by word."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.guide_kit import HOWTO, run

if TYPE_CHECKING:
    from pathlib import Path

UP = """
headrace up --readers 1 --workers 1 > up.log 2> up.err & HEADRACE_PID=$!
until grep -q ready: up.log; do kill -0 $HEADRACE_PID; sleep 0.1; done
"""
DOWN = """
kill $HEADRACE_PID && wait $HEADRACE_PID
"""


def test_guide_to_give_tokens_works(tmp_path: Path) -> None:
    """Who follows the guide has a token that writes to one database, until it is revoked."""
    output = run("give-tokens.md", tmp_path, before=UP, after=DOWN)
    lines = output.splitlines()
    assert '"state": "published"' in lines
    shown = (HOWTO / "give-tokens.md").read_text()
    assert "the token was revoked" in lines
    log = shown.partition("```text\nname,")[2].partition("```")[0].split()
    assert set(log[1:]) == set(lines[-len(log) + 1 :])  # what was refused is written a little later


def test_guides_to_roll_back_and_to_describe_a_database_work_on_a_used_system(
    tmp_path: Path,
) -> None:
    """Who follows the guides has the old rows, and a title and a query as they are printed there.

    Other tables and generations are there before: no number in a guide may be that of an empty one.
    """
    used = """
    curl -sf -H "Authorization: Bearer $(cat data/token)" \\
      --data-binary $'city,mayor\\nBern,Alec\\n' 'http://127.0.0.1:8000/ingest?filename=mayors.csv'
    """
    output = run("roll-back.md describe-a-database.md", tmp_path, before=UP + used, after=DOWN)
    assert "Bern|133000\n" in output
    assert "generation 4 holds what 2 held" in output
    assert "0 objects, 0 bytes would be deleted" in output
    assert "generation 8 holds what 6 held" in output
    assert not list(tmp_path.rglob("described/mayors.db"))
    assert "metadata: title\n" in output  # what `headrace diff` says
    said = json.loads((tmp_path / "described" / "metadata.json").read_text())
    assert said["databases"]["cities"]["title"] == "Cities of Switzerland"


def test_guide_to_fetch_from_a_url_works(tmp_path: Path) -> None:
    """Who follows the guide has the file of the web, and a schedule that notices what is new."""
    before = "export HEADRACE_FETCH=http://127.0.0.1:8103\n" + UP
    output = run("fetch-from-a-url.md", tmp_path, before=before, after=DOWN)
    assert '"source_url": "http://127.0.0.1:' in output
    runs = re.findall(r"^receipt [0-9a-f]{32}: (\w+)$", output, re.MULTILINE)
    assert runs == ["published", "unchanged"]
    assert "0 6 * * *  Europe/Zurich" in output


def test_guide_to_write_rows_works(tmp_path: Path) -> None:
    """Who follows the guide reads the rows that are left, changed as he asked for."""
    output = run("write-rows.md", tmp_path, before=UP, after=DOWN)
    assert '{"ok": true, "rows": [{"id": 1, "name": "Cleo", "age": 6}]}' in output
    rows = json.loads(output[output.rindex("[{") :])
    assert [(row["name"], row["breed"]) for row in rows] == [("Cleo", None), ("Pancakes", "Husky")]


def test_guide_to_use_the_api_works(tmp_path: Path) -> None:
    """Who follows the guide sees what it shows."""
    run("use-the-api.md", tmp_path, before=UP, after=DOWN)


def test_guide_to_shape_tables_works(tmp_path: Path) -> None:
    """Who follows the guide sees what it shows, also of what is refused."""
    run("shape-tables.md", tmp_path, before=UP, after=DOWN)


def test_guide_to_reprocess_an_upload_works(tmp_path: Path) -> None:
    """Who follows the guide has the rows of a file that was refused."""
    output = run("reprocess-an-upload.md", tmp_path, before=UP, after=DOWN)
    assert ": published in generation 1: /cities" in output
    assert '"city": "Bern"' in output.splitlines()[-1]


def test_guide_to_drop_files_works(tmp_path: Path) -> None:
    """Who follows the guide reads the rows that were dropped, and why a file was not taken."""
    before = f"export HEADRACE_INCOMING_INTERVAL=0.2\n{UP}"
    output = run("drop-files-into-a-bucket.md", tmp_path, before=before, after=DOWN)
    assert '[{"rowid": 1, "city": "Bern", "people": 133000}]' in output
    assert '"city": "Basel", "people": 177000' in output
    assert "line 2 has 1 value where the header has 2" in output
    assert "/ingest/events?key=" in output


def test_guide_to_check_a_deployment_works(tmp_path: Path) -> None:
    """Who follows the guide sees what a node will need, and what would be in force."""
    (tmp_path / "data" / "store").mkdir(parents=True)
    run("check-a-deployment.md", tmp_path)


def test_guides_to_resume_and_to_watch_an_upload_work(tmp_path: Path) -> None:
    """Who follows the guides has the rows by curl and by tuspy, and sees the upload go live."""
    output = run("resume-an-upload.md watch-an-upload.md", tmp_path, before=UP, after=DOWN)
    assert "offset 20\n" in output
    assert '"city": "Basel", "people": 173000}]' in output
    assert "receipt 0" in output
    assert "event: live\n" in output
    assert output.splitlines()[-1].startswith('live in {"a": "')


def test_guide_to_recover_from_a_lost_volume_works(tmp_path: Path, store: str) -> None:
    """Who follows the guide has the rows of before, and appends to them."""
    output = run("recover-from-a-lost-volume.md", tmp_path, before=UP, after=DOWN, store=store)
    rows = json.loads(output.splitlines()[-1])
    assert [row["city"] for row in rows] == ["Bern", "Basel"]


def test_guide_to_move_the_primary_works(tmp_path: Path, store: str) -> None:
    """Who follows the guide has all rows on the new primary."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "token").write_text("of-tests")
    output = run("move-the-primary.md", tmp_path, store=store)
    assert '"unchanged": 1' in output.splitlines()[-1]


def test_guides_to_push_files_and_to_watch_a_folder_work(tmp_path: Path) -> None:
    """Who follows the guides has the rows of all files, knows what failed, and mirrors a folder."""
    home = "export XDG_STATE_HOME=$PWD/state XDG_CONFIG_HOME=$PWD/config\n"
    home += "export PYTHON_KEYRING_BACKEND=keyring.backends.fail.Keyring\n"
    output = run("push-files.md watch-a-folder.md", tmp_path, before=home + UP, after=DOWN)
    assert "cities.csv: 2 rows in generation 1: " in output
    assert "more-2.csv: 1 row in generation " in output
    assert output.count('"state": "published"') == 1
    assert ("exit code 1\n" in output, "exit code 4\n" in output) == (True, True)
    assert "/statistics/cities\n" in output
    assert "statistics/cities.csv is gone: statistics is deleted\n" in output


def test_guide_to_watch_the_regions_works(tmp_path: Path) -> None:
    """Who follows the guide sees the stream of events as it is printed there."""
    run("watch-the-regions.md", tmp_path, before=UP, after=DOWN)
