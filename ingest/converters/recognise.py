"""What texts look like that begin as their format says they must; nothing heavy is imported.

Each function is given the first bytes of a file and their text (None: the file is no text), and
says yes only to what no other format begins with.
"""

from __future__ import annotations

import re

# Markdown may begin with any of these: they make a file neither XML nor, alone, a web page.
_HTML_TAGS = (
    r"a|abbr|article|aside|b|big|blockquote|body|br|button|center|cite|code|dd|del|details|div|dl|dt"
    r"|em|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|li|link"
    r"|main|meta|nav|ol|p|picture|pre|q|s|samp|script|section|small|span|strike|strong|style|sub"
    r"|summary|sup|table|tbody|td|template|tfoot|th|thead|title|tr|tt|u|ul|var|video"
)
_SPACE = r"(?:\s|<!--.*?-->)*+"
_XML_ROOT = re.compile(
    _SPACE + rf"<(?!(?i:{_HTML_TAGS})[\s/>])"
    r"(?P<tag>[A-Za-z_][\w.-]*(?::[\w.-]+)?)(?:\s+[\w.:-]+\s*=\s*(?:\"[^\"<]*\"|'[^'<]*'))*+\s*"
    r"(?P<end>/?>)(?P<rest>[^<]*(?P<next></?)?)",
    re.DOTALL,
)
_DOCTYPE = re.compile(_SPACE + r"<!DOCTYPE\s+(?P<name>[\w.:-]+)", re.DOTALL | re.IGNORECASE)
_HTML_ROOT = re.compile(_SPACE + r"<html[\s>]", re.DOTALL | re.IGNORECASE)
_TABLE = re.compile(_SPACE + r"<table[\s>]", re.DOTALL | re.IGNORECASE)
_AFTER_TABLE = re.compile(r"(?:\s|</\w+\s*>|<!--.*?-->)*", re.DOTALL)

_MBOX = re.compile(rb"From \S+ [^\r\n]*\d{4}[^\r\n]*\r?\n(?:>?[!-9;-~]+:|\r?\n)")

_SQL_SPACE = r"(?:\s|--[^\n]*\n|/\*.*?\*/;?)*+"
_SQL = re.compile(
    _SQL_SPACE + r"(?:PRAGMA\s+\w+\s*(?:=|\(|;)|BEGIN(?:\s+(?:DEFERRED|IMMEDIATE|EXCLUSIVE))?"
    r"(?:\s+TRANSACTION)?\s*;"
    r"|CREATE\s+(?:(?:TEMP|TEMPORARY|UNIQUE|VIRTUAL|UNLOGGED)\s+)?(?:TABLE|INDEX|VIEW|TRIGGER)\s"
    r"|CREATE\s+(?:DATABASE|SCHEMA)\s|DROP\s+TABLE\s|LOCK\s+TABLES\s|SET\s+@?\w+\s*=|USE\s+`|\\restrict\s"
    r"|(?:INSERT|REPLACE)\s+(?:OR\s+\w+\s+)?INTO\s+\S+.{0,10000}?(?:VALUES|SELECT)\b)",
    re.DOTALL | re.IGNORECASE,
)
_FOREIGN_SQL = (
    ("MySQL", r"^-- (?:MySQL|MariaDB|phpMyAdmin)\b|^/\*M?!\d{5}|^LOCK TABLES `|^\)\s*ENGINE\s*="),
    (
        "PostgreSQL",
        r"^-- PostgreSQL database|^SET statement_timeout|^COPY \S.* FROM stdin;|^\\restrict",
    ),
    ("SQL Server", r"^SET (?:IDENTITY_INSERT|ANSI_NULLS) |^USE \[|^CREATE TABLE \[dbo\]\."),
)
_SQL_HEAD_CHARACTERS = 64 * 1024


def recognise_icalendar(_head: bytes, text: str | None) -> bool:
    """Say whether a text begins as a calendar must."""
    return bool(text and re.match(r"\s*BEGIN:VCALENDAR\s*?\n", text, re.IGNORECASE))


def recognise_mbox(head: bytes, _text: str | None) -> bool:
    """Say whether a file begins with a mailbox's line and a header after it."""
    return bool(_MBOX.match(head))


def recognise_xml(_head: bytes, text: str | None) -> bool:
    """Say whether a text begins with an XML declaration, or with an element that is not HTML's."""
    if not text or recognise_html(b"", text):
        return False
    return bool(re.match(r"<\?xml\s", text) or _DOCTYPE.match(text)) or _has_root(text)


def _has_root(text: str) -> bool:
    """Say whether a text begins with an element that holds something, and is not HTML's."""
    root = _XML_ROOT.match(text)
    if root is None:
        return False
    if root["end"] == "/>":
        return not text[root.end("end") :].strip()
    if root["next"] is None:  # a text that goes beyond the head, or no XML
        return False
    return not root["rest"].rstrip("</").strip() or f"</{root['tag']}" in text


def recognise_html(_head: bytes, text: str | None) -> bool:
    """Say whether a text begins as a web page, or is nothing but tables."""
    if not text:
        return False
    declared = re.match(r"<\?xml\s[^>]*\?>", text)
    start = text[declared.end() :] if declared else text
    if (doctype := _DOCTYPE.match(start)) and doctype["name"].lower() == "html":
        return True
    if _HTML_ROOT.match(start):
        return True
    if not _TABLE.match(start):
        return False
    end = start.lower().rfind("</table")  # Markdown may begin with a table; then words follow
    return end < 0 or _AFTER_TABLE.match(start, end).end() == len(start)  # type: ignore[union-attr]


def recognise_sql(_head: bytes, text: str | None) -> bool:
    """Say whether a text begins with a statement that dumps begin with, SQLite's or another's."""
    return bool(text and _SQL.match(text))


def foreign_sql(text: str) -> str | None:
    """Name the database that a dump is of, if it is not SQLite."""
    head = text[:_SQL_HEAD_CHARACTERS]
    return next(
        (name for name, pattern in _FOREIGN_SQL if re.search(pattern, head, re.MULTILINE)), None
    )
