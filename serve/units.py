"""Datasette's units of measurement, loaded when the first one is needed.

Datasette loads its copy of pint, and the definitions of all units, at its start. That is 7 MB and
0.2 s, for a feature that few configurations use. So another module stands in for it until then.

Source: datasette 0.65.5, ``datasette/views/base.py``, ``ureg``; ``datasette/views/table.py``.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PINT = "datasette.vendored.pint"


def defer_units() -> None:
    """Stand in for pint; to be called before Datasette is imported."""
    if PINT not in sys.modules:
        sys.modules[PINT] = _StandIn(PINT)


def load_units_for(folder: Path) -> bool:
    """Load them now, if the metadata in a configuration directory names any; tell whether."""
    if _load_registry.cache_info().currsize or not any(
        map(_names_units, folder.glob("metadata.*"))
    ):
        return False
    _load_registry()
    return True


def _names_units(metadata: Path) -> bool:
    try:
        return b"units" in metadata.read_bytes()
    except OSError:  # Datasette says what is wrong with it
        return False


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system asks for
            raise AttributeError(name)
        return _Registry if name == "UnitRegistry" else getattr(_load_pint(), name)


class _Registry:
    """Datasette's one registry of units."""

    def __call__(self, *arguments: Any) -> Any:
        return _load_registry()(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(_load_registry(), name)


@cache
def _load_registry() -> Any:
    return _load_pint().UnitRegistry()


@cache
def _load_pint() -> Any:
    del sys.modules[PINT]
    return importlib.import_module(PINT)
