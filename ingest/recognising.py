"""Ask the converters that were added whether a file is theirs, in a process that can be ended.

What recognises a file is somebody else's code, on bytes that anybody may have sent. A regular
expression that goes on for years holds Python's own lock: no thread of the service would run.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from headrace.leash import die_with_parent
from ingest.converters.registry import Converter, load_function

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ingest.detect import Failure

TIMEOUT_S = 5.0  # for all of them, until one of them is too late
MEMORY_BYTES = 1024**3


class RecogniseError(Exception):
    """The name of what a converter's function raised, or that it gave no answer."""


def ask_apart(
    converters: Sequence[Converter],
    head: bytes,
    text: str | None,
    on_failure: Failure,
    *,
    environment: Callable[[], dict[str, str]],
    timeout_s: float = TIMEOUT_S,
) -> str | None:
    """Ask converters one after the other, in a process of its own; give the first that says yes.

    Args:
        converters: Those that have a function for it.
        head: The first bytes of the file.
        text: The same as text, if it is any.
        on_failure: Called for each whose function raised or was too late; it is passed over.
        environment: Makes the environment of the process.
        timeout_s: What the process may take; whoever it is at then is too late.
    """
    left = list(converters)
    while left:
        answers = _run(left, head, text, environment(), timeout_s)
        for converter, (recognised, error) in zip(left, answers, strict=False):
            if recognised:
                return converter.name
            if error:
                on_failure(converter, RecogniseError(error))
        if len(answers) < len(left):
            reason = f"no answer within {timeout_s:g} s, or the process ended"
            on_failure(left[len(answers)], RecogniseError(reason))
        left = left[len(answers) + 1 :]
    return None


def _run(
    converters: Sequence[Converter],
    head: bytes,
    text: str | None,
    environment: dict[str, str],
    timeout_s: float,
) -> list[tuple[bool, str]]:
    """Ask in a new process; give the answers until it ended: yes or no, and an error."""
    request = {
        "parent_pid": os.getpid(),
        "functions": [converter.recognise for converter in converters],
        "head": base64.b64encode(head).decode(),
        "text": text,
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-s", "-m", "ingest.recognising"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # a group of its own, to be killed as one
    )
    try:
        said, _ = process.communicate(json.dumps(request).encode(), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process.pid)
        said, _ = process.communicate()
    finally:
        _kill(process.pid)
        process.wait()
    lines = said.decode().splitlines()
    return [(bool(line["recognised"]), str(line["error"])) for line in map(json.loads, lines)]


def _kill(group: int) -> None:
    with suppress(ProcessLookupError):  # also what it left behind when it ended
        os.killpg(group, signal.SIGKILL)


def main() -> None:
    """Answer for one function after the other, until one says yes; in the process of its own."""
    request = json.load(sys.stdin)
    die_with_parent(request["parent_pid"])
    with suppress(ValueError):  # it is lower already
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what somebody's code prints is no answer
    head = base64.b64decode(request["head"])
    for function in request["functions"]:
        recognised, error = False, ""
        try:
            recognised = bool(load_function(function)(head, request["text"]))
        except Exception as exc:  # noqa: BLE001 - somebody else's code
            error = type(exc).__name__  # not its message: it may hold what the file does
        print(json.dumps({"recognised": recognised, "error": error}), file=answers, flush=True)
        if recognised:
            break


if __name__ == "__main__":
    main()
