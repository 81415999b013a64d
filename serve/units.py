"""Datasette's units of measurement, loaded when the first one is needed.

Datasette 0.65 loads its copy of pint, and the definitions of all units, at its start. That is 7 MB
and 0.2 s, for a feature that few configurations use. So another module stands in for it until then.
Datasette 1.0 has no units.

Source: datasette 0.65.5, ``datasette/views/base.py``, ``ureg``; ``datasette/views/table.py``.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from serve.deferred import Deferred, load

if TYPE_CHECKING:
    from pathlib import Path

PINT = "datasette.vendored.pint"


def defer_units() -> None:
    """Stand in for pint; to be called before Datasette is imported."""
    if PINT not in sys.modules:
        sys.modules[PINT] = _StandIn(PINT)


def load_units_for(folder: Path) -> bool:
    """Load them now, if the metadata in a configuration directory names any; tell whether."""
    ureg = _find_registry()
    if ureg is None or ureg.loaded or not any(map(_names_units, folder.glob("metadata.*"))):
        return False
    ureg.load()
    return True


def _names_units(metadata: Path) -> bool:
    try:
        return b"units" in metadata.read_bytes()
    except OSError:  # Datasette says what is wrong with it
        return False


def load_units() -> None:
    """Load them now: where a database that is attached names some, and before a page needs them."""
    if (ureg := _find_registry()) is not None:
        ureg.load()


def _find_registry() -> _Registry | None:
    """Find Datasette's registry of units, where it is the one that stands in for it."""
    ureg = getattr(import_module("datasette.views.base"), "ureg", None)
    return ureg if isinstance(ureg, _Registry) else None


class _StandIn(Deferred):
    """Makes registries that load pint when they are used; all else loads it at once."""

    def __getattr__(self, name: str) -> Any:
        return partial(_Registry, self) if name == "UnitRegistry" else super().__getattr__(name)


class _Registry:
    """A registry of units, of which Datasette has one."""

    def __init__(self, pint: Deferred, *arguments: Any, **options: Any) -> None:
        self._pint = pint
        self._arguments = arguments
        self._options = options
        self._registry: Any = None

    @property
    def loaded(self) -> bool:
        """Whether it has been used."""
        return self._registry is not None

    def load(self) -> Any:
        """Give pint's registry."""
        if self._registry is None:
            self._registry = load(self._pint).UnitRegistry(*self._arguments, **self._options)
        return self._registry

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.load()(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.load(), name)
