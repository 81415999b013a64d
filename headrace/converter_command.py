"""A program that converts a file to a SQLite database, as the configuration names it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from string import Formatter
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

PLACEHOLDERS = ("input", "output", "table")
_REQUIRED = ("input", "output")


class ConverterCommand(BaseModel):
    """``[converters.NAME]`` of ``headrace.toml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: Annotated[
        tuple[str, ...],
        Field(min_length=1),
        BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    ]
    command: str

    @field_validator("command")
    @classmethod
    def _check_command(cls, command: str) -> str:
        split_command(command)
        return command

    def arguments(self) -> tuple[str, ...]:
        """Give the program's path and its arguments, with placeholders in them.

        Raises:
            ValueError: The program is not there (any more).
        """
        return split_command(self.command)


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
