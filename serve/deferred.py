"""Modules that Datasette imports at its start and few workers use: loaded when they are used.

Each is memory of the nursery, whatever is done with it. ``importlib.util.LazyLoader`` is not
enough: in Python 3.11 a second ``import`` of such a module loads it.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# httpx (1.0: httpx2) is Datasette's client for requests to itself, which plugins make; pdb is for
# --pdb; yaml is for metadata in YAML.
DEFERRED = ("httpx", "httpx2", "pdb", "yaml")
_ASKED_OF_MODULES = frozenset({"__all__", "__version__"})  # with underscores, by who uses one


def defer_modules() -> None:
    """Stand in for them; to be called before Datasette is imported."""
    for name in DEFERRED:
        if name not in sys.modules and (spec := find_spec(name)) is not None:
            module = Deferred(name)
            module.__spec__, module.__file__ = spec, spec.origin
            if spec.submodule_search_locations is not None:
                module.__path__ = spec.submodule_search_locations
            sys.modules[name] = module


def load_yaml_for(folder: Path) -> bool:
    """Load yaml now, if the metadata in a configuration directory is in it; tell whether."""
    module = sys.modules.get("yaml")
    if not isinstance(module, Deferred) or not any(folder.glob("metadata.y*ml")):
        return False
    load(module)
    return True


class Deferred(ModuleType):
    """Stands in for a module until something of it is used."""

    _deferred_module: ModuleType | None = None  # the real one

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in _ASKED_OF_MODULES:  # by the import system
            raise AttributeError(name)
        return getattr(load(self), name)


def load(module: Deferred) -> ModuleType:
    """Load the real module, and let it take its own place."""
    real = module._deferred_module  # noqa: SLF001 - a method would hide a name of the real one
    if real is None:
        if sys.modules.get(module.__name__) is module:
            del sys.modules[module.__name__]
        real = module._deferred_module = importlib.import_module(module.__name__)  # noqa: SLF001
        for name, value in list(vars(module).items()):  # submodules that were imported before it
            if isinstance(value, ModuleType) and name != "_deferred_module":
                setattr(real, name, value)
    return real
