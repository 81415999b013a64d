"""What a client asks for: query or form fields, the file's name, how long to wait."""

from __future__ import annotations

import base64
import binascii
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.errors import Refusal
from headrace.metadata_text import read_metadata_text
from headrace.names import (
    check_database_name,
    check_table_name,
    file_stem,
    safe_database_name,
    safe_table_name,
    without_brackets,
)
from headrace.wishes import ABOUT as ABOUT_WISHES
from headrace.wishes import CHOICES as WISH_CHOICES
from headrace.wishes import Wishes, read_wishes

if TYPE_CHECKING:
    from collections.abc import Mapping

MODES = ("replace", "append", "upsert", "create")
# What is written: where a file goes first, then how it is read and shaped.
ABOUT = {
    "database": "Name of the database; made from the file's name.",
    "table": "Name of the table that a one-table file makes; made from the file's name.",
    "mode": "What is done to a table that is there: it is replaced, gets more rows, gets rows "
    "added or changed by their key, or must not be there.",
    "filename": "The file's name.",
    "wait_for": "Answer only when all regions show it, within the wait.",
    "metadata": "What is said about the database: `metadata.json` or `metadata.yaml`.",
    **ABOUT_WISHES,
}
FIELDS = frozenset(ABOUT)
CHOICES = {"mode": MODES, "wait_for": ("regions",), **WISH_CHOICES}
DEFAULT_WAIT_S = 30.0
MAX_WAIT_S = 600.0
MAX_FILENAME = 255  # characters kept of a client's file name

_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,6})\"?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where one file goes.

    Attributes:
        database: Checked name.
        table: Checked name for the table that a one-table file makes; None for a file that names
            its own tables.
        mode: One of ``MODES``.
        filename: As it is shown; never used as a path.
        warnings: Names that were changed.
        wishes: How the file is read and shaped.
        table_given: Whether the client named the table.
        metadata: What the request says about the database; None if nothing.
    """

    database: str
    table: str
    mode: str
    filename: str
    warnings: tuple[str, ...]
    wishes: Wishes
    table_given: bool
    metadata: dict[str, Any] | None = None


def read_target(fields: Mapping[str, str], filename: str | None) -> Target:
    """Work out where a file goes, from the fields and its name.

    Raises:
        Refusal: ``invalid-option``, ``invalid-name`` or ``invalid-metadata``.
    """
    check_known(fields)
    mode = fields.get("mode", "replace")
    if mode not in MODES:
        known = ", ".join(MODES)
        raise Refusal("invalid-option", f"mode={mode!r} is not known: there are {known}")
    if fields.get("wait_for", "regions") != "regions":
        raise Refusal("invalid-option", "wait_for is not known: there is only wait_for=regions")
    filename = clean_filename(fields.get("filename") or filename)
    stem = file_stem(filename) if filename else ""
    warnings: list[str] = []
    database = fields.get("database")
    if database is None:
        if not filename:
            raise Refusal(
                "invalid-name",
                "the upload has neither a database nor a file name",
                hint="add ?database=… or ?filename=…",
            )
        database = safe_database_name(stem)
        _warn_of_change(warnings, "database", stem, database)
    table = fields.get("table")
    if table is None:
        table = safe_table_name(stem) if filename else safe_table_name(database)
        _warn_of_change(warnings, "table", stem or database, table)
    elif table != without_brackets(table):
        _warn_of_change(warnings, "table", table, without_brackets(table))
        table = without_brackets(table)
    check_database_name(database)
    said = read_metadata_text(fields["metadata"], database) if "metadata" in fields else None
    return Target(
        database=database,
        table=check_table_name(table),
        mode=mode,
        filename=filename or database,
        warnings=(*warnings, *(said.warnings if said else ())),
        wishes=read_wishes(fields),
        table_given="table" in fields,
        metadata=said.metadata if said else None,
    )


def database_of(fields: Mapping[str, str], filename: str | None) -> str | None:
    """Tell where a file goes, whatever else is asked for; None if that cannot be told."""
    if "database" in fields:
        return fields["database"]
    named = {"filename": fields["filename"]} if "filename" in fields else {}
    with suppress(Refusal):  # whoever takes the file says what is wrong
        return read_target(named, filename).database
    return None


def clean_filename(filename: str | None) -> str:
    """Give the last part of a client's file name, without control characters; it is only shown.

    Source: RFC 6266, section 4.3: a recipient must not trust folders in it.
    """
    last = (filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(character for character in last if character.isprintable())
    return shown[:MAX_FILENAME]


def filename_of(headers: Mapping[str, str]) -> str | None:
    """Read the file name of ``Content-Disposition``: ``filename*`` wins (RFC 6266)."""
    header = headers.get("Content-Disposition")
    if header is None:
        return None
    from aiohttp import multipart  # noqa: PLC0415 - commands read this table without it

    _kind, parameters = multipart.parse_content_disposition(header)
    return multipart.content_disposition_filename(parameters)


def wait_of(prefer: list[str]) -> float:
    """Read how long the client wants to wait for ``201``, in seconds, from ``Prefer`` headers.

    Source: RFC 7240, sections 4.1 and 4.3. What is not understood is ignored, as it says.
    """
    wait_s = DEFAULT_WAIT_S
    for preference in ",".join(prefer).split(","):
        stripped = preference.strip().lower()
        if stripped == "respond-async":
            return 0.0
        if found := _WAIT.match(stripped):
            wait_s = min(float(found[1]), MAX_WAIT_S)
    return wait_s


def check_digest(headers: Mapping[str, str], sha256: str) -> None:
    """Compare the SHA-256 of what arrived with ``Content-Digest`` and ``Repr-Digest``, if sent.

    Source: RFC 9530, sections 2 and 3; other algorithms are left alone.

    Raises:
        Refusal: ``digest-mismatch`` or ``bad-request``.
    """
    for name in ("Content-Digest", "Repr-Digest"):
        for member in headers.get(name, "").split(","):
            algorithm, _, value = member.strip().partition("=")
            if algorithm.lower() != "sha-256":
                continue
            try:
                sent = base64.b64decode(value.strip(":"), validate=True).hex()
            except binascii.Error as exc:
                raise Refusal("bad-request", f"{name} is not base64 between colons") from exc
            if sent != sha256:
                raise Refusal("digest-mismatch", f"{name} says {sent}, what arrived is {sha256}")


def check_known(fields: Mapping[str, str]) -> None:
    """Refuse a request with a field that nobody knows.

    Raises:
        Refusal: ``invalid-option``.
    """
    for name in fields:
        if name not in FIELDS:
            known = ", ".join(sorted(FIELDS))
            raise Refusal("invalid-option", f"the option {name!r} is not known: there are {known}")


def _warn_of_change(warnings: list[str], kind: str, wished: str, name: str) -> None:
    if name != wished:
        warnings.append(f"the {kind} is named {name!r}, and not {wished!r}")
