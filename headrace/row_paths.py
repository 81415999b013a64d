"""The paths of Datasette's write API: what is written to, and how.

Source: Datasette 1.0a41, ``docs/json_api.rst``, "The JSON write API", and ``app.py``; for the older
form datasette-insert 0.8, ``datasette_insert/__init__.py``. All of them are POST.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from headrace.names import tilde_decode


class RowVerb(StrEnum):
    """What a request does."""

    INSERT = "insert"
    UPSERT = "upsert"
    UPDATE = "update"
    DELETE = "delete"
    CREATE = "create"
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPath:
    """Where a request goes.

    Attributes:
        verb: What it does.
        database: As it is named there.
        table: As it is named there; ``""`` for ``create``, whose body names it.
        pks: Values of the row's key, for ``update`` and ``delete``.
        older: Whether it is of the form that datasette-insert has.
    """

    verb: RowVerb
    database: str
    table: str = ""
    pks: tuple[str, ...] = ()
    older: bool = False


_NAME = "[^/?#]+"
_PATH = re.compile(
    rf"/-/(?P<older>insert|upsert)/(?P<older_database>{_NAME})/(?P<older_table>{_NAME})"
    rf"|/(?!-/)(?P<database>{_NAME})/(?:-/(?P<on_database>create)"
    rf"|(?!-/)(?P<table>{_NAME})/(?:-/(?P<on_table>insert|upsert|drop)"
    rf"|(?!-/)(?P<pks>{_NAME})/-/(?P<on_row>update|delete)))"
)


def find_row_path(path: str) -> RowPath | None:
    """Read the path of a POST, as it was sent; None if it is none of the write API."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    if found["older"]:
        return RowPath(
            verb=RowVerb(found["older"]),
            database=tilde_decode(found["older_database"]),
            table=tilde_decode(found["older_table"]),
            older=True,
        )
    return RowPath(
        verb=RowVerb(found["on_database"] or found["on_table"] or found["on_row"]),
        database=tilde_decode(found["database"]),
        table=tilde_decode(found["table"] or ""),
        pks=tuple(map(tilde_decode, (found["pks"] or "").split(","))) if found["pks"] else (),
    )
