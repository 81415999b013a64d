"""Ceph's object gateway as the S3 server of the tests: one monitor, one OSD, on 127.0.0.1.

Independent of SeaweedFS in every line; for `make test-stores`. It takes 15 s to start.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from headrace.leash import leashed
from tests.integration.s3_kit import S3
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_S = 120.0
_BLOCK_BYTES = 8 * 1024**3  # a sparse file

_CONF = """
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon}/0
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {root}/$name.keyring
run dir = {root}
admin socket = {root}/$name.sock
log file = {root}/$name.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data = {root}/mon
[osd]
osd data = {root}/osd
osd objectstore = bluestore
bluestore block size = {block_bytes}
bluestore block create = true
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{rgw}
rgw data = {root}/rgw
"""

_KEYRINGS = {
    "mon.": ("--cap", "mon", "allow *"),
    "client.admin": ("--cap", "mon", "allow *", "--cap", "osd", "allow *"),
    "osd.0": ("--cap", "mon", "allow profile osd", "--cap", "osd", "allow *"),
    "client.rgw": ("--cap", "mon", "allow rw", "--cap", "osd", "allow rwx"),
}


@contextmanager
def ceph_server(root: Path) -> Iterator[S3]:
    """Run Ceph in a folder while the block runs."""
    ports = {"mon": free_ports([0]), "rgw": free_ports([0])}
    conf = root / "ceph.conf"
    fsid = _run("uuidgen").strip()
    conf.write_text(_CONF.format(fsid=fsid, root=root, block_bytes=_BLOCK_BYTES, **ports))
    _make_keyrings(root)
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
    with ExitStack() as stack:

        def start(*command: str) -> None:
            log = stack.enter_context((root / f"{command[0]}.out").open("wb"))
            process = subprocess.Popen(
                leashed(*command, "-c", str(conf), "-f"), stdout=log, stderr=subprocess.STDOUT
            )
            stack.callback(_end, process)

        _make_monitor(root, conf, fsid, ports["mon"])
        start("ceph-mon", "-i", "a")
        ask = ("ceph", "-c", str(conf), "--connect-timeout", str(int(START_S)))
        _run(*ask, "osd", "new", fsid, "0")
        (root / "osd").mkdir()
        _run("ceph-osd", "-i", "0", "-c", str(conf), "--mkfs", "--osd-uuid", fsid)
        start("ceph-osd", "-i", "0")
        _run(*ask, "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=lab")
        user = ["radosgw-admin", "-c", str(conf), "user", "create", "--uid", "test"]
        user += ["--display-name", "test", "--access-key", "test"]
        _run(*user, "--secret-key", credentials["AWS_SECRET_ACCESS_KEY"])
        start("radosgw", "-n", "client.rgw")
        server = S3(port=ports["rgw"], credentials=credentials)
        deadline_s = time.monotonic() + START_S
        while not server.is_up():  # this makes the first bucket, and with it Ceph's pools
            if time.monotonic() > deadline_s:
                pytest.fail(f"Ceph did not start: {(root / 'radosgw.out').read_text()}")
            time.sleep(0.1)
        yield server


def _make_keyrings(root: Path) -> None:
    for name, capabilities in _KEYRINGS.items():
        path = str(root / f"{name}.keyring")
        _run("ceph-authtool", "--create-keyring", path, "--gen-key", "-n", name, *capabilities)
    for name in list(_KEYRINGS)[1:]:  # the monitor is told of all
        path = str(root / f"{name}.keyring")
        _run("ceph-authtool", str(root / "mon..keyring"), "--import-keyring", path)


def _make_monitor(root: Path, conf: Path, fsid: str, port: int) -> None:
    monmap = str(root / "monmap")
    address = f"[v2:127.0.0.1:{port}]"
    _run("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, monmap)
    (root / "mon").mkdir()
    flags = ("--mkfs", "-i", "a", "-c", str(conf), "--monmap", monmap)
    _run("ceph-mon", *flags, "--keyring", str(root / "mon..keyring"))


def _run(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=START_S, env=_environment()
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def _environment() -> dict[str, str]:
    """Give what finds the programs, and not the virtual environment: they have their own Python."""
    return {"PATH": f"/usr/sbin:/usr/bin:/sbin:/bin:{os.defpath}", "LC_ALL": "C.UTF-8"}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
