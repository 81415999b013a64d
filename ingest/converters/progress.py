"""How far a conversion is, seen from inside of its process."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ingest.converters import Conversion

INTERVAL_S = 0.25
_STACK_BYTES = 256 * 1024  # the limit on memory counts a stack whole


@contextmanager
def reporting(
    conversion: Conversion, show: Callable[[int, int], None], *, interval_s: float = INTERVAL_S
) -> Iterator[Conversion]:
    """Show how far a conversion is, again and again, while the block runs.

    Args:
        conversion: What is converted.
        show: Called in a thread of its own with the rows and the bytes of the input done so far.
        interval_s: Seconds between two looks.

    Yields:
        The conversion to hand to the converter. What that reports is shown; where it reports no
        bytes, the place that it, or a program that it runs, has reached in the file is.
    """
    reported = [0, 0]
    done = threading.Event()

    def report(rows: int, size_bytes: int) -> None:
        reported[:] = rows, size_bytes

    def look() -> None:
        farthest = 0  # a file that is closed, or read again, is not less done
        while not done.wait(interval_s):
            rows, size_bytes = reported
            farthest = max(farthest, find_position(conversion.input))
            show(rows, size_bytes or farthest)

    usual = threading.stack_size(_STACK_BYTES)
    thread = threading.Thread(target=look, name="progress", daemon=True)
    thread.start()
    threading.stack_size(usual)
    try:
        yield replace(conversion, report=report)
    finally:
        done.set()
        thread.join()


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
