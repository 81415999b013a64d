"""Names of databases, tables and columns: which are allowed, and how a safe one is made."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Container

MAX_DATABASE_NAME = 64  # characters, all ASCII
MAX_TABLE_NAME = 128  # characters
MAX_COLUMN_NAME = 256  # characters

# `ingest` is Headrace's own path, `_headrace` its journal; the rest are Datasette's.
RESERVED_DATABASES = frozenset(
    {"ingest", "static", "favicon", "robots", "_memory", "_internal", "_headrace"}
)

# Kept in every primary database by Litestream and by Headrace; never shown, never replaced.
INTERNAL_TABLES = frozenset({"_litestream_seq", "_litestream_lock", "_headrace_merges"})

_DATABASE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_NO_WORD = re.compile(r"[^\w-]+")
# Latin letters that Unicode does not take apart.
_LATIN = str.maketrans(
    {
        "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l",
        "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "TH",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
    }
)  # fmt: skip
_COMPRESSIONS = frozenset({".gz", ".bz2", ".xz", ".zst"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_database_name(name: str) -> str:
    """Return the name if a database may be called that.

    Databases are part of URLs, object keys and Litestream's replica URLs, so they are ASCII
    letters, digits, ``_`` and ``-``, 1 to 64 characters, and do not begin with ``-``.

    Raises:
        Refusal: ``invalid-name``.
    """
    if not name:
        raise Refusal("invalid-name", "the database name is empty")
    if len(name) > MAX_DATABASE_NAME:
        raise Refusal(
            "invalid-name", f"the database name is longer than {MAX_DATABASE_NAME} characters"
        )
    if not _DATABASE.fullmatch(name):
        raise Refusal(
            "invalid-name",
            f"the database name {name!r} has characters other than letters, digits, '_' and '-'",
            hint=f"{safe_database_name(name)!r} would be allowed",
        )
    if name.lower() in RESERVED_DATABASES:
        raise Refusal("invalid-name", f"the database name {name!r} is reserved")
    return name


def check_table_name(name: str) -> str:
    """Return the name if a table may be called that: any text that SQLite and a URL can carry.

    Raises:
        Refusal: ``invalid-name``.
    """
    if not name or not name.strip():
        raise Refusal("invalid-name", "the table name is empty")
    if len(name) > MAX_TABLE_NAME:
        raise Refusal("invalid-name", f"the table name is longer than {MAX_TABLE_NAME} characters")
    if _CONTROL.search(name):
        raise Refusal("invalid-name", "the table name has control characters")
    if name.lower().startswith("sqlite_") or name.lower() in INTERNAL_TABLES:
        raise Refusal("invalid-name", f"the table name {name!r} is reserved")
    return name


def safe_database_name(text: str) -> str:
    """Make a database name out of any text (``'Q3 Umsätze'`` becomes ``'Q3_Umsatze'``).

    A text with letters that ASCII has nothing for gets a few digits of its hash, always the same:
    else all files with Japanese names would take the place of each other.
    """
    name = _slug(text)[:MAX_DATABASE_NAME].rstrip("_-")
    if _has_other_letters(text):
        text = unicodedata.normalize("NFC", text)  # what is no UTF-8 stays in it as surrogates
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
        name = f"{(name or 'data')[: MAX_DATABASE_NAME - 9]}_{digest}"
    if not name:
        return "data"
    return f"{name}_data"[:MAX_DATABASE_NAME] if name.lower() in RESERVED_DATABASES else name


def safe_table_name(text: str) -> str:
    """Make a table name out of any text; letters that ASCII has nothing for stay as they are."""
    name = _slug(text)
    if _has_other_letters(text):
        name = _NO_WORD.sub("_", unicodedata.normalize("NFC", text)).strip("_-")
    name = name[:MAX_TABLE_NAME].rstrip("_-")
    if not name:
        return "data"
    reserved = name.lower().startswith("sqlite_") or name.lower() in INTERNAL_TABLES
    return f"data_{name}"[:MAX_TABLE_NAME] if reserved else name


def allowed_table_name(name: str) -> str:
    """Give the name if a table may be called that, or one like it."""
    try:
        return check_table_name(without_brackets(name))
    except Refusal:
        return safe_table_name(name)


def free_name(wanted: str, taken: Container[str]) -> str:
    """Give the name that a table gets where others (lower case) are there already."""
    name = wanted
    suffix = 2
    while name.lower() in taken:
        name = f"{wanted[: MAX_TABLE_NAME - 8]}_{suffix}"
        suffix += 1
    return name


def file_stem(filename: str) -> str:
    """Give a file name without folders, and without its ending or a compression's after that."""
    name = PurePosixPath(filename.replace("\\", "/")).name
    path = PurePosixPath(name)
    if path.suffix.lower() in _COMPRESSIONS:
        path = PurePosixPath(path.stem)
    return path.stem.lstrip(".")


def tilde_encode(text: str) -> str:
    """Encode a name for a Datasette URL.

    Source: Datasette 0.65, ``datasette.utils.tilde_encode``: letters, digits, ``_`` and ``-`` stay,
    a space becomes ``+``, every other byte of the UTF-8 form becomes ``~XX``.
    """
    safe = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
    return "".join(
        chr(byte) if byte in safe else "+" if byte == ord(" ") else f"~{byte:02X}"
        for byte in text.encode()
    )


def tilde_decode(text: str) -> str:
    """Read a name of a Datasette URL; a ``%`` stands for itself.

    Source: Datasette 1.0a41, ``datasette.utils.tilde_decode``.
    """
    if "~" not in text and "+" not in text:
        return text
    return unquote_plus(text.replace("%", "%25").replace("~", "%"))


def without_brackets(name: str) -> str:
    """Replace square brackets by round ones.

    Source: Datasette 0.65.5 quotes names as ``[name]`` (``get_all_foreign_keys``), so a ``]`` in
    one table's name makes every page of every database an error.
    """
    return name.replace("[", "(").replace("]", ")")


def quote_identifier(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _slug(text: str) -> str:
    """Reduce any text to ASCII letters, digits, ``_`` and ``-``."""
    ascii_text = _decomposed(text).encode("ascii", "ignore").decode()
    return _UNSAFE.sub("_", ascii_text).strip("_-")


def _has_other_letters(text: str) -> bool:
    """Say whether a text has letters or digits that ASCII has nothing for."""
    return any(each.isalnum() and not each.isascii() for each in _decomposed(text))


def _decomposed(text: str) -> str:
    """Take letters apart from their accents."""
    return unicodedata.normalize("NFKD", text.translate(_LATIN))
