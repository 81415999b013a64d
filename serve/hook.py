"""What the operator wants done after each switch: ``--on-generation``.

A command for the shell, or ``python:module:function``. It never is in the way: runs follow one
another, and a run that is due while another runs is for the newest generation then.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from headrace.config import PYTHON
from headrace.environment import without_secrets
from headrace.errors import ConfigError
from headrace.leash import leashed

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.generation import State
    from serve.metrics import ReaderMetrics

    Function = Callable[[dict[str, str]], object]

log = structlog.get_logger()

LONGEST_LIST_BYTES = 100_000  # the kernel takes at most 128 KiB a variable (execve(2))
TOO_MANY = "*"  # instead of a list that is longer: take it that all have changed
MOST_CALLS = 8  # of a function at once: all but the newest of them hang


class GenerationHook:
    """Runs the operator's command or function for each generation that comes into service.

    Args:
        command: The command, or ``python:module:function``; None for nothing.
        metrics: Counts runs.
        deadline_s: For one run.

    Raises:
        ConfigError: The function is not there.
    """

    def __init__(self, command: str | None, metrics: ReaderMetrics, *, deadline_s: float) -> None:
        self._command = command
        self._function = None
        if command is not None and command.startswith(PYTHON):
            self._function = _find_function(command)
        self._metrics = metrics
        self._deadline_s = deadline_s
        self._told: State | None = None
        self._newest: State | None = None
        self._due = asyncio.Event()
        self._calls: list[threading.Thread] = []

    def notify(self, state: State) -> None:
        """Have a run, soon, for a generation that has come into service."""
        self._newest = state
        self._due.set()

    async def run(self) -> None:
        """Run what is due until cancelled."""
        while self._command is not None:
            await self._due.wait()
            self._due.clear()
            if self._newest is None:
                continue
            told, self._told = self._told, self._newest
            facts = describe_switch(told, self._newest)
            outcome = await self._run_once(self._command, facts)
            self._metrics.hook_runs.labels(outcome).inc()

    async def _run_once(self, command: str, facts: dict[str, str]) -> str:
        generation = facts["HEADRACE_GENERATION"]
        try:
            if self._function is not None:
                async with asyncio.timeout(self._deadline_s):
                    await self._call(self._function, facts)
            else:
                status = await _run_command(command, facts, self._deadline_s)
                if status != 0:
                    log.warning("hook failed", generation=generation, exit_status=status)
                    return "failed"
        except TimeoutError:
            log.warning(
                "hook cut short",
                generation=generation,
                deadline_s=self._deadline_s,
                hanging=sum(each.is_alive() for each in self._calls),
            )
            return "late"
        except Exception as exc:
            log.exception("hook failed", generation=generation, reason=str(exc))
            return "failed"
        log.info("hook done", generation=generation)
        return "ok"

    async def _call(self, function: Function, facts: dict[str, str]) -> None:
        """Call the function in a thread of its own, which a hung call keeps for ever.

        The reader's other work never waits for such a thread, and its process ends without it.

        Raises:
            TimeoutError: As many calls hang as may.
        """
        self._calls = [each for each in self._calls if each.is_alive()]
        if len(self._calls) >= MOST_CALLS:
            raise TimeoutError
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def end(error: Exception | None) -> None:
            if ended.done():  # given up
                return
            if error is None:
                ended.set_result(None)
            else:
                ended.set_exception(error)

        def call() -> None:
            error = None
            try:
                function(facts)
            except Exception as exc:  # noqa: BLE001 - told below
                error = exc
            except BaseException as exc:  # noqa: BLE001 - one that would end the reader
                error = RuntimeError(f"{type(exc).__name__}: {exc}")
            with suppress(RuntimeError):  # the reader has ended meanwhile
                loop.call_soon_threadsafe(end, error)

        thread = threading.Thread(target=call, name="on-generation", daemon=True)
        thread.start()
        self._calls.append(thread)
        await ended


def describe_switch(old: State | None, new: State) -> dict[str, str]:
    """Give what a hook is told, as environment variables.

    Args:
        old: What the hook was told of before; None if nothing since the start.
        new: What is in service.
    """
    before = {} if old is None else old.databases
    changed = [name for name, cut in new.databases.items() if before.get(name) != cut]
    return {
        "HEADRACE_GENERATION": str(new.number),
        "HEADRACE_PREVIOUS_GENERATION": "" if old is None else str(old.number),
        "HEADRACE_CHANGED_DATABASES": _join(changed),
        "HEADRACE_REMOVED_DATABASES": _join([n for n in before if n not in new.databases]),
    }


def _join(names: list[str]) -> str:
    joined = ",".join(names)
    return joined if len(joined.encode()) <= LONGEST_LIST_BYTES else TOO_MANY


def _find_function(reference: str) -> Function:
    module, _, name = reference.removeprefix(PYTHON).partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ConfigError(
            f"cannot use --on-generation {reference}: {exc}", hint="python:module:function"
        ) from exc
    if not callable(function):
        raise ConfigError(f"cannot use --on-generation {reference}: it is not callable")
    found: Function = function
    return found


async def _run_command(command: str, facts: dict[str, str], deadline_s: float) -> int:
    process = await asyncio.create_subprocess_exec(
        *leashed("/bin/sh", "-c", command),
        env={**without_secrets(), **facts},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # a group of its own: it is killed with all that it started
    )
    try:
        async with asyncio.timeout(deadline_s):
            return await process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
