"""The guide to a plain server, followed on one that systemd booted; and what the units allow."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.conftest import wait_for
from tests.e2e.systemd_kit import SOURCE, booted
from tests.ports import free_ports

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.systemd_kit import Machine
    from tests.integration.s3_kit import S3

GUIDE = (SOURCE / "docs" / "howto" / "run-on-a-plain-server.md").read_text()
LOGS = b"[Service]\nStandardError=append:/run/log-of-%p\n"
RIGHTS = """for process in $(pgrep -u headrace); do
    grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/$process/status
done"""


def test_guide_to_a_plain_server_works(tmp_path: Path, s3: S3) -> None:
    """Who follows the guide has a primary and a reader, locked in as their units say.

    Its first commands install from the registry, as the Makefile does; here the packages of the
    tests are put where they would be.
    """
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    _install, files, start, push = blocks
    port = free_ports([0, 1, 2, 3])
    reader = f"http://127.0.0.1:{port}"
    with booted(tmp_path) as machine:
        machine.install()
        machine.run(files)
        _fill_in(machine, s3, port)
        assert machine.run("systemd-analyze verify /etc/systemd/system/headrace-* 2>&1") == ""

        assert machine.run(start).count("active (running)") == 2
        wait_for(lambda: _is_ready(reader), timeout_s=60)
        pushed = machine.run(push.replace("http://127.0.0.1:8000", reader))
        assert f"cities.csv: 1 row in generation 1: {reader}/cities/cities" in pushed
        rows = httpx.get(f"{reader}/cities/cities.json?_shape=array").json()
        assert [row["city"] for row in rows] == ["Bern"]
        (doctor,) = re.findall(r"`(\(export .* doctor serve .*\))`, and", GUIDE)
        assert "put-if-absent" in machine.run(doctor)
        assert "not isolated" not in machine.run("cat /run/log-of-headrace-ingest")
        rights = set(machine.run(RIGHTS).split("\n")[:-1])
        assert rights == {"CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"}

        machine.run("systemctl stop headrace-serve headrace-ingest")
        ended = machine.run("systemctl show -P Result headrace-serve headrace-ingest")
        assert ended.split() == ["success", "success"]


@pytest.mark.parametrize("unit", ["headrace-ingest", "headrace-serve"])
def test_unit_is_no_more_exposed_than_the_guide_says(unit: str) -> None:
    """Systemd rates what a unit allows as the guide prints it."""
    path = SOURCE / "deploy" / "systemd" / f"{unit}.service"
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (rated,) = re.findall(rf"exposure level for {unit}.service: ([\d.]+) ", said)
    assert re.search(rf"`{unit}` {rated}\b", GUIDE)
    assert float(rated) <= 2.0


def _fill_in(machine: Machine, s3: S3, port: int) -> None:
    """Say which store and ports it is."""
    told = {
        "HEADRACE_STORE": s3.url(s3.make_bucket()),
        **s3.credentials,
        "HEADRACE_PRIMARY": f"http://127.0.0.1:{port + 1}",
    }
    more = "".join(f"{name}={value}\n" for name, value in told.items())
    made = machine.run("cat /etc/headrace/headrace.env")
    machine.write("/etc/headrace/headrace.env", (made + more).encode())
    ports = {"ingest": (port + 1, port + 2), "serve": (port, port + 3)}
    for role, (own, metrics) in ports.items():
        text = f"HEADRACE_PORT={own}\nHEADRACE_METRICS_PORT={metrics}\n"
        machine.write(f"/etc/headrace/{role}.env", text.encode())
    machine.write("/run/systemd/system/headrace-.service.d/log.conf", LOGS)


def _is_ready(reader: str) -> bool:
    try:
        return httpx.get(f"{reader}/-/readyz").is_success
    except httpx.TransportError:
        return False
