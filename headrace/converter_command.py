"""A program that converts a file to a SQLite database, as the configuration names it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from headrace.errors import ConfigError

PLACEHOLDERS = ("input", "output", "table")
_REQUIRED = ("input", "output")
_FIELDS = ("match", "command")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConverterCommand:
    """``[converters.NAME]`` of ``headrace.toml``.

    Attributes:
        match: Patterns of the names of the files that it converts; at least one.
        command: Program and arguments, with placeholders.
    """

    match: tuple[str, ...]
    command: str

    def arguments(self) -> tuple[str, ...]:
        """Give the program's path and its arguments, with placeholders in them.

        Raises:
            ValueError: The program is not there (any more).
        """
        return split_command(self.command)


def decode_commands(tables: Any) -> dict[str, ConverterCommand]:
    """Read ``[converters]`` of the file, or the JSON form of it.

    Raises:
        ConfigError: Something in it does not fit; says what.
    """
    if isinstance(tables, str):
        try:
            tables = json.loads(tables)
        except ValueError as exc:
            raise ConfigError(f"cannot read converters (HEADRACE_CONVERTERS): {exc}") from exc
    if not isinstance(tables, dict):
        raise ConfigError("cannot use converters: it is not a table of tables")
    return {name: _decode_command(f"[converters.{name}]", each) for name, each in tables.items()}


def _decode_command(place: str, table: Any) -> ConverterCommand:
    if not isinstance(table, dict):
        raise ConfigError(f"cannot use {place}: it is not a table")
    for name in (*_FIELDS, *table):
        if name not in table:
            raise ConfigError(f"cannot use {place} {name}: field required")
        if name not in _FIELDS:
            raise ConfigError(f"cannot use {place} {name}: there is no such field")
    match, command = table["match"], table["command"]
    patterns = [match] if isinstance(match, str) else match
    if not isinstance(patterns, list) or not patterns or not all(map(_is_text, patterns)):
        raise ConfigError(f"cannot use {place} match: it is neither a pattern nor a list of them")
    if not _is_text(command):
        raise ConfigError(f"cannot use {place} command: it is not a text")
    try:
        split_command(command)
    except ValueError as exc:
        raise ConfigError(f"cannot use {place} command: {exc}") from exc
    return ConverterCommand(match=tuple(patterns), command=command)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def split_command(command: str) -> tuple[str, ...]:
    """Split a command as a shell does; none is ever started.

    Raises:
        ValueError: A placeholder is unknown or missing, or there is no such program.
    """
    arguments = shlex.split(command)
    if not arguments:
        raise ValueError("the command is empty")
    used = {name for argument in arguments for name in _placeholders(argument)}
    for name in used:
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{each}}}" for each in PLACEHOLDERS)
            raise ValueError(f"{{{name}}} is not known: there are {known}")
    for name in _REQUIRED:
        if name not in used:
            raise ValueError(f"{{{name}}} is missing")
    return (_find_program(arguments[0]), *arguments[1:])


def program_path() -> str:
    """Give where programs are looked for: beside our own Python first, as ``pip`` installs them."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _find_program(name: str) -> str:
    found = shutil.which(name, path=program_path())
    if found is None:
        raise ValueError(f"find no program {name!r}")
    return str(Path(found).absolute())


def _placeholders(argument: str) -> list[str]:
    """List the placeholders of one argument; ``{{`` and ``}}`` stand for braces."""
    names = []
    for _text, name, form, conversion in Formatter().parse(argument):
        if form or conversion:
            raise ValueError(f"{argument!r} has more than a name between braces")
        if name is not None:
            names.append(name)
    return names
