"""How receipts and failures are said to people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headrace.options import FIELDS
from headrace.receipt import NOTHING_CHANGED

if TYPE_CHECKING:
    from headrace.errors import HeadraceError
    from headrace.remote.files import Item

_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000.0
# As the server says it: a parameter, with its value or without.
_OPTION = re.compile(rf"\??\b({'|'.join(sorted(FIELDS))})=([^\s,;:)]*)")


def printable(text: str) -> str:
    """Give a text without what a terminal would obey: names of files are anybody's."""
    return "".join(each if each.isprintable() or each == "\n" else "\ufffd" for each in text)


def is_utf8(text: str) -> bool:
    """Say whether a request can hold a name or an argument: on Linux these are any bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def size(count: float) -> str:
    """Give a number of bytes: ``1.5 MB``."""
    for unit in _UNITS:
        if count < _STEP or unit == _UNITS[-1]:
            break
        count /= _STEP
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def outcome(receipt: dict[str, Any], url: str) -> str:
    """Say what became of a file, in one line."""
    if receipt["state"] != "published":
        return f"{receipt['state']}, receipt {receipt['id']}"
    tables = receipt["tables"]
    rows = sum(table["rows"] for table in tables)
    several = f" in {len(tables)} tables" if len(tables) > 1 else ""
    path = receipt["url"] or ""
    counted = "1 row" if rows == 1 else f"{rows:,} rows"
    if NOTHING_CHANGED in receipt["warnings"]:
        return f"nothing changed, {counted}{several}: {url}{path}"
    return f"{counted}{several} in generation {receipt['generation']}: {url}{path}"


def problem(document: dict[str, Any]) -> str:
    """Say a problem document: what is wrong, where, and what can be done."""
    where, detail = "", str(document.get("detail", "it failed"))
    if "line" in document and not detail.startswith("line "):
        where = f"line {document['line']}: "
        if "column" in document:
            where = f"line {document['line']}, column {document['column']}: "
    lines = [f"{where}{detail}"]
    if document.get("hint"):
        lines.append(f"  {_in_flags(document['hint'])}")
    return "\n".join(lines)


def _in_flags(hint: str) -> str:
    """Give a hint of the server as the command has it: ``?pk=id`` is ``--pk id``."""
    return _OPTION.sub(lambda said: f"--{said[1].replace('_', '-')} {said[2]}".rstrip(), hint)


def failure(exc: HeadraceError) -> str:
    """Say an error, and what can be done."""
    document = getattr(exc, "document", {})
    if "detail" in document:
        return problem({**document, "hint": exc.hint})
    return f"{exc}\n  {exc.hint}" if exc.hint else str(exc)


def interruption(item: Item, sent: int) -> str:
    """Say how far a file is that is not gone on with now.

    Args:
        item: The file.
        sent: How many bytes of it were.
    """
    if item.path is None:
        return "interrupted: standard input cannot be gone on with"
    if not sent:
        return "interrupted: the same command begins anew"
    if sent == item.size:
        return "interrupted when all was sent: the same command says what became of it"
    return f"interrupted at {size(sent)}: the same command goes on there"


def step(name: str, progress: dict[str, Any] | None) -> str:
    """Say in which step an upload is: ``read, 120,000 rows``."""
    if name == "live" and progress is not None:
        return f"live in {', '.join(sorted(progress['live']))}"
    rows = 0 if progress is None else int(progress.get("rows") or 0)
    return f"{name}, {rows:,} rows" if rows else name
