"""How settings are declared and read: a dataclass, whose fields say their limits.

Click's types check the values. A library that validates models took 12 MB of each process.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NewType, TypeVar, get_args, get_type_hints

import click

from headrace.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Command = TypeVar("Command", bound=Callable[..., Any])
Settings = TypeVar("Settings")

Bytes = NewType("Bytes", int)
Texts = tuple[str, ...]  # a flag that is given several times; in a variable, spaces are between

VARIABLE_PREFIX = "HEADRACE_"
HIDDEN = "(hidden)"  # instead of a secret
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])?(i)?b?)?\s*", re.IGNORECASE)
_POWERS = {unit: power for power, unit in enumerate("kmgt", 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting of a kind, as its dataclass declares it."""

    name: str
    kind: Any
    default: Any
    description: str
    limits: dict[str, Any]
    secret: bool
    decode_table: Callable[[Any], Any] | None
    show: Callable[[str], str] | None

    @property
    def flag(self) -> str:
        """Of the commands."""
        return flag_of(self.name)

    @property
    def variable(self) -> str:
        """Of the environment."""
        return variable_of(self.name)

    @property
    def has_flag(self) -> bool:
        """Secrets show in process lists, and tables are not written in one word."""
        return not self.secret and self.decode_table is None

    def decode(self, value: Any) -> Any:
        """Read a value, whatever form it came in.

        Raises:
            ConfigError: It does not fit; says why.
        """
        if self.decode_table is not None:
            return self.decode_table(value)
        if self.kind == Texts:
            return tuple(map(self._checked, _decode_texts(self.flag, value)))
        try:
            if not isinstance(value, str | int | float | Path):
                raise click.BadParameter(f"{value!r} is not one value")
            decoded = _type_of(self.kind, self.limits).convert(str(value), None, None)
        except click.BadParameter as exc:
            why = exc.message.rstrip(".")
            raise ConfigError(f"cannot use {self.flag} ({self.variable}): {why}") from exc
        return self._checked(decoded)

    def _checked(self, value: Any) -> Any:
        """Give the value if it can be shown; what cannot be used cannot be."""
        if self.show is not None:
            self.show(value)
        return value


def setting(
    default: Any,
    *,
    description: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    secret: bool = False,
    decode_table: Callable[[Any], Any] | None = None,
    show: Callable[[str], str] | None = None,
) -> Any:
    """Declare a field of a dataclass of settings.

    Args:
        default: What is in force if nobody says anything.
        description: For ``--help``.
        ge: Least value.
        gt: What the value must be greater than.
        le: Greatest value.
        secret: Read from the environment only, and never printed.
        decode_table: Reads a table of the file, or the text of a variable; it has no flag then.
        show: Gives what may be printed of a text, if some of it may be a secret; raises ConfigError
            if the text cannot be used.
    """
    least = ge if gt is None else gt
    limits = {"min": least, "max": le, "min_open": gt is not None}
    said = {
        "description": description,
        "limits": limits,
        "secret": secret,
        "decode_table": decode_table,
        "show": show,
    }
    if decode_table is not None:
        return field(default_factory=lambda: default, metadata=said)
    return field(default=default, repr=not secret, metadata=said)


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """A setting that is in force.

    Attributes:
        name: As the file has it.
        value: As a flag has it; None where there is none; what may be a secret is hidden.
        origin: The flag, the variable or the file that says so; else "default".
    """

    name: str
    value: str | None
    origin: str


def list_in_force(settings: Any, origins: Mapping[str, str]) -> list[InForce]:
    """List the settings that are in force, in the order in which they are declared.

    Args:
        settings: All of a kind.
        origins: Where each comes from that is not a default.
    """
    return [
        InForce(
            name=each.name,
            value=_shown(each, getattr(settings, each.name)),
            origin=origins.get(each.name, "default"),
        )
        for each in settings_of(type(settings))
    ]


def _shown(each: Setting, value: Any) -> str | None:
    if value in (None, (), {}, ""):
        return None
    if each.secret:
        return HIDDEN
    parts = value if isinstance(value, tuple | dict) else (_written(value),)
    return " ".join(parts if each.show is None else map(each.show, parts))


def flag_of(name: str) -> str:
    """Give the flag of a setting."""
    return f"--{name.replace('_', '-')}"


def variable_of(name: str) -> str:
    """Give the variable of a setting."""
    return VARIABLE_PREFIX + name.upper()


def names_of(*kinds: type) -> list[str]:
    """List the names of settings, in the order in which they are declared."""
    return list(dict.fromkeys(each.name for kind in kinds for each in settings_of(kind)))


def read_environment(kind: type) -> dict[str, str]:
    """Give what the environment says, by the settings' names."""
    return {
        each.name: os.environ[each.variable]
        for each in settings_of(kind)
        if each.variable in os.environ
    }


def decode_settings(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Build settings out of values, whatever form they came in; others are not looked at.

    Raises:
        ConfigError: A value does not fit; says which.
    """
    known = [each for each in settings_of(kind) if each.name in values]
    return kind(**{each.name: each.decode(values[each.name]) for each in known})


def options_of(kind: type) -> Callable[[Command], Command]:
    """Give a command one flag for every setting, so that both have one source."""

    def decorate(command: Command) -> Command:
        for each in reversed(settings_of(kind)):
            if not each.has_flag:
                continue
            said = each.default not in (None, ())
            default = f"  [default: {_written(each.default)}]" if said else ""
            command = click.option(
                each.flag,
                each.name,
                default=None,
                multiple=each.kind == Texts,
                metavar="on|off" if each.kind is bool else None,
                help=f"{each.description}{default}",
            )(command)
        return command

    return decorate


def as_flags(settings: Any, names: Iterable[str]) -> list[str]:
    """Give the flags that hand settings on to a child process."""
    flags = {each.name: each.flag for each in settings_of(type(settings))}
    parts: list[str] = []
    for name in names:
        value = getattr(settings, name)
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None:
                parts += [flags[name], _written(each)]
    return parts


def _written(value: Any) -> str:
    """Give a value as a flag has it."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def settings_of(kind: type) -> list[Setting]:
    """List the settings of a kind, in the order in which they are declared."""
    hints = get_type_hints(kind)
    return [
        Setting(
            name=each.name,
            kind=_without_none(hints[each.name]),
            default=each.default,
            **each.metadata,
        )
        for each in fields(kind)
    ]


def _decode_texts(flag: str, value: Any) -> tuple[str, ...]:
    texts = value.split() if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(each, str) for each in texts):
        raise ConfigError(f"cannot use {flag}: it is no list of texts")
    return tuple(texts)


def _without_none(hint: Any) -> Any:
    kinds = [each for each in get_args(hint) if each is not type(None)]
    return kinds[0] if len(kinds) == 1 else hint


def _type_of(kind: Any, limits: dict[str, Any]) -> click.ParamType[Any]:
    simple: dict[Any, click.ParamType[Any]] = {
        bool: click.BOOL,
        str: click.STRING,
        Path: click.Path(path_type=Path),
    }
    ranges: dict[Any, type[click.ParamType[Any]]] = {
        int: click.IntRange,
        float: _FloatRange,
        Bytes: _BytesRange,
    }
    return ranges[kind](**limits) if kind in ranges else simple[kind]


class _FloatRange(click.FloatRange):
    """A number; NaN is in every range for click."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a valid number", param, ctx)
        return number


class _BytesRange(click.IntRange):
    """A size, with or without a unit: ``512MiB``, ``1.5 GB``."""

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        parts = _SIZE.fullmatch(str(value))
        if parts is None:
            self.fail(f"{value!r} is not a valid size", param, ctx)
        number, unit, binary = parts.groups()
        base = 1024 if binary else 1000
        size = float(number) * base ** _POWERS[unit.lower()] if unit else float(number)
        converted: int = super().convert(int(size), param, ctx)
        return converted
