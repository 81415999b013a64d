"""The preloaded process that workers are forked from: one thread, no event loop.

It reads one JSON object a line from standard input, and writes one a line to standard output::

    {"fork": 7, "spec": {…}}            fork a worker
    {"kill": 7, "signal": 15}           send it a signal, if it still runs

    {"worker": 7, "event": "ready", "pid": 4711}      it takes requests (written by itself)
    {"worker": 7, "event": "failed", "reason": "…"}   it could not start (likewise)
    {"worker": 7, "event": "ended", "status": 0}      its process is gone; below 0: by that signal

It ends, and all workers with it, when its standard input does: the reader holds the other end.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import traceback
from pathlib import Path
from typing import Any, NoReturn

from headrace.errors import HeadraceError
from headrace.forking import become_child, hear_children, leave, reap, settle
from headrace.heap import use_one_heap
from serve.deferred import defer_modules, load_yaml_for
from serve.units import defer_units, load_units_for
from serve.worker_spec import WorkerSpec

# A line up to this size is written to a pipe in one piece, whoever else writes (pipe(7), PIPE_BUF).
MAX_EVENT_BYTES = 4096
_READ_BYTES = 1024**2
# What a worker runs, and what uvicorn and asyncio import when they are used: here once, instead of
# in each worker.
_PRELOADED = (
    "serve.worker",
    "concurrent.futures.thread",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)


def main() -> None:
    """Fork workers until standard input ends."""
    use_one_heap()
    control, events = os.dup(0), os.dup(1)
    _give_stdio_to_workers()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake = hear_children()
    defer_units()
    defer_modules()
    for name in _PRELOADED:
        importlib.import_module(name)
    _compile_templates()
    settle()
    Nursery(control, events, wake).run()


class Nursery:
    """Forks, reaps and kills."""

    def __init__(self, control: int, events: int, wake: int) -> None:
        self._control = control
        self._events = events
        self._wake = wake
        self._pids: dict[int, int] = {}  # by the worker's number

    def run(self) -> None:
        """Do what standard input says until it ends."""
        rest = b""
        while True:
            readable, _, _ = select.select([self._control, self._wake], [], [])
            if self._wake in readable:
                os.read(self._wake, _READ_BYTES)
                self._reap()
            if self._control in readable:
                chunk = os.read(self._control, _READ_BYTES)
                if not chunk:
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)

    def _obey(self, order: dict[str, Any]) -> None:
        if "fork" in order:
            self._fork(order["fork"], order["spec"])
        elif order["kill"] in self._pids:
            os.kill(self._pids[order["kill"]], order["signal"])

    def _fork(self, number: int, spec: dict[str, Any]) -> None:
        if spec["datasette_dir"]:
            _load_for(Path(spec["datasette_dir"]))
        nursery_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_worker(number, spec, nursery_pid)
        self._pids[number] = pid

    def _become_worker(self, number: int, spec: dict[str, Any], nursery_pid: int) -> NoReturn:
        status = 1
        try:
            become_child(nursery_pid)
            os.close(self._control)
            os.close(self._wake)
            _run_worker(number, spec, self._events)
            status = 0
        except BaseException:  # noqa: BLE001 - this is the last frame of the process
            traceback.print_exc()
        finally:
            leave(status)

    def _reap(self) -> None:
        ended = dict(reap(self._pids.values()))
        for number, pid in list(self._pids.items()):
            if pid in ended:
                del self._pids[number]
                _write_event(self._events, worker=number, event="ended", status=ended[pid])


def _compile_templates() -> None:
    from serve.templates import compile_templates  # noqa: PLC0415 - not before defer_units

    compile_templates()


def _load_for(configuration: Path) -> None:
    """Load what workers of a configuration would each load."""
    if load_yaml_for(configuration) | load_units_for(configuration):
        settle()


def _run_worker(number: int, spec: dict[str, Any], events: int) -> None:
    """Serve; whatever a user's plugin raises at the start is told, and not only logged."""
    ready = False

    def on_ready() -> None:
        nonlocal ready
        ready = True
        _write_event(events, worker=number, event="ready", pid=os.getpid())

    from serve.worker import run_worker  # noqa: PLC0415 - not before defer_units

    try:
        run_worker(WorkerSpec.decode(spec), on_ready)
    except BaseException as exc:
        if ready:
            raise
        reason = str(exc) if isinstance(exc, HeadraceError) else _last_lines(exc)
        _write_event(events, worker=number, event="failed", reason=reason)


def _last_lines(exc: BaseException) -> str:
    return "".join(traceback.format_exception(exc)[-3:]).strip()


def _write_event(descriptor: int, **event: Any) -> None:
    line = json.dumps(event).encode() + b"\n"
    while len(line) > MAX_EVENT_BYTES:
        event["reason"] = event["reason"][len(event["reason"]) // 4 + 1 :]
        line = json.dumps(event).encode() + b"\n"
    os.write(descriptor, line)


def _give_stdio_to_workers() -> None:
    """Keep what plugins print off the events, and the orders off what plugins read."""
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


if __name__ == "__main__":
    main()
