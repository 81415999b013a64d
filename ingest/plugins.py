"""Plugins: converters that other packages bring along, found through pluggy.

A plugin is a package with an entry point in the group ``headrace``, whose module implements
``register_converters``. All that one needs is imported from here::

    from ingest.plugins import Conversion, Converted, Converter, Refusal, TableRows, hookimpl

The names are documented in ``docs/reference/plugins.md``.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pluggy

from headrace.config import ConverterSettings
from headrace.errors import ConfigError, Refusal
from ingest import hookspecs
from ingest.converters import BUILT_IN, Conversion, Converted, TableRows
from ingest.converters.registry import Converter, Registry, check_converter
from ingest.hookspecs import PROJECT, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.metadata import EntryPoint

__all__ = [
    "Conversion",
    "Converted",
    "Converter",
    "Refusal",
    "TableRows",
    "hookimpl",
    "load_registry",
]


def load_registry(
    configured: Iterable[Converter], on_failure: Callable[[str, BaseException], None]
) -> Registry:
    """Collect the converters: built-in ones, those of the configuration, those of plugins.

    Args:
        configured: Converters that the configuration names; they are asked before plugins'.
        on_failure: Called with the name of each plugin that cannot be used, and why: it is left
            out, and the others go on.

    Raises:
        ConfigError: A converter of the configuration cannot work.
    """
    registry = _add(BUILT_IN, configured)
    plugins = pluggy.PluginManager(PROJECT)
    plugins.add_hookspecs(hookspecs)
    for point in sorted(entry_points(group=PROJECT), key=lambda point: point.name):
        try:
            registry = _add(registry, _ask(plugins, point))
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever somebody's module raises
            on_failure(point.name, exc)
    return registry


def configured(settings: ConverterSettings) -> list[Converter]:
    """Give the converters that are programs of the configuration."""
    return [
        Converter(
            name=name,
            convert="ingest.converters.command:convert",
            match=each.match,
            settings={"command": each.arguments()},
        )
        for name, each in settings.converters.items()
    ]


def list_added(settings: object) -> list[tuple[str, str]]:
    """List the converters that a node adds, each with what is wrong with it, or "".

    Raises:
        ConfigError: A converter of the configuration cannot work.
    """
    if not isinstance(settings, ConverterSettings):
        return []
    faults: list[tuple[str, str]] = []
    added = load_registry(
        configured(settings), lambda name, exc: faults.append((name, str(exc) or repr(exc)))
    ).added
    return [*((each.name, "") for each in added), *faults]


def _add(registry: Registry, converters: Iterable[Converter]) -> Registry:
    """Add converters to a registry, all or none."""
    for converter in converters:
        checked = check_converter(converter, registry.names)
        registry = replace(registry, added=(*registry.added, checked))
    return registry


def _ask(plugins: pluggy.PluginManager, point: EntryPoint) -> list[Converter]:
    """Import one plugin, and ask it for its converters."""
    plugin = point.load()
    plugins.register(plugin, name=point.name)
    for caller in plugins.get_hookcallers(plugin) or ():
        if not caller.has_spec():
            raise ConfigError(f"find no hook {caller.name!r}")
    others = [each for each in plugins.get_plugins() if each is not plugin]
    answers = plugins.subset_hook_caller("register_converters", others)()
    return [converter for answer in answers for converter in answer]
