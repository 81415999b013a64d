"""A machine that systemd has booted, in namespaces: it sees this one's files, and changes none.

Its root is an overlay, whose changes lie in memory and go with it; the kernel's settings are
read-only there, and systemd knows no units but those of the test and empty targets. (One of
Debian's own empties ``/tmp``.) Its network is this machine's.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.leash import leashed
from tests.conftest import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parents[2]
_UNITS = "/etc/systemd/system:/run/systemd/system"
_TARGETS = "basic multi-user network-online rest shutdown sysinit"

# The interpreter and the packages of the tests may lie in folders that services do not see, so they
# are mounted at others.
_BOOT = """
set -eu
mount -t tmpfs tmpfs {scratch}
cd {scratch}
mkdir changes work root
mount -t overlay -o lowerdir=/,upperdir=changes,workdir=work overlay root
mount -t proc proc root/proc
mount --bind root/proc/sys root/proc/sys
mount -o remount,bind,ro root/proc/sys
mount -t sysfs -o ro sysfs root/sys
mount -t cgroup2 cgroup2 root/sys/fs/cgroup
for name in tmp run etc/systemd/system dev; do mount -t tmpfs tmpfs root/$name; done
mkdir root/dev/shm root/dev/pts
mount -t devpts devpts root/dev/pts
ln -s pts/ptmx root/dev/ptmx
for name in null zero full random urandom tty; do
    touch root/dev/$name
    mount --bind /dev/$name root/dev/$name
done
mkdir -p root/run/systemd/system
for name in {targets}; do
    printf '[Unit]\nDefaultDependencies=no\n' > root/run/systemd/system/$name.target
done
place() {{ mkdir -p root$2; mount --bind $1 root$2; mount -o remount,bind,ro root$2; }}
place {python} /opt/python
{packages}
place {source} /opt/source
cd root
pivot_root . mnt
umount --lazy /mnt
exec env -i PATH="$PATH" container=tests SYSTEMD_UNIT_PATH={units} \\
    /lib/systemd/systemd --system --unit=rest.target --log-target=console --show-status=no
"""
_VENV = """
echo /opt/python/lib > /etc/ld.so.conf.d/0.conf
ldconfig
/opt/python/bin/python{version} -m venv --without-pip /opt/headrace
printf '{packages}\n/opt/source\n' > /opt/headrace/lib/python{version}/site-packages/tests.pth
printf '#!/opt/headrace/bin/python\nfrom headrace.__main__ import run\nrun()\n' \\
    > /opt/headrace/bin/headrace
chmod +x /opt/headrace/bin/headrace
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is booted.

    Attributes:
        pid: Of its systemd, as seen from here.
    """

    pid: int

    def run(self, script: str, *, given: bytes = b"") -> str:
        """Run commands there, in the checkout; give what they print.

        Args:
            script: The commands.
            given: Their standard input.

        Raises:
            AssertionError: One failed.
        """
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--ipc", "--uts", "--root"]
        done = subprocess.run(
            [*enter, "sh", "-euxc", f"cd /opt/source\n{script}"],
            env={"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": _UNITS},
            input=given,
            capture_output=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, (done.stderr + done.stdout).decode()[-3000:]
        return done.stdout.decode()

    def write(self, path: str, content: bytes) -> None:
        """Write a file there."""
        self.run(f"mkdir -p $(dirname {path}) && cat > {path}", given=content)

    def install(self) -> None:
        """Have Headrace at /opt/headrace, as if it had been installed there."""
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        there = "\\n".join(each for each, _here in _packages())
        self.run(_VENV.format(version=version, packages=there))
        litestream = Path(sys.executable).with_name("litestream").read_bytes()
        self.write("/opt/headrace/bin/litestream", litestream)
        self.run("chmod +x /opt/headrace/bin/litestream")


@contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """Boot systemd while the block runs, with an empty folder to begin with."""
    assert os.geteuid() == 0, "only root can boot a machine in namespaces: run the tests as root"
    script = _BOOT.format(
        scratch=shlex.quote(str(folder)),
        targets=_TARGETS,
        python=shlex.quote(sys.base_prefix),
        packages="\n".join(f"place {shlex.quote(here)} {there}" for there, here in _packages()),
        source=shlex.quote(str(SOURCE)),
        units=_UNITS,
    )
    with _cgroup() as group:
        unshare = "unshare --fork --pid --mount --ipc --uts --cgroup --kill-child=KILL"
        entering = f'echo $$ > {group}/cgroup.procs && exec {unshare} sh -c "$1"'
        process = subprocess.Popen(leashed("sh", "-c", entering, "sh", script))
        try:
            machine = Machine(pid=wait_for(lambda: _child_of(process.pid)))
            wait_for(lambda: _is_up(machine, process), timeout_s=30)
            yield machine
        finally:
            process.kill()  # and with it, all that it started
            process.wait()


def _packages() -> list[tuple[str, str]]:
    """List the folders of installed packages, as they are called there and here."""
    here = [path for path in sys.path if path.endswith("/site-packages")]
    return [(f"/opt/packages-{number}", path) for number, path in enumerate(here)]


def _child_of(pid: int) -> int | None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def _is_up(machine: Machine, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "systemd did not start"
    comm = Path(f"/proc/{machine.pid}/comm").read_text().strip()
    return comm == "systemd" and _state(machine) == "active\n"


def _state(machine: Machine) -> str:
    enter = ["nsenter", f"--target={machine.pid}", "--mount", "--pid", "--root"]
    asked = [*enter, "systemctl", "is-active", "rest.target"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout


@contextmanager
def _cgroup() -> Iterator[Path]:
    """Make a control group while the block runs: the root of those that are made within."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    root = next(Path(where) for _what, where, kind, *_rest in mounts if kind == "cgroup2")
    group = root / f"headrace-tests-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        wait_for(lambda: _removed(group))


def _removed(group: Path) -> bool:
    try:
        for folder, _names, _files in os.walk(group, topdown=False):
            Path(folder).rmdir()
    except OSError:  # a process of it is ending
        return False
    return True
