"""What is deployed fits what it runs, and where."""

from __future__ import annotations

import copy
import shlex
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest

from headrace import cli
from headrace.config import IngestSettings, ServeSettings, load_settings
from headrace.stopping import SLACK_S
from tests.unit.fly_rules import GROUPED, RULES, Fly, Rule, mebibytes, of_group, seconds, tables

DEPLOY = Path(__file__).parents[2] / "deploy"
MIB = 1024**2
READER_MIB = 192  # the edge and the nursery of a reader, without its cache and its workers


@pytest.fixture
def fly() -> Fly:
    """Give what fly.toml says."""
    return tomllib.loads((DEPLOY / "fly.toml").read_text())


@pytest.fixture
def settings(fly: Fly, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give the settings of each process group, as its command reads them on a machine."""
    for name, value in fly["env"].items():
        monkeypatch.setenv(name, value)
    return {
        "ingest": read_command(IngestSettings, fly["processes"]["ingest"]),
        "serve": read_command(ServeSettings, fly["processes"]["serve"]),
    }


def read_command(kind: type[Any], line: str) -> Any:
    """Read a command as `headrace` does that is started with it; give its settings."""
    name, *flags = shlex.split(line)
    command = cli.main.commands[name]
    context = click.Context(command)
    command.parse_args(context, flags)
    return load_settings(kind, context.params)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.says)
def test_fly_takes_the_file(rule: Rule, fly: Fly) -> None:
    """The file keeps to each rule of Fly's; one that is broken does not."""
    assert list(rule.faults(fly)) == [], rule.source

    broken = copy.deepcopy(fly)
    rule.broken(broken)

    assert list(rule.faults(broken)) != []


@pytest.mark.parametrize("group", ["ingest", "serve"])
def test_machine_is_not_killed_before_a_stop_is_over(
    group: str, fly: Fly, settings: dict[str, Any]
) -> None:
    """The platform waits longer than a stop may take, and a check sees that a reader stops."""
    stopping = settings[group]
    assert fly["kill_signal"] in {"SIGTERM", "SIGINT"}
    assert seconds(fly["kill_timeout"]) >= stopping.shutdown_timeout + SLACK_S
    if isinstance(stopping, ServeSettings):
        (check,) = fly["http_service"]["checks"]
        assert check["path"] == "/-/readyz"
        looked_s = seconds(check["interval"]) + seconds(check["timeout"])
        assert looked_s <= stopping.shutdown_grace < stopping.shutdown_timeout


def test_readers_are_public_and_sleep_and_the_primary_is_neither(fly: Fly) -> None:
    """Nothing leads from outside to the primary, and nothing stops it; readers sleep and wake."""
    assert set(fly["processes"]) == {"ingest", "serve"}
    service = fly["http_service"]
    assert service["processes"] == ["serve"]
    assert "services" not in fly
    assert (service["auto_stop_machines"], service["auto_start_machines"]) == ("suspend", True)
    (restart,) = of_group(fly, "restart", "ingest")
    assert restart["policy"] == "always"


def test_every_group_has_its_own_of_what_fly_gives_the_first_alone(fly: Fly) -> None:
    """A volume, a machine, metrics and a check are there for either group."""
    for group in fly["processes"]:
        for name in ("mounts", "vm", "metrics"):
            assert len(of_group(fly, name, group)) == 1, (name, group)
    names = [mount["source"] for mount in tables(fly, "mounts")]
    assert sorted(names) == ["primary", "slots"]
    assert {name for name in GROUPED if name in fly} == {"mounts", "vm", "metrics", "restart"}


def test_fly_asks_where_the_commands_listen(fly: Fly, settings: dict[str, Any]) -> None:
    """Ports, paths and the primary's name are those of the commands; both families are listened on.

    A standby has only its metrics port open, so that is where its check looks.
    """
    ingest, serve = settings["ingest"], settings["serve"]
    assert ingest.host == serve.host == "::"
    assert fly["http_service"]["internal_port"] == serve.port
    (own,) = fly["checks"].values()
    assert own["processes"] == ["ingest"]
    assert (own["port"], own["path"]) == (ingest.metrics_port, "/-/healthz")
    shown = {each["processes"][0]: each["port"] for each in fly["metrics"]}
    assert shown == {"ingest": ingest.metrics_port, "serve": serve.metrics_port}
    assert {each["path"] for each in fly["metrics"]} == {"/metrics"}
    primary = urlsplit(serve.primary)
    assert primary.hostname == f"ingest.process.{fly['app']}.internal"
    assert primary.port == ingest.port
    assert ingest.standby


def test_what_runs_fits_the_machine(fly: Fly, settings: dict[str, Any]) -> None:
    """No limit is beyond the machine's memory, and Fly sends on before a reader sheds."""
    (machine,) = of_group(fly, "vm", "serve")
    serve = settings["serve"]
    workers_mib = serve.workers * serve.worker_memory / MIB
    assert serve.cache_size / MIB + workers_mib + READER_MIB <= mebibytes(machine["memory"])
    room = serve.workers * serve.worker_concurrency + serve.queue_length
    assert fly["http_service"]["concurrency"]["hard_limit"] <= room
    (machine,) = of_group(fly, "vm", "ingest")
    assert settings["ingest"].convert_memory / MIB <= mebibytes(machine["memory"]) / 2


def test_the_image_is_built_from_the_repository(fly: Fly) -> None:
    """Fly takes the Dockerfile by its path from the file on."""
    assert (DEPLOY / fly["build"]["dockerfile"]).resolve() == DEPLOY.parent / "Dockerfile"
