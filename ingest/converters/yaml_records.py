"""YAML: the same shapes as JSON, and several documents as rows; dates stay as they are written.

Values are typed as YAML 1.2's core schema does, and only where nothing is lost: ``no``, ``1_000``,
``0123``, ``12:30`` and dates are text. PyYAML's own loader follows YAML 1.1 and would change them.
"""

from __future__ import annotations

import gc
import re
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from headrace.errors import Refusal
from ingest.converters.encodings import reads_text
from ingest.converters.json_text import twice
from ingest.converters.lossless import INTEGER_PATTERN, REAL_PATTERN, parse_integer, parse_real
from ingest.converters.records import convert_document
from ingest.converters.text import bad_byte

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ingest.converters import Conversion, Converted

MAX_DEPTH = 200  # levels of nesting
MAX_EXPANDED_NODES = 1_000_000  # nodes that aliases may add to those in the file
_MERGE = "tag:yaml.org,2002:merge"


@reads_text
def convert(conversion: Conversion) -> Converted:
    """Convert a YAML file.

    Raises:
        Refusal: ``invalid-file`` with line and column, ``no-rows``, ``limit-exceeded``.
    """
    documents = [
        document
        for document in read_documents(conversion.input, conversion)
        if document not in (None, {}, [])
    ]
    if not documents:
        raise Refusal("no-rows", "the file holds no rows")
    conversion.begin("write")
    return convert_document(documents[0] if len(documents) == 1 else documents, conversion)


def read_documents(path: Path, conversion: Conversion) -> list[Any]:
    """Read the documents of a YAML file, and report how far that is."""
    with path.open("rb") as file:
        try:
            text = file.read().decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            raise bad_byte(path) from exc
    size_bytes = path.stat().st_size
    return load_documents(
        text,
        begin=conversion.begin,
        report=lambda share: conversion.report(0, int(size_bytes * share)),
    )


def load_documents(
    text: str,
    *,
    lines_before: int = 0,
    begin: Callable[[str], None] = lambda _step: None,
    report: Callable[[float], None] = lambda _share: None,
) -> list[Any]:
    """Load the documents of a YAML text.

    Args:
        text: The YAML.
        lines_before: How many lines of the file stand before the text, for the place of an error.
        begin: Called with each step.
        report: Called with the share that is done of it, from 0 to 1.

    Raises:
        Refusal: ``invalid-file`` with line and column; ``limit-exceeded``: nested too deeply, or
            aliases that would make too much of a small file.
    """
    try:
        begin("look")
        objects = _check_depth(text, report)
        begin("read")
        count = _Count(3 * objects, report)
        loader = _Loader(text, count)
        # All that is made is kept to the end: a pass of the collector finds nothing, and stops
        # the reports for up to a second.
        gc.disable()
        try:
            documents = []
            while loader.check_node():
                if (node := loader.get_node()) is not None:
                    _check_aliases(node, count)
                    documents.append(loader.construct_document(node))
            return documents
        finally:
            gc.enable()
            loader.dispose()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        raise Refusal(
            "invalid-file",
            f"the YAML is broken: {exc.problem or exc.context}",
            line=None if mark is None else mark.line + 1 + lines_before,
            column=None if mark is None else mark.column + 1,
        ) from exc
    except yaml.reader.ReaderError as exc:
        before = text[: exc.position] if isinstance(exc.position, int) else ""
        raise Refusal(
            "invalid-file",
            f"the YAML is broken: {exc.reason}",
            line=before.count("\n") + 1 + lines_before,
        ) from exc
    except yaml.YAMLError as exc:
        raise Refusal("invalid-file", "the YAML is broken") from exc


class _Count:
    """Counts objects as they are composed, checked and constructed; reports the share of all."""

    def __init__(self, of: int, report: Callable[[float], None]) -> None:
        self._done = 0
        self._of = max(of, 1)
        self._report = report

    def add(self) -> None:
        """Count one more; aliases may make them more than there are in the text."""
        self._done += 1
        self._report(min(1.0, self._done / self._of))


class _Loader(yaml.CSafeLoader):
    """libyaml's parser with only the types that a row can hold."""

    def __init__(self, text: str, count: _Count) -> None:
        super().__init__(text)
        self._count = count

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """Find the tag of a node, before it is composed."""
        if kind is yaml.MappingNode:
            self._count.add()
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]

    # Nothing of YAML 1.1 is inherited.
    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}  # type: ignore[misc]
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct an object; its keys are texts as they are written."""
        self._count.add()
        self.flatten_mapping(node)
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is not a scalar", key_node.start_mark
                )
            mapping[key_node.value] = self.construct_object(value_node, deep=deep)
        return mapping


def _number(_: _Loader, node: yaml.ScalarNode) -> int | float | str:
    """Construct a number, or the text where a number would lose some of it."""
    text: str = node.value
    integer = parse_integer(text)
    if integer is not None:
        return integer
    real = parse_real(text)
    return text if real is None else real


def _text(_: _Loader, node: yaml.ScalarNode) -> str:
    """Construct the text as it is written."""
    return str(node.value)


def _boolean(_: _Loader, node: yaml.ScalarNode) -> bool:
    """Construct a boolean."""
    return bool(node.value.lower() == "true")


def _null(_: _Loader, __: yaml.ScalarNode) -> None:
    """Construct a null."""


for _tag, _pattern, _first in (
    ("null", r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", INTEGER_PATTERN, list("-0123456789")),
    ("float", REAL_PATTERN, list("-0123456789")),
    ("merge", r"^(<<)$", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
for _tag, _construct in (
    ("null", _null),
    ("bool", _boolean),
    ("int", _number),
    ("float", _number),
    ("str", _text),
    ("timestamp", _text),
    ("binary", _text),
    ("seq", yaml.CSafeLoader.construct_yaml_seq),
    ("map", yaml.CSafeLoader.construct_yaml_map),
):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _construct)
_Loader.add_constructor(None, yaml.CSafeLoader.construct_undefined)  # type: ignore[type-var]


def _check_depth(text: str, report: Callable[[float], None]) -> int:
    """Refuse a text that is nested so deeply that composing it would exhaust the stack.

    Returns:
        How many objects it holds.
    """
    depth = objects = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.MappingStartEvent):
            objects += 1
            if event.start_mark is not None:
                report(event.start_mark.index / len(text))
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
            if depth > MAX_DEPTH:
                raise Refusal(
                    "limit-exceeded",
                    f"the YAML is nested more than {MAX_DEPTH} levels deep",
                    line=None if event.start_mark is None else event.start_mark.line + 1,
                    extra={"limit": "depth"},
                )
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1
    return objects


def _check_aliases(root: yaml.Node, count: _Count) -> None:
    """Refuse a document that aliases would blow up, or that contains itself."""
    sizes: dict[int, int] = {}
    expanded = _expanded_nodes(root, sizes, set(), count)
    if expanded - len(sizes) > MAX_EXPANDED_NODES:
        raise Refusal(
            "limit-exceeded",
            f"the aliases of the YAML add more than {MAX_EXPANDED_NODES:,} values",
            line=_line(root),
            extra={"limit": "aliases"},
        )


def _expanded_nodes(node: yaml.Node, sizes: dict[int, int], path: set[int], count: _Count) -> int:
    """Count the nodes that a node has when every alias is replaced by what it stands for."""
    key = id(node)
    if key in path:
        raise Refusal("invalid-file", "the YAML contains itself", line=_line(node))
    if key in sizes:
        return sizes[key]
    path.add(key)
    size = 1
    if isinstance(node, yaml.MappingNode):
        count.add()
        _check_keys(node)
        size += sum(
            _expanded_nodes(each, sizes, path, count) for pair in node.value for each in pair
        )
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_expanded_nodes(item, sizes, path, count) for item in node.value)
    path.discard(key)
    sizes[key] = size
    return size


def _check_keys(node: yaml.MappingNode) -> None:
    """Refuse an object that has a key twice: it would keep one of the values only."""
    keys = set()
    for key, _ in node.value:
        if key.tag == _MERGE or not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in keys:
            raise yaml.constructor.ConstructorError(None, None, twice(key.value), key.start_mark)
        keys.add(key.value)


def _line(node: yaml.Node) -> int | None:
    """Give the line that a node begins on."""
    return None if node.start_mark is None else node.start_mark.line + 1
