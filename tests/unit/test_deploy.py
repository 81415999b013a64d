"""What is deployed fits what it runs."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

import click
import pytest

from headrace import cli
from headrace.config import IngestSettings, ServeSettings, load_settings
from headrace.stopping import SLACK_S

FLY = Path(__file__).parents[2] / "deploy" / "fly.toml"


@pytest.mark.parametrize(
    ("process", "kind"), [("ingest", IngestSettings), ("serve", ServeSettings)]
)
def test_machine_is_not_killed_before_a_stop_is_over(
    process: str, kind: type[IngestSettings | ServeSettings]
) -> None:
    """The platform waits longer than a stop may take, and a check sees that a reader stops."""
    fly = tomllib.loads(FLY.read_text())
    name, *flags = shlex.split(fly["processes"][process])
    command = cli.main.commands[name]
    context = click.Context(command)
    command.parse_args(context, flags)
    settings = load_settings(kind, context.params)
    assert fly["kill_signal"] in {"SIGTERM", "SIGINT"}
    assert fly["kill_timeout"] >= settings.shutdown_timeout + SLACK_S
    if isinstance(settings, ServeSettings):
        (check,) = fly["http_service"]["checks"]
        assert check["path"] == "/-/readyz"
        looked_s = sum(float(check[each].removesuffix("s")) for each in ("interval", "timeout"))
        assert looked_s <= settings.shutdown_grace < settings.shutdown_timeout
