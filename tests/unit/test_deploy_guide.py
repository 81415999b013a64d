"""What the guide to Fly has people type, and what it says that it costs."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from headrace import cli
from tests.unit.flyctl_commands import FLAGS

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "howto" / "deploy-on-fly.md"
FLY = ROOT / "deploy" / "fly.toml"


def commands() -> list[str]:
    """Give each line of its blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize(
    "line", [each for each in commands() if each.startswith(("fly ", "tigris "))]
)
def test_command_of_the_guide_is_there_with_its_flags(line: str) -> None:
    """Nobody who follows the guide is told that there is no such command, or flag."""
    words = shlex.split(line)
    known = [name for name in FLAGS if line.startswith(f"{name} ") or line == name]
    assert known
    flags = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert flags <= FLAGS[max(known, key=len)]


@pytest.mark.parametrize("line", [each for each in commands() if each.startswith("headrace ")])
def test_own_command_of_the_guide_is_there_with_its_flags(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the guide has Headrace do is parsed as it stands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cities.csv").touch()
    words = shlex.split(line)
    cli.main.commands[words[1]].make_context(words[1], words[2:])


def test_app_is_renamed_as_the_guide_says(tmp_path: Path) -> None:
    """One line of the guide puts another name in every place that has it."""
    (rename,) = [each for each in commands() if each.startswith("sed ")]
    folder = tmp_path / "deploy"
    folder.mkdir()
    (folder / "fly.toml").write_text(FLY.read_text())

    subprocess.run(shlex.split(rename), cwd=tmp_path, check=True)

    fly = tomllib.loads((folder / "fly.toml").read_text())
    assert fly["app"] == "acme-data"
    assert "//ingest.process.acme-data.internal:" in fly["processes"]["serve"]


def test_guide_takes_volumes_and_groups_by_their_names() -> None:
    """Volumes are made of the names that are mounted, and groups scaled that there are."""
    fly = tomllib.loads(FLY.read_text())
    made = {shlex.split(each)[3] for each in commands() if "volumes create" in each}
    assert made == {mount["source"] for mount in fly["mounts"]}
    scaled = {
        shlex.split(each)[3].partition("=")[0] for each in commands() if "scale count" in each
    }
    assert scaled == set(fly["processes"])


def test_what_it_costs_is_added_up_right() -> None:
    """Each line of the table is its amount times its price, and the last one their sum."""
    rows = re.findall(
        r"^\| .* \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", GUIDE.read_text(), re.MULTILINE
    )
    (total,) = re.findall(
        r"^\| \*\*all of it.* \*\*([\d.]+)\*\* \|$", GUIDE.read_text(), re.MULTILINE
    )
    assert len(rows) > 10
    for count, each, dollars in rows:
        assert float(dollars) == pytest.approx(float(count) * float(each), abs=0.006)
    assert sum(float(dollars) for *_rest, dollars in rows) == pytest.approx(float(total), abs=0.001)
