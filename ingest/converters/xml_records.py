"""XML: elements that repeat are rows; their attributes and children are columns.

Read twice as a stream by expat: first to find which elements repeat, then to make rows of the
outermost ones. Nothing is fetched and no entity is expanded; a file that declares one is refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html.entities import html5
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from headrace.errors import Refusal
from ingest.converters import Conversion, Converted
from ingest.converters.declared import find_declared, read_declared
from ingest.converters.staging import open_staging
from ingest.converters.text_tables import TextTables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_DEPTH = 500  # elements within elements
MAX_PATHS = 100_000  # ways from the root to an element that does not repeat
_DECLARED = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._:-]+)["']""")
_REFERENCE = re.compile(r"&(?!amp;|lt;|gt;|quot;|apos;|#)")
_START_TAG = re.compile(rb"""<[^\s/>]+(?:\s+[^\s=]+\s*=\s*(?:"[^"]*"|'[^']*'))*""")
_ATTRIBUTE, _CHILD, _TEXT = "@", "/", "#"  # what the key of a column begins with
_REST = ""  # the key of the table of what stands around the rows


@dataclass(slots=True)
class _Path:
    """All elements at one path from the root."""

    children: dict[str, _Path] = field(default_factory=dict)
    repeats: bool = False  # there is an element that has two of them
    has_attributes: bool = False


def convert(conversion: Conversion) -> Converted:
    """Convert an XML file.

    The outermost elements that repeat are the rows, each kind a table. What stands around them is
    one row of a table of its own. Without any that repeats, the root, or its only child, is a row.

    Raises:
        Refusal: ``invalid-file`` with line and column; ``limit-exceeded``: nested too deeply, or
            entities; ``no-rows``.
    """
    finder = _Finder()
    conversion.begin("look")
    for done_bytes in _parse(conversion, finder):
        conversion.report(0, done_bytes)
    conversion.begin("read")
    (root_name,) = finder.roots
    kinds = _find_rows(root_name, finder.roots[root_name])
    with open_staging(conversion.output) as connection:
        tables = TextTables(connection, conversion)
        reader = _RowReader(tables, finder.roots, kinds)
        for done_bytes in _parse(conversion, reader):
            conversion.report(tables.rows, done_bytes)
        reader.finish()
        names = {kind.key: kind.name for kind in kinds}
        if len(kinds) == 1:
            names[kinds[0].key] = conversion.table
        rest = _plain(root_name)
        taken = {name.lower() for name in names.values()}
        names[_REST] = f"{rest}_document" if rest.lower() in taken else rest
        conversion.begin("write")
        made, warnings = tables.finish(names, column_names=_column_names)
    if reader.left_out:
        warnings.append("comments and processing instructions were left out")
    encoding = find_declared(
        conversion.input, wished=conversion.wishes.encoding, declared=_declared_encoding
    )
    return Converted(tables=made, warnings=tuple(warnings), encoding=encoding)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """Elements that are rows of one table.

    Attributes:
        key: The path from the root.
        path: What was found there.
        name: What the table would like to be called.
        around: The paths that lead to it.
    """

    key: str
    path: _Path
    name: str
    around: tuple[_Path, ...]


def _find_rows(root_name: str, root: _Path) -> list[_Kind]:
    """Find the outermost elements that repeat; without any, the root's only child, or the root."""
    found: list[tuple[tuple[str, ...], tuple[_Path, ...]]] = []
    waiting: list[tuple[tuple[str, ...], tuple[_Path, ...]]] = [((root_name,), (root,))]
    while waiting:
        names, paths = waiting.pop()
        if paths[-1].repeats:
            found.append((names, paths))
        else:
            below = [((*names, name), (*paths, path)) for name, path in paths[-1].children.items()]
            waiting += reversed(below)
    if not found:
        found = [((root_name,), (root,))]
        if len(root.children) == 1 and not root.has_attributes:
            ((name, child),) = root.children.items()
            if child.children or child.has_attributes:
                found = [((root_name, name), (root, child))]
    last = [names[-1] for names, _ in found]
    return [
        _Kind(
            key="/".join(names),
            path=paths[-1],
            name=_plain("_".join(names[-2:]) if last.count(names[-1]) > 1 else names[-1]),
            around=paths[:-1],
        )
        for names, paths in found
    ]


class _Finder:
    """Finds which elements repeat within one parent; what is inside of those is passed over."""

    def __init__(self) -> None:
        self.roots: dict[str, _Path] = {}
        self._paths = 0
        self._stack: list[tuple[dict[str, _Path], set[str]]] = [(self.roots, set())]
        self._passed_over = 0

    def start(self, tag: str, attributes: list[str]) -> None:
        if self._passed_over:
            self._passed_over += 1
            _check_depth(self._passed_over)
            return
        paths, seen = self._stack[-1]
        path = paths.get(tag)
        if path is None:
            self._paths += 1
            if self._paths > MAX_PATHS:
                raise _limit("elements", f"the XML has more than {MAX_PATHS:,} kinds of elements")
            path = paths[tag] = _Path()
        if tag in seen:
            path.repeats = True
            path.children.clear()
        if path.repeats:
            self._passed_over = 1
            return
        seen.add(tag)
        path.has_attributes = path.has_attributes or any(map(_is_data, attributes[::2]))
        self._stack.append((path.children, set()))
        _check_depth(len(self._stack))

    def end(self, _tag: str) -> None:
        if self._passed_over:
            self._passed_over -= 1
        else:
            self._stack.pop()

    def text(self, _text: str) -> None:
        """Do nothing: texts do not repeat."""

    def leave_out(self, *_what: str) -> None:
        """Do nothing: the other one counts."""


class _RowReader:
    """Makes rows of elements.

    Attributes:
        left_out: Whether there was anything that is neither element nor text.
    """

    def __init__(self, tables: TextTables, roots: dict[str, _Path], kinds: Sequence[_Kind]) -> None:
        self.left_out = False
        self._tables = tables
        self._keys = {id(kind.path): kind.key for kind in kinds}
        self._around = {id(path) for kind in kinds for path in kind.around}
        self._children = [roots]  # of the elements around the rows that are open
        self._frames: list[_Frame] = []  # of the row that is open, or of an element beside the rows
        self._key: str | None = None  # the row's; None: it is an element beside the rows
        self._rest = _Frame("", [])

    def start(self, tag: str, attributes: list[str]) -> None:
        if self._frames:
            self._frames.append(_Frame(tag, attributes))
            _check_depth(len(self._frames))
            return
        path = self._children[-1][tag]
        if id(path) in self._around:
            self._rest.attributes += attributes
            self._children.append(path.children)
        else:
            self._key = self._keys.get(id(path))
            self._frames.append(_Frame(tag, attributes))

    def end(self, tag: str) -> None:
        if not self._frames:
            self._children.pop()
            return
        frame = self._frames.pop()
        if self._frames:
            self._frames[-1].content.append((tag, frame.value()))
        elif self._key is None:
            self._rest.content.append((tag, frame.value()))
        else:
            self._tables.add(self._key, frame.record())

    def text(self, text: str) -> None:
        (self._frames[-1] if self._frames else self._rest).content.append(text)

    def leave_out(self, *_what: str) -> None:
        self.left_out = True

    def finish(self) -> None:
        """Make a row of what stands around the others, if there is anything."""
        record = self._rest.record()
        if not (record.get(_TEXT) or "").strip():
            record.pop(_TEXT, None)
        if record:
            self._tables.add(_REST, record)


class _Frame:
    """An element that is being read."""

    __slots__ = ("attributes", "content", "tag")

    def __init__(self, tag: str, attributes: list[str]) -> None:
        self.tag = tag
        self.attributes = attributes  # names and values in turn
        self.content: list[str | tuple[str, Any]] = []  # texts and children, in their order

    def record(self) -> dict[str, str | None]:
        """Give the element as a row."""
        attributes, children, text = self._parts()
        record: dict[str, str | None] = {_ATTRIBUTE + name: attributes[name] for name in attributes}
        if not children:
            # White space with a line end in it is how the file is laid out.
            if text.strip() or (text and "\n" not in text and not attributes):
                record[_TEXT] = text
            return record
        for name, values in children.items():
            value: Any = values[0] if len(values) == 1 else values
            plain = value is None or isinstance(value, str)
            record[_CHILD + name] = value if plain else _to_json(value)
        if text.strip():
            record[_TEXT] = _to_json(self._in_order())
        return record

    def value(self) -> Any:
        """Give the element as what JSON can hold; an element of nothing but text is that text."""
        attributes, children, text = self._parts()
        if not children and not attributes:
            return None if self._is_nil() else text
        value: dict[str, Any] = {f"@{name}": attributes[name] for name in attributes}
        if not children:
            return {**value, "#text": text} if text else value
        if text.strip():
            return {**value, "#content": self._in_order()}
        for name, values in children.items():
            value[name] = values[0] if len(values) == 1 else values
        return value

    def _parts(self) -> tuple[dict[str, str], dict[str, list[Any]], str]:
        """Give the attributes, the children by their names, and all text."""
        pairs = zip(self.attributes[::2], self.attributes[1::2], strict=True)
        attributes = {name: value for name, value in pairs if _is_data(name)}
        if len(self.content) == 1 and isinstance(self.content[0], str):
            return attributes, {}, self.content[0]
        children: dict[str, list[Any]] = {}
        texts = []
        for part in self.content:
            if isinstance(part, str):
                texts.append(part)
            else:
                children.setdefault(part[0], []).append(part[1])
        return attributes, children, "".join(texts)

    def _in_order(self) -> list[Any]:
        """Give texts and children as they follow each other."""
        parts: list[Any] = []
        for part in self.content:
            if not isinstance(part, str):
                parts.append({part[0]: part[1]})
            elif parts and isinstance(parts[-1], str):
                parts[-1] += part
            else:
                parts.append(part)
        return parts

    def _is_nil(self) -> bool:
        return not self.content and any(
            name.endswith(":nil") and value in ("true", "1")
            for name, value in zip(self.attributes[::2], self.attributes[1::2], strict=True)
        )


def _parse(conversion: Conversion, handler: _Finder | _RowReader) -> Iterator[int]:
    """Read the file once; give the bytes read so far, now and then."""
    parser = expat.ParserCreate("utf-8")
    parser.ordered_attributes = True
    parser.buffer_text = True
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.CharacterDataHandler = handler.text
    parser.CommentHandler = parser.ProcessingInstructionHandler = handler.leave_out
    _guard(parser, handler)
    done_bytes = 0

    def count(read_bytes: int) -> None:
        nonlocal done_bytes
        done_bytes = read_bytes

    chunks = read_declared(
        conversion.input,
        wished=conversion.wishes.encoding,
        declared=_declared_encoding,
        on_bytes=count,
    )
    try:
        for chunk in chunks:
            parser.Parse(chunk)
            yield done_bytes
        parser.Parse("", True)
    except expat.ExpatError as exc:
        raise Refusal(
            "invalid-file",
            f"the XML is broken: {expat.ErrorString(exc.code)}",
            line=exc.lineno,
            column=exc.offset + 1,
        ) from exc


def _guard(parser: expat.XMLParserType, handler: _Finder | _RowReader) -> None:
    """Refuse entities, and what a definition that is elsewhere would have to say about a text."""

    def refuse_entity(*_declaration: object) -> None:
        raise Refusal(
            "limit-exceeded",
            "the XML declares entities, which are not expanded",
            hint="xmllint --noent writes a file without them",
            line=parser.CurrentLineNumber,
            extra={"limit": "entities"},
        )

    def skip_entity(name: str, is_parameter: bool) -> None:
        if is_parameter:
            return
        if f"{name};" not in html5:
            raise _unknown_entity(parser, name)
        handler.text(html5[f"{name};"])

    def start_with_doctype(tag: str, attributes: list[str]) -> None:
        # Expat leaves out without a word what an attribute refers to and only a DTD defines.
        if attributes and _REFERENCE.search(_raw_tag(parser)):
            raise _unknown_entity(parser, "in an attribute")
        handler.start(tag, attributes)

    def start_doctype(_name: str, system: str | None, _public: str | None, _has: bool) -> None:
        if system is not None:
            parser.StartElementHandler = start_with_doctype

    parser.EntityDeclHandler = refuse_entity
    parser.SkippedEntityHandler = skip_entity
    parser.StartDoctypeDeclHandler = start_doctype


def _raw_tag(parser: expat.XMLParserType) -> str:
    """Give the start tag in hand as it is written."""
    context = parser.GetInputContext() or b""
    match = _START_TAG.match(context)
    return (match[0] if match else context).decode(errors="replace")


def _unknown_entity(parser: expat.XMLParserType, name: str) -> Refusal:
    return Refusal(
        "invalid-file",
        f"the XML refers to an entity that it does not define: {name[:40]}",
        line=parser.CurrentLineNumber,
        column=parser.CurrentColumnNumber + 1,
    )


def _declared_encoding(head: bytes) -> str | None:
    """Give the encoding that the XML declaration says."""
    if head.startswith(b"<\0?\0"):
        return "utf-16-le"
    if head.startswith(b"\0<\0?"):
        return "utf-16-be"
    match = _DECLARED.match(head.lstrip())
    return match[1].decode() if match else None


def _column_names(keys: Sequence[str]) -> list[str]:
    """Give children their own names, and attributes and texts as well where those are free."""
    children = {_plain(key[1:]).lower() for key in keys if key.startswith(_CHILD)}
    names = []
    for key in keys:
        plain = "text" if key == _TEXT else _plain(key[1:])
        taken = not key.startswith(_CHILD) and plain.lower() in children
        names.append(f"{key[0]}{plain}" if taken else plain)
    return names


def _is_data(attribute: str) -> bool:
    """Say whether an attribute is more than a matter of writing."""
    return not attribute.startswith("xmlns") and not attribute.startswith("xsi:")


def _plain(tag: str) -> str:
    """Give a name without a colon, which options divide by."""
    return tag.replace(":", "_")


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _limit("depth", f"the XML is nested more than {MAX_DEPTH} levels deep")


def _limit(name: str, detail: str) -> Refusal:
    return Refusal("limit-exceeded", detail, extra={"limit": name})
