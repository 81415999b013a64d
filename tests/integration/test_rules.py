"""The rules for Prometheus, as its own tool reads and tests them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RUNBOOKS = ROOT / "docs" / "howto" / "runbooks"
RULES = sorted((FOLDER / "rules").iterdir())
TESTS = sorted((FOLDER / "tests").iterdir())
LINK = "{{{{ $externalLabels.docs }}}}/howto/runbooks/{name}.html"
CONFIGURATIONS = sorted(FOLDER.glob("prometheus.*.yml"))


def promtool(*arguments: str | Path) -> None:
    """Have Prometheus's tool look at something, and find no fault."""
    done = subprocess.run(
        ["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> list[dict[str, Any]]:
    """Read all alerts."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_configuration_is_one_for_prometheus(path: Path) -> None:
    """Prometheus would start with it, and finds the rules beside it."""
    promtool("check", "config", path)
    configuration = yaml.safe_load(path.read_text())
    jobs = {each["job_name"] for each in configuration["scrape_configs"]}
    assert jobs == {"headrace-ingest", "headrace-reader"}
    assert configuration["global"]["external_labels"]["docs"].startswith("https://")


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_rules_are_sound(path: Path) -> None:
    """Their queries and texts can be read."""
    promtool("check", "rules", "--lint=all", "--lint-fatal", path)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_for_their_faults_alone(path: Path) -> None:
    """Each fires when what it is for is seen, and not before, nor for what is only like it."""
    promtool("test", "rules", path)


def test_every_alert_is_tested_and_has_its_page() -> None:
    """What to do stands in a page of the alert's name, and nobody is called without one."""
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    tested = set(re.findall(r'alertname="(\w+)"', "".join(path.read_text() for path in TESTS)))
    assert tested == set(names)
    assert {path.stem for path in RUNBOOKS.iterdir()} == set(names)
    listed = (RUNBOOKS.parent / "watch-it-run.md").read_text()
    for rule in alerts():
        name, severity = rule["alert"], rule["labels"]["severity"]
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == LINK.format(name=name)
        assert f"| [`{name}`](runbooks/{name}.md) | {severity} |" in listed


@pytest.mark.parametrize("path", sorted(RUNBOOKS.iterdir()), ids=lambda path: path.stem)
def test_runbook_tells_where_to_look_and_what_to_do(path: Path) -> None:
    """Each has all its parts, and leads to pages and metrics that there are."""
    text = path.read_text()
    parts = ("**People notice**:", "## Look\n\n- ", "## Do\n\n1. ", "**It is over** when ")
    places = [text.index(part) for part in (f"# {path.stem}\n", *parts)]
    assert places == sorted(places)
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (path.parent / link).is_file(), link
    reference = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    for name in re.findall(r"`((?:headrace|litestream)_\w+)", text):
        assert f"`{name}`" in reference, name
