"""HTML: each table of a page becomes a table, named by its caption, id or heading.

Read as a stream by libxml2; a table is taken and forgotten when it ends. Tables within tables are
tables of their own. Links and pictures in cells are left out, with a warning.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from lxml import etree

from headrace.errors import Refusal
from ingest.converters import Conversion, Converted
from ingest.converters.declared import HEAD_BYTES, find_declared, read_declared
from ingest.converters.encodings import reads_text
from ingest.converters.staging import MAX_COLUMNS, open_staging
from ingest.converters.text_tables import TextTables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

MAX_COLSPAN = 1000  # of HTML's own rules for forming a table
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_META = re.compile(rb"""<meta[^>]*?charset\s*=\s*["']?\s*([A-Za-z0-9._:-]+)""", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\r\n\f]+")
_UNSEEN = frozenset({"script", "style", "template", "table", "caption"})
_BLOCKS = frozenset({"p", "div", "li", "ul", "ol", "dd", "dt", "h1", "h2", "h3", "h4", "h5", "h6"})
_MAX_NAME = 100  # characters
_LARGE_ROWS = 1000  # of a table that takes a while

# Names that pages use for something else. Source: WHATWG Encoding, section 4.2.
_BROWSERS_NAMES = {
    "iso-8859-1": "cp1252", "latin1": "cp1252", "latin-1": "cp1252", "ascii": "cp1252",
    "us-ascii": "cp1252", "iso-8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030",
    "shift_jis": "cp932", "sjis": "cp932", "x-sjis": "cp932", "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949", "big5": "big5hkscs", "utf-16": "utf-8", "utf-16le": "utf-8",
    "x-user-defined": "cp1252", "x-gbk": "gb18030",
}  # fmt: skip


def convert(conversion: Conversion) -> Converted:
    """Convert an HTML page.

    The first row names the columns if it stands in ``thead`` or is made of ``th`` alone, or if the
    uploader says so. A cell that spans several is repeated in each.

    Raises:
        Refusal: ``no-rows``: no table with data; ``limit-exceeded``: columns; ``invalid-file``.
    """
    with conversion.input.open("rb") as file:
        says = conversion.wishes.encoding or _declared_encoding(file.read(HEAD_BYTES))
    return _convert(conversion) if says else reads_text(_convert)(conversion)


def _convert(conversion: Conversion) -> Converted:
    with open_staging(conversion.output) as connection:
        tables = TextTables(connection, conversion)
        page = _Page(tables, conversion)
        page.read()
        names = {key: conversion.table if len(page.names) == 1 else name
                 for key, name in page.names.items()}  # fmt: skip
        conversion.begin("write")
        made, warnings = tables.finish(names, column_names=_column_names)
    if page.links:
        warnings.append(f"the addresses of {page.links:,} links and pictures were left out")
    if page.empty:
        warnings.append(f"{page.empty:,} tables without data were left out")
    encoding = find_declared(
        conversion.input, wished=conversion.wishes.encoding, declared=_declared_encoding
    )
    return Converted(tables=made, warnings=tuple(warnings), encoding=encoding)


class _Page:
    """A page that is read.

    Attributes:
        names: The name that each table would like to have, by its key.
        links: How many links and pictures stand in cells.
        empty: How many tables have no data.
    """

    def __init__(self, tables: TextTables, conversion: Conversion) -> None:
        self.names: dict[str, str] = {}
        self.links = 0
        self.empty = 0
        self._tables = tables
        self._conversion = conversion
        self._heading = ""
        self._done_bytes = 0

    def read(self) -> None:
        """Read the page, and add the rows of its tables."""
        tags = ("table", *_HEADINGS)
        parser = etree.HTMLPullParser(
            events=("end",), tag=tags, encoding="utf-8", huge_tree=True,
            remove_comments=True, remove_pis=True,
        )  # fmt: skip
        chunks = read_declared(
            self._conversion.input,
            wished=self._conversion.wishes.encoding,
            declared=_declared_encoding,
            on_bytes=self._count,
        )
        for chunk in chunks:
            # NUL is no character of HTML, and would end the text for libxml2.
            parser.feed(chunk.replace("\0", "").encode())
            self._take(parser)
        with contextlib.suppress(etree.XMLSyntaxError):  # its log says more
            parser.close()
        self._take(parser)
        for problem in parser.feed_error_log:
            if problem.type_name == "ERR_NO_MEMORY":
                raise MemoryError
            if problem.type_name == "ERR_RESOURCE_LIMIT":
                raise Refusal(
                    "limit-exceeded", "the HTML is nested too deeply", extra={"limit": "depth"}
                )

    def _count(self, done_bytes: int) -> None:
        self._done_bytes = done_bytes
        self._conversion.report(self._tables.rows, done_bytes)

    def _take(self, parser: etree.HTMLPullParser) -> None:
        for _event, element in parser.read_events():
            if element.tag != "table":
                self._heading = _text(element)
                continue
            self._add(element)
            tail = element.tail
            element.clear()
            element.tail = tail
            self._conversion.report(self._tables.rows, self._done_bytes)

    def _add(self, table: etree._Element) -> None:
        """Add the rows of one table."""
        self.links += sum(1 for _ in _of_this_table(table, "a", "img"))
        rows = list(_of_this_table(table, "tr"))
        large = len(rows) > _LARGE_ROWS
        if large:
            self._conversion.begin("look")
        grid = _spread(rows, self._report_looked)
        if large:
            self._conversion.begin("read")
        head = self._header_rows(rows)
        cells = sum(map(any, grid[head:])) * max(map(len, grid), default=0)
        if cells <= (0 if head else 1):
            self.empty += 1
            return
        width = max(map(len, grid))
        header = [
            " ".join(dict.fromkeys(row[column] for row in grid[:head] if row[column : column + 1]))
            for column in range(width)
        ]
        keys = [f"{number} {name.strip()}" for number, name in enumerate(header)]
        key = str(len(self.names))
        self.names[key] = self._name(table)
        for row in grid[head:]:
            self._tables.add(
                key, dict(zip(keys, [*row, *[None] * (width - len(row))], strict=True))
            )
            self._conversion.report(self._tables.rows, self._done_bytes)

    def _report_looked(self, rows: int) -> None:
        self._conversion.report(self._tables.rows + rows, self._done_bytes)

    def _header_rows(self, rows: list[etree._Element]) -> int:
        """Say how many of the first rows name the columns."""
        if self._conversion.wishes.header is not None:
            return int(self._conversion.wishes.header)
        head = 0
        for row in rows:
            if row.getparent().tag != "thead":
                break
            head += 1
        if not head and len(rows) > 1:
            cells = [cell.tag for cell in rows[0] if cell.tag in ("td", "th")]
            head = int(bool(cells) and set(cells) == {"th"})
        return head

    def _name(self, table: etree._Element) -> str:
        caption = next(_of_this_table(table, "caption"), None)
        named = (
            _text(caption) if caption is not None else "",
            table.get("id", ""),
            self._heading,
        )
        found = next(filter(None, (" ".join(name.split()) for name in named)), "")
        return found[:_MAX_NAME] or f"table_{len(self.names) + 1}"


def _of_this_table(table: etree._Element, *tags: str) -> Iterator[etree._Element]:
    """Give what stands in a table, and not in a table within it."""
    for element in table.iter(*tags):
        if next(element.iterancestors("table")) is table:
            yield element


def _spread(rows: Iterable[etree._Element], report: Callable[[int], None]) -> list[list[str]]:
    """Give the texts of all cells; one that spans several places stands in each of them."""
    grid: list[list[str]] = []
    hanging: dict[int, tuple[int, str]] = {}  # by column: rows to go, and the text
    for number, row in enumerate(rows):
        if number and not number % _LARGE_ROWS:
            report(number)
        texts: list[str] = []
        cells = [cell for cell in row if cell.tag in ("td", "th")]
        if not cells:
            continue
        for cell in cells:
            _fill(texts, hanging)
            text = _text(cell)
            below = min(_span(cell, "rowspan", if_zero=65534), 65534) - 1
            for _ in range(min(_span(cell, "colspan", if_zero=1), MAX_COLSPAN)):
                if below:
                    hanging[len(texts)] = (below, text)
                texts.append(text)
            if len(texts) > MAX_COLUMNS:
                raise Refusal(
                    "limit-exceeded",
                    f"a table would have more than {MAX_COLUMNS:,} columns",
                    line=row.sourceline,
                    extra={"limit": "columns"},
                )
        _fill(texts, hanging)
        grid.append(texts)
    return grid


def _fill(texts: list[str], hanging: dict[int, tuple[int, str]]) -> None:
    """Fill the places that cells of rows above take."""
    while (found := hanging.pop(len(texts), None)) is not None:
        rows, text = found
        if rows > 1:
            hanging[len(texts)] = (rows - 1, text)
        texts.append(text)


def _span(cell: etree._Element, name: str, *, if_zero: int) -> int:
    """Read how many places a cell takes."""
    digits = re.match(r"\s*\+?(\d{1,9})", cell.get(name, ""))
    return 1 if digits is None else int(digits[1]) or if_zero


def _text(element: etree._Element) -> str:
    """Give the text as it is seen: white space is one space, and lines break where the page says.

    ``pre`` keeps what it has. A cell of nothing but white space, also ``&nbsp;``, is empty.
    """
    parts: list[str] = []
    kept = 0  # how many `pre` are open
    was_kept = False
    walker = etree.iterwalk(element, events=("start", "end"))
    for event, part in walker:
        breaks = part.tag in _BLOCKS or part.tag == "br"
        if event == "start":
            if part is not element and part.tag in _UNSEEN:
                walker.skip_subtree()
                continue
            kept += part.tag == "pre"
            was_kept = was_kept or kept > 0
            parts += ("\n" if breaks else "", _seen(part.text, kept))
        elif part is not element:
            kept -= part.tag == "pre"
            parts += ("\n" if part.tag in _BLOCKS else "", _seen(part.tail, kept))
    text = "".join(parts)
    if not text.strip():
        return ""
    if was_kept:
        return text.strip("\n")
    lines = (_SPACE.sub(" ", line).strip(" ") for line in text.split("\n"))
    return "\n".join(filter(None, lines))


def _seen(text: str | None, kept: int) -> str:
    """Give a text with its white space as spaces, unless it is kept."""
    if not text:
        return ""
    return text if kept else _SPACE.sub(" ", text)


def _declared_encoding(head: bytes) -> str | None:
    """Give the encoding that the page says, as browsers understand it."""
    match = _META.search(head)
    if match is None:
        return None
    name = match[1].decode().lower()
    return _BROWSERS_NAMES.get(name, name)


def _column_names(keys: Sequence[str]) -> list[str]:
    """Give the header's texts; the number before each only keeps equal ones apart."""
    names = (key.partition(" ")[2].replace("\n", " ") for key in keys)
    return [name or f"column_{position}" for position, name in enumerate(names, start=1)]
