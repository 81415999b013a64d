"""Every setting: its flag, its variable, its default, whose it is, and what it does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docs.made.table import code, phrase, table
from headrace.config import IngestSettings, ServeSettings, UpSettings
from headrace.settings import Bytes, Setting, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = {"up": UpSettings, "ingest": IngestSettings, "serve": ServeSettings}
NONE = "none"
_DEFAULT = re.compile(r" \(default: (.*)\)\.$")  # where none could be declared
_WORDS = re.compile(r"--[a-z-]+|(?<!\w)<[^ ]+>")  # that are code
_UNITS = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024}


def settings() -> str:
    """Give the table of all settings: first those of all commands, last those of one."""
    rows = sorted(_settings(), key=lambda kinds: -len(kinds))
    return table(("flag, variable", "default", "commands", "what"), map(_row, rows))


def _settings() -> Iterator[dict[str, Setting]]:
    """Give each setting, by the commands that have it."""
    known = {
        command: {each.name: each for each in settings_of(kind)}
        for command, kind in COMMANDS.items()
    }
    for name in dict.fromkeys(name for settings in known.values() for name in settings):
        yield {command: settings[name] for command, settings in known.items() if name in settings}


def _row(kinds: dict[str, Setting]) -> tuple[str, ...]:
    first = next(iter(kinds.values()))
    return (
        "<br>".join(map(code, [first.flag] * first.has_flag + [first.variable])),
        _defaults(kinds),
        "all" if len(kinds) == len(COMMANDS) else code(*kinds),
        _what(first),
    )


def _defaults(kinds: dict[str, Setting]) -> str:
    """Give the default, and that of each command that has another one."""
    written = {command: _default(each) for command, each in kinds.items()}
    first = next(iter(written.values()))
    others = (f"; `{command}`: {each}" for command, each in written.items() if each != first)
    return first + "".join(others)


def _default(each: Setting) -> str:
    if said := _DEFAULT.search(each.description):
        return said[1]
    default: Any = each.default
    if default in (None, "", ()) or each.decode_table is not None:
        return NONE
    if each.kind is Bytes:
        fitting = (
            f"{default // size} {unit}" for unit, size in _UNITS.items() if not default % size
        )
        return next(fitting, f"{default}")
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, float):
        return f"{default:.12g}"
    return code(str(default)) if isinstance(default, str | Path) else f"{default}"


def _what(each: Setting) -> str:
    text = phrase(_DEFAULT.sub(".", each.description))
    return _WORDS.sub(lambda found: code(found[0]), text)
