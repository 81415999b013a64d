"""How far a conversion is, seen from inside of its process."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.receipt import READING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ingest.converters import Conversion

INTERVAL_S = 0.2  # twice a second also where the converter keeps Python's lock for a while
_STACK_BYTES = 256 * 1024  # the limit on memory counts a stack whole


class _Watch:
    """What a converter says of itself, and what is seen of its process.

    Args:
        path: The file that it reads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._step = "read"
        self._rows = self._bytes = 0
        self._farthest_bytes = self._moved_before = 0

    def begin(self, step: str) -> None:
        """Note that it does something else from now on."""
        moved = find_moved()
        # Rows that were read stay, also while they are written or shaped.
        rows = 0 if step in READING else self._rows
        self._step, self._rows, self._bytes = step, rows, 0
        self._farthest_bytes, self._moved_before = 0, moved

    def report(self, rows: int, size_bytes: int) -> None:
        """Note how far it is."""
        self._rows, self._bytes = rows, size_bytes

    def look(self) -> tuple[str, int, int]:
        """Give the step, and rows and bytes done."""
        step = self._step
        if step in READING:  # a file that is closed, or read again, is not less done
            now = self._bytes or find_position(self._path)
        else:
            now = find_moved() - self._moved_before
        self._farthest_bytes = max(self._farthest_bytes, now)
        return step, self._rows, self._bytes or self._farthest_bytes


@contextmanager
def reporting(
    conversion: Conversion,
    show: Callable[[str, int, int], None],
    *,
    interval_s: float = INTERVAL_S,
) -> Iterator[Conversion]:
    """Show how far a conversion is, again and again, while the block runs, and at its end.

    Args:
        conversion: What is converted.
        show: Called in a thread of its own with the step, and the rows and bytes done so far.
        interval_s: Seconds between two looks.

    Yields:
        The conversion to hand to the converter. What that reports is shown; where it reports no
        bytes, the place that it, or a program that it runs, has reached in the file is, or what it
        has read and written.
    """
    watch = _Watch(conversion.input)
    done = threading.Event()

    def look() -> None:
        while not done.wait(interval_s):
            show(*watch.look())

    usual = threading.stack_size(_STACK_BYTES)
    thread = threading.Thread(target=look, name="progress", daemon=True)
    thread.start()
    threading.stack_size(usual)
    try:
        yield replace(conversion, report=watch.report, begin=watch.begin)
    finally:
        done.set()
        thread.join()
    show(*watch.look())


def find_moved() -> int:
    """Find how many bytes this process and those below it have read and written; 0 if unknown.

    Source: proc(5), ``/proc/pid/io``, ``rchar`` and ``wchar``.
    """
    if sys.platform != "linux":
        return 0
    return sum(map(_moved_by, _processes()))


def _moved_by(process: Path) -> int:
    try:
        fields = (process / "io").read_text().split()
    except OSError:  # it ended meanwhile, or nobody may know
        return 0
    return int(fields[1]) + int(fields[3])


def find_position(path: Path) -> int:
    """Find how far into a file this process and those below it have read; 0 if nobody does.

    Source: proc(5), ``/proc/pid/fdinfo``. A library that reads at places of its own choice, not
    from the start on, stays at 0; so does everything where there is no ``/proc``.
    """
    if sys.platform != "linux":
        return 0
    return max((_position_in(process, path) for process in _processes()), default=0)


def _processes() -> Iterator[Path]:
    """Give the folders of this process and of all below it."""
    waiting = [
        Path("/proc") / Path("/proc/self").readlink()
    ]  # not getpid(): that is the namespace's
    while waiting:
        process = waiting.pop()
        yield process
        try:
            for task in (process / "task").iterdir():
                waiting += (Path("/proc") / pid for pid in (task / "children").read_text().split())
        except OSError:  # it ended meanwhile
            continue


def _position_in(process: Path, path: Path) -> int:
    """Find the farthest place of a file that is open in a process."""
    farthest = 0
    try:
        for link in (process / "fd").iterdir():
            if link.readlink() == path:
                fields = (process / "fdinfo" / link.name).read_text().split()
                farthest = max(farthest, int(fields[fields.index("pos:") + 1]))
    except OSError:  # as above
        pass
    return farthest
