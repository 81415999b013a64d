"""A problem in the words of who sits before a page: its document speaks to programs.

One table for the pages that are made here, and, as ``advice.js``, for those that a script changes.
"""

from __future__ import annotations

import json
import re
from typing import Any

# Code -> what a person can do about it, in place of the document's own hint.
BY_CODE = {
    "unauthorized": "sign in with your token",
    "forbidden": "choose a database that you may write to, or ask whoever runs this site",
    "cross-site": "open the page on this site itself, and try again",
    "not-found": "is the address right, and may you see it?",
    "too-many-requests": "wait a moment, and try again",
    "upload-locked": "wait a moment, and try again",
    "in-flight": "wait a moment, and look again",
    "primary-away": "try again later; everything that is published can be read meanwhile",
    "primary-lost": "try again",
}
QUARANTINE = "on_bad_rows=quarantine"
_BAD_ROWS = "More options → Bad rows → go to a table of their own"
# What hints call by the names of parameters -> what stands on the page.
PHRASES = {
    f"{QUARANTINE} loads": f"“{_BAD_ROWS}” loads",
    "nested=json keeps": "“More options → Objects within records → are kept as JSON” keeps",
    "with ?encoding=": "under More options → Encoding",
    "by ?encoding=…": "under More options → Encoding",
    "with ?table=": "by its name under Table",
    "with ?columns=": "under More options → Columns to keep",
    ": ?pk=id": " under Key columns",
    "add ?database=… or ?filename=…": "name a database",
}
# Codes of files that no option makes good: the page offers none.
HOPELESS = (
    *("empty-file", "unknown-format", "encrypted-file", "unsafe-archive", "too-large"),
    *("converter-failed", "converter-crashed"),
)
# Codes whose detail says all that their title does.
UNTITLED = ("empty-file", "unknown-format", "invalid-option", "unauthorized")
# What details call by the name of a parameter -> its label on the page.
LABELS = {
    "pk": "Key columns",
    "columns": "Columns to keep",
    "types": "Types of columns",
    "index": "Indexes",
    "fts": "Full-text search in",
    "extract": "Columns to move to own tables",
}
_AN_OPTION = re.compile(rf"({'|'.join(LABELS)})(?= cannot be used)")
_A_WORD = re.compile(r"[a-z]+[ ,]")  # and no name of a file, a column or an option


def of_person(problem: dict[str, Any]) -> dict[str, Any]:
    """Give what a page says of a problem.

    Args:
        problem: An RFC 9457 document, as the primary made it.

    Returns:
        ``title``, or ``""`` if the detail says it; ``detail``, a sentence; ``where``, a sentence
        or ``""`` if the detail says it; ``hint``, a sentence or ``""``.
    """
    detail = problem.get("detail") or ""
    if (option := _AN_OPTION.match(detail)) is not None:
        detail = f"“{LABELS[option[0]]}”{detail[option.end() :]}"
    detail = _sentence(detail)
    hint = BY_CODE.get(problem.get("code", ""), problem.get("hint") or "")
    for phrase, words in PHRASES.items():
        hint = hint.replace(phrase, words)
    return {
        "title": "" if problem.get("code") in UNTITLED else problem["title"],
        "detail": detail,
        "where": _where(problem, detail),
        "hint": _ended(hint),
    }


def script() -> str:
    """Give the table as a module for browsers."""
    tables = {
        "byCode": BY_CODE,
        "phrases": PHRASES,
        "labels": LABELS,
        "untitled": UNTITLED,
        "quarantine": QUARANTINE,
        "hopeless": HOPELESS,
    }
    return "".join(f"export const {name} = {json.dumps(each)};\n" for name, each in tables.items())


def _where(problem: dict[str, Any], detail: str) -> str:
    line, column, lines = (problem.get(name) for name in ("line", "column", "lines"))
    said = set(re.findall(r"\d+", detail))
    if lines and len(lines) > 1 and not said.issuperset(map(str, lines)):
        return f"Bad rows in lines {', '.join(map(str, lines))}."
    if not line or {str(line), str(column or line)} <= said:
        return ""
    return f"Line {line}, column {column}." if column else f"Line {line}."


def _sentence(text: str) -> str:
    return _ended(text[:1].upper() + text[1:] if _A_WORD.match(text) else text)


def _ended(text: str) -> str:
    return text if not text or text[-1] in ".?!" else f"{text}."
