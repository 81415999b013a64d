"""Where a person's files are kept. Source: the XDG Base Directory Specification, version 0.8."""

from __future__ import annotations

import os
from pathlib import Path

NAME = "headrace"


def state_folder() -> Path:
    """Give the folder of what outlives a command: it can be made anew."""
    return _folder("XDG_STATE_HOME", ".local/state")


def config_folder() -> Path:
    """Give the folder of what a person has set."""
    return _folder("XDG_CONFIG_HOME", ".config")


def _folder(variable: str, default: str) -> Path:
    named = Path(os.environ.get(variable, ""))
    # "All paths must be absolute": others are to be ignored.
    return (named if named.is_absolute() else Path.home() / default) / NAME
