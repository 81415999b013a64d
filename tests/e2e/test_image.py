"""The image: each step of the Dockerfile is run in a clean tree, and the result is started."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.conftest import wait_for
from tests.e2e.image_kit import Build, Image, make_base, read_tree
from tests.e2e.test_formats import CASES, DATA
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(600)  # seconds; half of it is spent by registries

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
VENV = "/opt/headrace"
PACKAGES = f"{VENV}/lib/python3.11/site-packages"
MIB = 1024**2
VENV_AT_MOST_BYTES = 230 * MIB
ALL_AT_MOST_BYTES = 350 * MIB
USER = 10001
TOKEN = "image-token"  # noqa: S105 - a test's


def copy_sources(folder: Path) -> None:
    """Copy what git knows, or would take up."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Image]]:
    """Run all steps, and once more those that do not only install what Debian and others made."""
    if os.geteuid() != 0:
        pytest.fail("the steps of the Dockerfile can only be run by root: sudo make test-release")
    folder = tmp_path_factory.mktemp("image")
    base = make_base(folder / "debian")
    context = folder / "context"
    copy_sources(context)
    with ExitStack() as mounted:
        first, second = (Build(context, base, folder / name, mounted) for name in ("a", "b"))
        image = first.run(DOCKERFILE)
        second.stages = {name: first.stages[name] for name in ("base", "tools")}
        yield [image, second.run(DOCKERFILE)]


@pytest.fixture(scope="module")
def image(builds: list[Image]) -> Image:
    """Give the image."""
    return builds[0]


def test_image_is_the_same_when_it_is_built_again(builds: list[Image]) -> None:
    """Every file has the same content, mode and owner; those of Headrace the same time, too."""
    first, second = (read_tree(each.tree, times_below=VENV) for each in builds)
    assert {name for name in first | second if first.get(name) != second.get(name)} == set()


def test_image_is_small_and_only_root_may_change_it(image: Image) -> None:
    """What a running Headrace never reads is not in it; its user owns nothing but the data."""
    files = [path.lstat() for path in image.tree.rglob("*")]
    sizes = {
        "Headrace": sum(each.lstat().st_size for each in (image.tree / VENV[1:]).rglob("*")),
        "all": sum(each.st_size for each in files),
    }
    print({name: f"{size / MIB:.0f} MiB" for name, size in sizes.items()})  # noqa: T201 - is asked for
    assert sizes["Headrace"] < VENV_AT_MOST_BYTES
    assert sizes["all"] < ALL_AT_MOST_BYTES
    assert [each for each in files if each.st_uid == USER] == [(image.tree / "data").lstat()]
    ours = list((image.tree / PACKAGES[1:]).rglob("*.py"))
    compiled = {path.parent.parent / path.name.split(".")[0] for path in image.tree.rglob("*.pyc")}
    assert [path for path in ours if path.with_suffix("") not in compiled] == []


def test_bill_of_materials_names_what_is_installed(image: Image) -> None:
    """The SBOM lists every distribution in the image, with its version, and nothing else."""
    bill = json.loads((image.tree / VENV[1:] / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    listed = {(each["name"], each["version"]) for each in bill["components"]}
    assert bill["metadata"]["component"]["name"] == "headrace"
    code = (
        "import json; from importlib.metadata import distributions as all; "
        "print(json.dumps([[each.name, each.version] for each in all()]))"
    )
    answer = subprocess.run(image.inside("python", "-c", code), capture_output=True, check=True)
    installed = {(name, version) for name, version in json.loads(answer.stdout)}
    assert listed == {each for each in installed if each[0] != "headrace"}


class Container:
    """A process of the image, started as an engine would."""

    def __init__(self, image: Image, *command: str, **env: str) -> None:
        self._image = image
        self._env = {"HEADRACE_TOKEN": TOKEN, "HEADRACE_HOST": "127.0.0.1", **env}
        arguments = command or image.command
        inside = image.inside(*image.entrypoint, *arguments, **self._env)
        self.process = subprocess.Popen(inside)

    @property
    def init(self) -> int:
        """Process id of what is process 1 in there."""
        pid = self.process.pid
        [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def is_healthy(self) -> bool:
        """Ask what the image tells an engine to ask."""
        assert self.process.poll() is None, "the container ended"
        inside = self._image.inside(*self._image.health, **self._env)
        return subprocess.run(inside, capture_output=True, check=False).returncode == 0

    def users(self) -> set[int]:
        """Give the users of all processes in there."""
        found, pids = set(), [self.init]
        while pids:
            pid = pids.pop()
            found.add(Path(f"/proc/{pid}").stat().st_uid)
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def stop(self) -> int:
        """End it as an engine would; give its exit code."""
        if self.process.poll() is None:
            os.kill(self.init, signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def running(image: Image, *command: str, **env: str) -> Iterator[Container]:
    """Run a container while the block runs."""
    container = Container(image, *command, **env)
    try:
        wait_for(container.is_healthy, timeout_s=60)
        yield container
    finally:
        container.stop()


def test_both_roles_start_as_a_user_without_rights_and_take_every_format(image: Image) -> None:
    """Ingest and a reader run out of one image; what was left out of it no converter misses."""
    port = free_ports([0, 100, 200, 201])
    primary, store = f"http://127.0.0.1:{port + 100}", "/data/store"
    auth = {"Authorization": f"Bearer {TOKEN}"}
    ports = {"HEADRACE_PORT": str(port + 100), "HEADRACE_METRICS_PORT": str(port + 200)}
    ingest = running(image, "ingest", HEADRACE_DATA="/data/a", HEADRACE_STORE=store, **ports)
    ports = {"HEADRACE_PORT": str(port), "HEADRACE_METRICS_PORT": str(port + 201)}
    serve = running(
        image, "serve", "--primary", primary, HEADRACE_DATA="/data/b", HEADRACE_STORE=store, **ports
    )
    with ingest as writer, serve as reader, httpx.Client(headers=auth, timeout=60) as client:
        assert client.get(f"http://127.0.0.1:{port}/-/readyz").status_code == 200
        for case in CASES:
            path = DATA / case.file
            asked = {"filename": case.name or path.name, "wait_for": "regions", **case.options}
            answer = client.post(f"{primary}/ingest", params=asked, content=path.read_bytes())
            assert answer.status_code == 201, (case.file, answer.text)
            assert answer.json()["format"] == case.format
        page = client.get(f"http://127.0.0.1:{port}/unemployment/unemployment.json?_shape=array")
        assert page.json()[0] == {"rowid": 1, "id": 1001, "rate": ".097"}
        assert writer.users() == reader.users() == {USER}
        assert [reader.stop(), writer.stop()] == [0, 0]
