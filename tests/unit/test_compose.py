"""deploy/compose.yml: its form, and that what it starts fits together."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from headrace.config import IngestSettings, ServeSettings
from headrace.stopping import SLACK_S
from tests.unit.compose_kit import COMPOSE, read_compose
from tests.unit.fly_rules import seconds
from tests.unit.test_deploy import read_command

if TYPE_CHECKING:
    from pathlib import Path

READERS = ("serve-a", "serve-b", "serve-c")
# What deploy/prometheus/prometheus.compose.yml scrapes: names of the network, and ports.
SCRAPED = {"ingest": 8200, "serve": 8201}


@pytest.fixture
def services() -> dict[str, Any]:
    """Give the services, as compose reads them."""
    services: dict[str, Any] = read_compose()["services"]
    return services


def settings_of(service: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the settings that a service of Headrace runs with."""
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, value)
    kind = ServeSettings if service["command"].startswith("serve") else IngestSettings
    return read_command(kind, service["command"])


def test_file_is_one_of_the_compose_specification(tmp_path: Path) -> None:
    """The specification's own schema, as check-jsonschema brings it along, takes the file."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    assert subprocess.run([*check, COMPOSE], check=False, capture_output=True).returncode == 0

    broken = tmp_path / "compose.yml"
    broken.write_text(COMPOSE.read_text().replace("stop_grace_period", "stop_timeout"))

    assert subprocess.run([*check, broken], check=False, capture_output=True).returncode == 1


def test_guide_makes_every_password_that_the_file_asks_for(tmp_path: Path) -> None:
    """Who follows the guide has all variables without which compose starts nothing."""
    guide = COMPOSE.parents[1] / "docs" / "howto" / "run-with-compose.md"
    first = re.findall(r"^```sh\n(.*?)^```$", guide.read_text(), re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "deploy").mkdir()

    subprocess.run(["sh", "-euc", first], cwd=tmp_path, check=True)

    made = dict(line.split("=") for line in (tmp_path / "deploy" / ".env").read_text().split())
    assert made.keys() == set(re.findall(r"\$\{(\w+):\?\}", COMPOSE.read_text()))
    assert len(set(made.values())) == len(made)


def test_system_is_whole(services: dict[str, Any]) -> None:
    """There is a store, a primary, three readers, and what watches them; volumes are named."""
    assert set(services) == {"s3", "ingest", *READERS, "prometheus", "grafana"}
    volumes = [each.partition(":")[0] for one in services.values() for each in one["volumes"]]
    named = [each for each in volumes if not each.startswith(".")]
    assert sorted(named) == sorted(read_compose()["volumes"])


def test_readers_differ_in_region_port_and_volume_alone(services: dict[str, Any]) -> None:
    """Each reader is what the others are, in another place."""
    alike = [
        {**services[name], "environment": {**services[name]["environment"], "HEADRACE_REGION": ""}}
        for name in READERS
    ]
    for each in alike:
        del each["ports"], each["volumes"]
    assert alike[0] == alike[1] == alike[2]
    for key in ("ports", "volumes"):
        assert len({str(services[name][key]) for name in READERS}) == len(READERS)


@pytest.mark.parametrize("name", ["ingest", *READERS])
def test_service_listens_where_the_others_look(
    name: str, services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, ports, the store and the time to stop in are those of the commands."""
    service = services[name]
    settings = settings_of(service, monkeypatch)
    assert settings.host == "0.0.0.0"  # noqa: S104 - a container's own network
    assert settings.store == "s3://headrace/store"
    assert "-bucket=headrace" in services["s3"]["command"].split()
    assert service["environment"]["AWS_ENDPOINT_URL_S3"] == "http://s3:8333"
    assert seconds(service["stop_grace_period"]) >= settings.shutdown_timeout + SLACK_S
    assert f"127.0.0.1:{settings.port}/-/" in service["healthcheck"]["test"][-1]
    if name == "ingest":
        assert settings.metrics_port == SCRAPED["ingest"]
        assert "ports" not in service
    else:
        assert settings.metrics_port == SCRAPED["serve"]
        assert service["networks"]["default"]["aliases"] == ["serve"]
        assert settings.primary == "http://ingest:8100"
        assert service["ports"][0].endswith(f":{settings.port}")


def test_nothing_is_reached_from_other_machines(services: dict[str, Any]) -> None:
    """What is published is so on this machine's own address."""
    published = [port for each in services.values() for port in each.get("ports", [])]
    assert len(published) == len(READERS) + 2
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", ["ingest", *READERS])
def test_service_can_do_little_beyond_its_work(name: str, services: dict[str, Any]) -> None:
    """Headrace runs without privileges, and writes to its volume and a /tmp in memory alone."""
    service = services[name]
    assert service["read_only"]
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
