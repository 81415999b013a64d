"""Which converters there are: what each recognises, and how its function is found.

A converter names its functions, and does not hold them: so the service, which only looks at the
beginning of a file, imports nothing that reads files, and the converter's process imports only what
it needs.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from headrace.errors import ConfigError, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_REFERENCE = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<function>[A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Converter:
    """A kind of file, and what turns one into a staging database.

    Attributes:
        name: What the receipt calls the format: lower case letters, digits, ``_`` and ``-``.
        convert: ``module:function``, a function that is given a ``Conversion`` and returns a
            ``Converted``. Imported and called in the converter's process only.
        match: Names of files that promise it, as the shell writes them (``*.dbf``); upper and
            lower case are the same.
        media_types: Media types that promise it, lower case.
        recognise: ``module:function``, a function that is given the first 256 KiB of a file, and
            the same as text (None if it is no text), and says whether the file is one. Built-in
            ones are called in the service, others in a process that ends after a few seconds:
            quick, light, and never trusting what it reads.
        settings: What the function finds as ``conversion.settings``; must fit into JSON.
    """

    name: str
    convert: str
    match: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()
    recognise: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """The converters of this installation.

    Attributes:
        built_in: Headrace's own.
        added: By configuration and by plugins; they are asked first.
    """

    built_in: tuple[Converter, ...]
    added: tuple[Converter, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The formats that can be converted."""
        return tuple(converter.name for converter in (*self.built_in, *self.added))

    @property
    def endings(self) -> tuple[str, ...]:
        """How the names of files end that can be converted: ``.csv``; or what they are like."""
        patterns = {each for known in (*self.built_in, *self.added) for each in known.match}
        return tuple(sorted(each.removeprefix("*") for each in patterns))

    def get(self, name: str) -> Converter:
        """Give the converter of a format.

        Raises:
            Refusal: ``unknown-format``.
        """
        for converter in (*self.built_in, *self.added):
            if converter.name == name:
                return converter
        raise Refusal(
            "unknown-format",
            f"there is no converter for {name!r}",
            extra={"known": list(self.names)},
        )


def find_promised(
    converters: Iterable[Converter], filename: str, media_type: str | None
) -> Converter | None:
    """Find the converter that a file's name promises, else the one that its media type does."""
    known = tuple(converters)
    name = PurePosixPath(filename.replace("\\", "/")).name.lower()
    stated = (media_type or "").partition(";")[0].strip().lower()
    by_name = (
        converter
        for converter in known
        if any(fnmatchcase(name, pattern.lower()) for pattern in converter.match)
    )
    by_type = (converter for converter in known if stated in converter.media_types)
    return next(by_name, None) or next(by_type, None)


def load_function(reference: str) -> Callable[..., Any]:
    """Import the function that ``module:function`` names.

    Raises:
        ConfigError: It is no such reference, or there is no such function.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ConfigError(f"cannot read {reference!r}", hint="write module:function")
    function = getattr(importlib.import_module(match["module"]), match["function"], None)
    if not callable(function):
        raise ConfigError(f"find no function {reference!r}")
    loaded: Callable[..., Any] = function
    return loaded


def check_converter(converter: object, taken: Iterable[str]) -> Converter:
    """Return a converter that somebody added, if it can work.

    Args:
        converter: What a plugin or the configuration gives.
        taken: Names that others have.

    Raises:
        ConfigError: It cannot; says why.
    """
    if not isinstance(converter, Converter):
        raise ConfigError(f"cannot use a {type(converter).__name__}: it is no Converter")
    name = converter.name
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"cannot call a converter {name!r}",
            hint="use lower case letters, digits, '_' and '-'",
        )
    if name in taken:
        raise ConfigError(f"cannot add the converter {name!r}: there is one of that name")
    for words in (converter.match, converter.media_types):
        if not isinstance(words, tuple) or not all(isinstance(word, str) for word in words):
            raise ConfigError(f"converter {name!r}: match and media_types are tuples of strings")
    if not converter.match and not converter.media_types and converter.recognise is None:
        raise ConfigError(f"converter {name!r}: nothing says which files it is for")
    _check_importable(converter)
    return converter


def _check_importable(converter: Converter) -> None:
    """Find a wrong reference when it is added, and not at the first file."""
    match = _REFERENCE.fullmatch(str(converter.convert))
    if match is None:
        raise ConfigError(
            f"converter {converter.name!r}: cannot read convert={converter.convert!r}",
            hint="write module:function",
        )
    try:
        found = find_spec(match["module"])
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError(f"converter {converter.name!r}: find no module {match['module']!r}")
    if converter.recognise is not None:
        load_function(converter.recognise)
