"""What breaks things: faults, drawn from a seed, one after another and some at once.

Two streams run at the same time: one kills (``kill -9``), the other breaks something, holds it and
heals it. Which, when, of whom and for how long follows from the seed alone; what a process is doing
at that moment does not, as in Jepsen.
"""

from __future__ import annotations

import random
import signal
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conftest import wait_for
from tests.faults.processes import send
from tests.faults.system import NODES, READERS, RIVAL
from tests.integration.fault_proxy import answering, delaying, never_answering, resetting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.faults.system import System
    from tests.integration.fault_proxy import Fault as StoreFault

PAST_LEASE_S = (2.0, 8.0)  # the lease is 3 s
SHORT_S = (0.5, 4.0)
KILL_GAP_S = (0.5, 2.5)
BREAK_GAP_S = (0.3, 1.5)

# How often which kind of process is killed.
KILLS = {"ingest": 4, "litestream": 3, "converter": 3, "worker": 3, "nursery": 1, "reader": 2}

RESET = resetting
SILENT = never_answering


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One fault of a schedule.

    Attributes:
        gap_s: How long to wait before it.
        name: A key of ``BREAKS``, or ``kill …``.
        hold_s: How long it lasts.
        dice: For what the fault itself has to choose.
    """

    gap_s: float
    name: str
    hold_s: float
    dice: random.Random


def schedule_kills(seed: int) -> Iterator[Step]:
    """Give the kills of a seed, one after another, without end."""
    noise = random.Random(f"kills {seed}")
    while True:
        kind = noise.choices(list(KILLS), list(KILLS.values()))[0]
        yield Step(
            gap_s=noise.uniform(*KILL_GAP_S),
            name=f"kill {kind}",
            hold_s=0.0,
            dice=random.Random(noise.random()),
        )


def schedule_breaks(seed: int, *, s3: bool) -> Iterator[Step]:
    """Give the other faults of a seed, without end: all kinds in turn, in a drawn order."""
    noise = random.Random(f"breaks {seed}")
    names = [name for name in BREAKS if s3 or name not in ONLY_S3]
    while True:
        for name in noise.sample(names, len(names)):
            _start, hold_s = BREAKS[name]
            yield Step(
                gap_s=noise.uniform(*BREAK_GAP_S),
                name=name,
                hold_s=noise.uniform(*hold_s),
                dice=random.Random(noise.random()),
            )


class Nemesis(threading.Thread):
    """Carries out a schedule until told to end; what it broke is healed then."""

    def __init__(self, system: System, name: str, steps: Iterator[Step]) -> None:
        super().__init__(name=name)
        self.done = threading.Event()
        self.failure: BaseException | None = None
        self._system = system
        self._steps = steps

    def run(self) -> None:
        """Break things."""
        try:
            for step in self._steps:
                if self.done.wait(step.gap_s):
                    return
                self._carry_out(step)
        except BaseException as exc:  # noqa: BLE001 - told by whoever joins
            self.failure = exc

    def _carry_out(self, step: Step) -> None:
        note = self._system.history.note
        if step.name not in BREAKS:
            killed = kill(self._system, step.name.removeprefix("kill "), step.dice)
            if killed is not None:
                note("fault", self.name, name=step.name, of=killed)
            return
        start, _hold_s = BREAKS[step.name]
        with start(self._system, step.dice):
            note("fault", self.name, name=step.name, hold_s=round(step.hold_s, 2))
            self.done.wait(step.hold_s)
        note("heal", self.name, name=step.name)


# Killing.


def kill(system: System, kind: str, dice: random.Random) -> str | None:
    """Kill one process of a kind, if there is one; give whose it was."""
    found = system.find(kind)
    if not found:
        return None
    pid = dice.choice(list(found))
    if kind == "ingest":  # the one that matters, mostly
        leading = [each for each, name in found.items() if name in system.primaries]
        if leading and dice.random() < 0.75:
            pid = dice.choice(leading)
    with ExitStack() as stack:
        if kind == "reader":
            stack.enter_context(system.reader_down(found[pid]))
        send(pid, signal.SIGKILL)
        if kind == "reader":
            wait_for(lambda: system.process(found[pid]).pid != pid)
    return found[pid]


# All else that breaks.


def _pausing(kind: str) -> Callable[[System, random.Random], AbstractContextManager[None]]:
    @contextmanager
    def pause(system: System, dice: random.Random) -> Iterator[None]:
        found = system.find(kind)
        leading = [pid for pid, name in found.items() if name in system.primaries]
        chosen = dice.choice(leading or list(found)) if found else None
        if chosen is not None:
            send(chosen, signal.SIGSTOP)
        try:
            yield
        finally:
            if chosen is not None:
                send(chosen, signal.SIGCONT)

    return pause


@contextmanager
def _kill_amid_uploads(system: System, dice: random.Random) -> Iterator[None]:
    """Kill a primary whose uploads are merged, and wait for Litestream, which is paused."""
    with _pausing("litestream")(system, dice):
        try:
            yield
        finally:
            kill(system, "ingest", dice)


@contextmanager
def _cut_link(system: System, dice: random.Random) -> Iterator[None]:
    """Cut the network between the primary and a reader, or its direct clients."""
    link = system.links[dice.choice([*READERS, "clients"])]
    system.on_network(link.set_mode(dice.choice(["reset", "silent"])))
    try:
        yield
    finally:
        system.on_network(link.set_mode("pass"))


@contextmanager
def _cut_store(system: System, dice: random.Random) -> Iterator[None]:
    """Cut the network between the store and one node, mostly the primary."""
    name = dice.choice([*(system.primaries or NODES), *NODES, *READERS])
    with system.store_broken(name, dice.choice([RESET, SILENT])):
        yield


def _store(fault: StoreFault) -> Callable[[System, random.Random], AbstractContextManager[None]]:
    @contextmanager
    def break_store(system: System, _dice: random.Random) -> Iterator[None]:
        """Break the store for everybody."""
        with ExitStack() as stack:
            for name in (*NODES, RIVAL, *READERS):
                stack.enter_context(system.store_broken(name, fault))
            yield

    return break_store


def _fill(
    names: tuple[str, ...],
) -> Callable[[System, random.Random], AbstractContextManager[None]]:
    @contextmanager
    def fill(system: System, dice: random.Random) -> Iterator[None]:
        leading = [name for name in names if name in system.primaries]
        name = dice.choice(leading or names)
        system.volumes.fill(name)
        try:
            yield
        finally:
            system.volumes.free(name)

    return fill


@contextmanager
def _lose_primary(system: System, dice: random.Random) -> Iterator[None]:
    """Lose a machine and its volume, and keep it away for a while."""
    name = dice.choice([each for each in system.primaries if each != RIVAL] or NODES)
    with _lost(system, name):
        yield


@contextmanager
def _lose_reader(system: System, dice: random.Random) -> Iterator[None]:
    """Lose a reader's machine and its volume."""
    name = dice.choice(READERS)
    with system.reader_down(name), _lost(system, name):
        yield


@contextmanager
def _lost(system: System, name: str) -> Iterator[None]:
    """Keep a machine away in the block; its volume is empty after it."""
    system.process(name).stop(signal.SIGKILL)
    system.volumes.empty(name)
    try:
        yield
    finally:
        system.process(name).wanted = True


@contextmanager
def _second_primary(system: System, _dice: random.Random) -> Iterator[None]:
    """Start one more primary, which is no standby, on an empty volume; kill it in the end."""
    system.process(RIVAL).wanted = True
    try:
        yield
    finally:
        system.process(RIVAL).stop(signal.SIGKILL)
        system.volumes.empty(RIVAL)


BREAKS: dict[
    str, tuple[Callable[[System, random.Random], AbstractContextManager[None]], tuple[float, float]]
] = {
    "pause primary": (_pausing("ingest"), PAST_LEASE_S),
    "pause litestream": (_pausing("litestream"), SHORT_S),
    "kill primary amid uploads": (_kill_amid_uploads, SHORT_S),
    "pause converter": (_pausing("converter"), SHORT_S),
    "pause worker": (_pausing("worker"), SHORT_S),
    "pause reader": (_pausing("reader"), SHORT_S),
    "cut off from primary": (_cut_link, SHORT_S),
    "cut off from store": (_cut_store, PAST_LEASE_S),
    "store away": (_store(RESET), SHORT_S),
    "store slow": (_store(delaying(0.3)), SHORT_S),
    "store answers 500": (
        _store(answering("500 Internal Server Error", "InternalError", "An error.")),
        SHORT_S,
    ),
    "store answers 503": (_store(answering("503 Slow Down", "SlowDown", "Slower.")), SHORT_S),
    "fill primary's disk": (_fill(NODES), SHORT_S),
    "fill reader's disk": (_fill(READERS), SHORT_S),
    "lose primary and volume": (_lose_primary, SHORT_S),
    "lose reader and volume": (_lose_reader, SHORT_S),
    "second primary": (_second_primary, PAST_LEASE_S),
}
ONLY_S3 = frozenset({"store slow", "store answers 500", "store answers 503"})
