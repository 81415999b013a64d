"""Writes what docs/reference/commands.md has of the commands' own help: ``make docs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli import main
from headrace.exits import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).with_name("commands.md")
BEGIN = "<!-- made by `make docs` from here -->\n"
WIDTH = 100  # characters
ELSEWHERE = frozenset({"up", "ingest", "serve"})  # their options are in configuration.md


def made() -> str:
    """Give the part of the page that is made."""
    codes = "".join(f"| {code.value} | {meaning} |\n" for code, meaning in MEANINGS.items())
    parts = [f"## Exit codes\n\n| code | when |\n|---|---|\n{codes}"]
    parts += [f"## {name}\n\n```text\n{text}\n```\n" for name, text in _helps(main, "headrace")]
    return "\n".join(parts)


def _helps(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """Give the name and the help of a command, and of those below it."""
    if isinstance(command, click.Group):
        for each in sorted(command.commands.keys() - ELSEWHERE):
            yield from _helps(command.commands[each], f"{name} {each}")
        return
    context = click.Context(command, info_name=name, terminal_width=WIDTH, color=False)
    lines = command.get_help(context).splitlines()
    yield name, "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    written, begin, _made = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{written}{begin or BEGIN}\n{made()}")
