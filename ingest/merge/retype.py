"""Read the SQL that makes a table, and change types, key or strictness in it; nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headrace.names import quote_identifier as quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Source: sqlite.org/lang_createtable.html: what may follow a column's type.
_AFTER_TYPE = re.compile(
    r"CONSTRAINT|PRIMARY|NOT|NULL|UNIQUE|CHECK|DEFAULT|COLLATE|REFERENCES|GENERATED|AS",
    re.IGNORECASE,
)
_WORD = re.compile(
    r"""--[^\n]*\n?|/\*.*?\*/|\s+            # what says nothing
    |'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]
    |[^\W]+|.""",
    re.DOTALL | re.VERBOSE,
)


def retype(sql: str, types: Mapping[str, str]) -> str:
    """Give the SQL of a table whose columns have other types.

    Args:
        sql: ``CREATE TABLE …``, as SQLite keeps it.
        types: The new type of a column by its name.
    """
    wanted = {name.lower(): kind for name, kind in types.items()}
    depth = 0
    kind: str | None = None  # of the column at hand, as it shall be
    at_start = in_type = False
    out: list[str] = []
    for word in _WORD.findall(sql):
        if word.isspace() or word.startswith(("--", "/*")):
            if not in_type:
                out.append(word)
            continue
        before, depth = depth, depth + (word == "(") - (word == ")")
        ends = depth == 0 or (depth == 1 and word == ",")
        if in_type and before == 1 and (ends or _AFTER_TYPE.fullmatch(word)):
            out.append(f" {kind}" if ends else f" {kind} ")
            in_type = False
        if before == depth == 1 and at_start and word != ",":
            kind = wanted.get(_unquote(word).lower())
            in_type, at_start = kind is not None, False
            out.append(word)
            continue
        if not in_type and not (kind and word.upper() == "AUTOINCREMENT"):
            out.append(word)
        if (depth == 1 and word == ",") or (before == 0 and depth == 1):
            at_start, kind = True, None
    return "".join(out)


def declare(sql: str, *, key: Sequence[str], strict: bool) -> str:
    """Give the SQL of a table with a primary key, or STRICT, that it does not have.

    Args:
        sql: ``CREATE TABLE …``, as SQLite keeps it.
        key: The columns of the key; empty: none is added.
        strict: Whether it becomes STRICT.
    """
    depth = 0
    out: list[str] = []
    for word in _WORD.findall(sql):
        depth += (word == "(") - (word == ")")
        if key and word == ")" and depth == 0:  # what follows speaks of the table
            out.append(f", PRIMARY KEY ({', '.join(map(quote, key))})")
            key = ()
        out.append(word)
    if strict:
        said = [word for word in out if not word.isspace() and not word.startswith(("--", "/*"))]
        out.append(" STRICT" if said[-1] == ")" else ", STRICT")
    return "".join(out)


def definitions(sql: str) -> dict[str, str]:
    """Give what the SQL of a table says of each column, from its name on.

    Args:
        sql: ``CREATE TABLE …``, as SQLite keeps it; not ``… AS SELECT``, which it never keeps.

    Returns:
        The text by the column's name in lower case; there may be constraints of the table among
        them.
    """
    depth = 0
    parts: list[list[str]] = []
    for word in _WORD.findall(sql):
        if word.startswith(("--", "/*")):
            word = " "  # noqa: PLW2901 - it says nothing, and parts what is beside it
        depth += (word == "(") - (word == ")")
        if depth == 0 and parts:  # what follows speaks of the table
            break
        if (depth == 1 and word == ",") or (depth == 1 and not parts):
            parts.append([])
        elif parts:
            parts[-1].append(word)
    found: dict[str, str] = {}
    for text in ("".join(part).strip() for part in parts):
        if text:  # columns come first
            found.setdefault(_unquote(_WORD.findall(text)[0]).lower(), text)
    return found


def _unquote(word: str) -> str:
    if word[0] in "\"'`":
        return word[1:-1].replace(word[0] * 2, word[0])
    return word[1:-1] if word[0] == "[" else word
