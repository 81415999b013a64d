"""How the commands end that ask something of a server: the codes that scripts may rely on."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """An exit code."""

    DONE = 0
    FAILED = 1
    USAGE = 2  # click's own
    UNREACHABLE = 3
    NOT_ALLOWED = 4
    LATE = 5
    INTERRUPTED = 130  # as shells say it of SIGINT: 128 + 2


# The one table: docs/reference/commands.md is checked against it.
MEANINGS: dict[Exit, str] = {
    Exit.DONE: "all that was asked for is done",
    Exit.FAILED: "the server refused a file or could not take it, or something else went wrong",
    Exit.USAGE: "the command cannot be used like this: nothing was sent",
    Exit.UNREACHABLE: "the server could not be reached, for as long as `--retry-for` says",
    Exit.NOT_ALLOWED: "there is no token, or it may not do that (401, 403)",
    Exit.LATE: "a file was not where `--wait` says in time; what was taken goes on at the server",
    Exit.INTERRUPTED: "Ctrl-C: the same command goes on where it was",
}

# Of several files, the first of these that is one's end is the command's.
_WORST_FIRST = (Exit.NOT_ALLOWED, Exit.UNREACHABLE, Exit.LATE, Exit.FAILED)


def exit_of(ends: list[Exit]) -> Exit:
    """Give the exit code of a command that did several things."""
    return next((each for each in _WORST_FIRST if each in ends), Exit.DONE)
