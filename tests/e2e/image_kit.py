"""The steps of a Dockerfile, run in clean folders: what a container engine would do with them.

Each stage is a folder, laid over the one that it begins with. Each RUN is a process that has the
folder as its root, its own processes, and the variables that were set before it. The base is made
by mmdebstrap, of the packages that the image of its name is made of. All of it needs root.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import shutil
import stat
import string
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from dockerfile_parse import DockerfileParser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack
    from pathlib import Path

# What this machine says about the way to the registries holds in a step as well: these, and whom it
# trusts.
WAYS = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "UV_DEFAULT_INDEX")
TRUSTED, TRUSTED_THERE = "/etc/ssl/certs/ca-certificates.crt", "/run/ca-certificates.crt"
# Source: debuerreotype, scripts/.slimify-excludes.
SLIM = ("doc", "info", "linda", "lintian/overrides", "locale", "man", "pixmaps")
ENTER = """
    mount -t tmpfs tmpfs "$0/run"
    cp "$1" "$0$2"
    mount --bind /etc/resolv.conf "$0/etc/resolv.conf"
    mount -t proc proc "$0/proc"
    exec chroot --userspec "$3" "$0" env --ignore-environment --chdir "$4" "${@:5}"
"""
DOES_NOTHING = {"COMMENT", "EXPOSE", "VOLUME"}  # as far as the folder goes


@dataclass(kw_only=True)
class Image:
    """A folder, and what was said about how to run things in it."""

    tree: Path
    layers: list[Path]
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def inside(self, *command: str, **env: str) -> list[str]:
        """Give the command line that runs a command in the folder; it is killed with its parent."""
        said = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **self.env}
        said.update((name, os.environ[name]) for name in WAYS if name in os.environ)
        said["SSL_CERT_FILE"] = said["PIP_CERT"] = TRUSTED_THERE
        variables = [f"{name}={value}" for name, value in {**said, **env}.items()]
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-e", "-c", ENTER]
        place = [str(self.tree), TRUSTED, TRUSTED_THERE, self.user, self.workdir]
        return [*apart, *place, *variables, *command]


def make_base(tree: Path) -> Image:
    """Make what ``debian:bookworm-slim`` is, of Debian's packages of today."""
    how = ["--variant=minbase", "--mode=root", "--quiet", "--dpkgopt=force-unsafe-io"]
    how += ['--aptopt=APT::Install-Recommends "false"', "--include=usr-is-merged"]
    how += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]
    _run(["mmdebstrap", *how, "bookworm", str(tree)])
    # mmdebstrap would leave them out at five times the cost.
    for folder in SLIM:
        shutil.rmtree(tree / "usr" / "share" / folder, ignore_errors=True)
    excluded = "".join(f"path-exclude /usr/share/{folder}/*\n" for folder in SLIM)
    (tree / "etc" / "dpkg" / "dpkg.cfg.d" / "slim").write_text(excluded)
    (tree / "etc" / "resolv.conf").touch()
    return Image(tree=tree, layers=[tree])


class Build:
    """One run of all steps.

    Args:
        context: What is copied from.
        base: What a stage begins with that is begun from no other stage.
        folder: For the stages.
        mounted: Takes them away again.

    Attributes:
        stages: The images of all stages, by name; steps of those that are there already are left
            out.
    """

    def __init__(self, context: Path, base: Image, folder: Path, mounted: ExitStack) -> None:
        self.stages: dict[str, Image] = {}
        self._mounted = mounted
        self._context = context
        self._base = base
        self._folder = folder
        self._globally: dict[str, str] = {}
        self._args: dict[str, str] = {}  # of this stage
        self._image = base

    def run(self, dockerfile: Path) -> Image:
        """Run all steps; give the image of the last stage."""
        parser = DockerfileParser(fileobj=io.BytesIO(dockerfile.read_bytes()))
        is_done = False
        for step in parser.structure:
            instruction, value = step["instruction"], step["value"]
            if instruction == "FROM":
                is_done = value.partition(" AS ")[2] in self.stages
            if not is_done and instruction not in DOES_NOTHING:
                getattr(self, f"_{instruction.lower()}")(value)
        return self._image

    def _from(self, value: str) -> None:
        origin, _, name = value.partition(" AS ")
        begun = self.stages.get(origin, self._base)
        stage = self._folder / (name or "last")
        for part in ("tree", "layer", "work"):
            (stage / part).mkdir(parents=True)
        lower = f"lowerdir={':'.join(map(str, begun.layers))}"
        over = f"{lower},upperdir={stage / 'layer'},workdir={stage / 'work'}"
        _run(["mount", "-t", "overlay", "overlay", "-o", over, str(stage / "tree")])
        self._mounted.callback(_run, ["umount", "--lazy", str(stage / "tree")])
        layers = [stage / "layer", *begun.layers]
        self._image = Image(
            tree=stage / "tree", layers=layers, env=dict(begun.env), workdir=begun.workdir
        )
        self.stages[name] = self._image
        self._args = {}

    def _arg(self, value: str) -> None:
        name, _, default = value.partition("=")
        if self._image is self._base:  # before the first stage
            self._globally[name] = default
        else:
            self._args[name] = default or self._globally.get(name, "")

    def _env(self, value: str) -> None:
        known = {**self._args, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **self._image.env}
        for pair in shlex.split(value):
            name, _, text = pair.partition("=")
            self._image.env[name] = string.Template(text).substitute(known)

    def _workdir(self, value: str) -> None:
        self._image.workdir = value
        (self._image.tree / value.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _user(self, value: str) -> None:
        self._image.user = value

    def _copy(self, value: str) -> None:
        words = value.split()
        origin = self._context
        if words[0].startswith("--from="):
            origin = self.stages[words.pop(0).removeprefix("--from=")].tree
        *sources, target = words
        place = self._image.tree / self._image.workdir.lstrip("/") / target.lstrip("/")
        if target.startswith("/"):
            place = self._image.tree / target.lstrip("/")
        for source in sources:
            path = origin / source.lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            _run(["cp", "--archive", f"{path}/." if path.is_dir() else str(path), str(place)])

    def _run(self, value: str) -> None:
        _run(self._image.inside("/bin/sh", "-c", value, **self._args))

    def _healthcheck(self, value: str) -> None:
        self._image.health = json.loads(value.partition(" CMD ")[2])

    def _entrypoint(self, value: str) -> None:
        self._image.entrypoint = json.loads(value)

    def _cmd(self, value: str) -> None:
        self._image.command = json.loads(value)


def read_tree(tree: Path, *, times_below: str) -> dict[str, str]:
    """Describe each file of a tree, with its content, and with its time below a folder."""
    return dict(_describe(tree, times_below))


def _describe(tree: Path, times_below: str) -> Iterator[tuple[str, str]]:
    for path in sorted(tree.rglob("*")):
        name, found = f"/{path.relative_to(tree)}", path.lstat()
        content = ""
        if stat.S_ISLNK(found.st_mode):
            content = str(path.readlink())
        elif stat.S_ISREG(found.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        at = found.st_mtime_ns if name.startswith(times_below) else ""
        yield name, f"{found.st_mode:o} {found.st_uid}:{found.st_gid} {at} {content}"


def _run(command: list[str]) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        pytest.fail(f"{shlex.join(command[-3:])}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
