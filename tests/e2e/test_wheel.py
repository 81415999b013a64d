"""The wheel: with the locked packages alone it runs, on every Python that is supported and here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import wait_for
from tests.ports import free_ports

pytestmark = pytest.mark.timeout(300)  # seconds; registries take their time

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
SUPPORTED = ("3.11", "3.12", "3.13")


def find_pythons() -> dict[str, Path]:
    """Find an interpreter of each supported version: on the PATH, or of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for version in SUPPORTED:
        candidates = sorted(pyenv.glob(f"{version}.*/bin/python"))
        if on_path := shutil.which(f"python{version}"):
            candidates.append(Path(on_path))
        for candidate in candidates:
            asked = [
                str(candidate),
                "-c",
                "import sys, sqlite3; print(*sys.version_info[:2], sep='.')",
            ]
            answer = subprocess.run(asked, capture_output=True, text=True, check=False)
            if answer.stdout.strip() == version:
                found[version] = candidate
    return found


PYTHONS = find_pythons()


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give the environment for uv: a cache for this module alone, and whom this machine trusts."""
    kept = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    cache = str(tmp_path_factory.mktemp("uv"))
    return {**kept, "UV_CACHE_DIR": cache, "UV_NATIVE_TLS": "1", "UV_PYTHON_DOWNLOADS": "never"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*build, str(folder)], cwd=ROOT, check=True, capture_output=True)
    [built] = folder.iterdir()
    return built


def test_python_of_the_tests_is_among_those_that_are_tested() -> None:
    """At least one interpreter is here."""
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in PYTHONS


@pytest.mark.parametrize("version", PYTHONS)
def test_wheel_runs_with_the_locked_packages_alone(
    version: str, wheel: Path, tools: dict[str, str], tmp_path: Path
) -> None:
    """No package of development is needed: `headrace up` takes files, and they are read."""
    venv = tmp_path / "venv"
    uv = [str(Path(sys.executable).with_name("uv")), "--quiet"]
    subprocess.run(
        [*uv, "venv", "--python", str(PYTHONS[version]), str(venv)], env=tools, check=True
    )
    install = [*uv, "pip", "install", "--python", str(venv)]
    locked = ["--require-hashes", "--requirements", str(ROOT / "requirements.lock")]
    subprocess.run([*install, *locked], env=tools, check=True)
    subprocess.run([*install, "--no-deps", str(wheel)], env=tools, check=True)
    subprocess.run([*uv, "pip", "check", "--python", str(venv)], env=tools, check=True)

    port = free_ports([0, 100, 200, 201])
    command = [str(venv / "bin" / "headrace"), "up", "--workers", "1", "--port", str(port)]
    env = {"PATH": "/usr/bin:/bin", "HEADRACE_TOKEN": "wheel"}
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log)
    try:
        base = f"http://127.0.0.1:{port}"
        wait_for(lambda: f"ready: {base}" in (tmp_path / "log").read_text(), timeout_s=90)
        for name in (
            "sheets/founders.xlsx",
            "parquet/v0.7.1.parquet",
            "delimited/unemployment.tsv",
        ):
            sent = httpx.post(
                f"{base}/ingest",
                params={"filename": Path(name).name, "wait_for": "regions"},
                headers={"Authorization": "Bearer wheel"},
                content=(DATA / name).read_bytes(),
                timeout=60,
            )
            assert sent.status_code == 201, sent.text
        rows = httpx.get(f"{base}/unemployment/unemployment.json?_shape=array").json()
        assert rows[0] == {"rowid": 1, "id": 1001, "rate": ".097"}
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        log.close()
    assert code == 0
