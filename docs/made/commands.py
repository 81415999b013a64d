"""The commands, in the words of their own help."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from docs.made.table import table
from headrace.cli import main
from headrace.exits import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 100  # characters
ELSEWHERE = frozenset({"up", "ingest", "serve"})  # what they take is in configuration.md


def exit_codes() -> str:
    """Give the table of exit codes."""
    rows = ((str(code.value), meaning) for code, meaning in MEANINGS.items())
    return table(("code", "when"), rows)


def helps() -> str:
    """Give a section for each command."""
    sections = (f"## {name}\n\n```text\n{text}\n```\n" for name, text in _helps(main, "headrace"))
    return "\n" + "\n".join(sections)


def _helps(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """Give the name and the help of a command; of a group those of the commands in it."""
    inner = command.commands if isinstance(command, click.Group) else {}
    if names := sorted(inner.keys() - ELSEWHERE):
        for each in names:
            yield from _helps(inner[each], f"{name} {each}")
        return
    context = click.Context(command, info_name=name, terminal_width=WIDTH, color=False)
    lines = command.get_help(context).splitlines()
    yield name, "\n".join(line.rstrip() for line in lines)
