"""Which SQL gives another result each time, though no row has changed: chance, time, who asks.

What a request's target says is seen by the edge, which asks Datasette each time. Canned queries and
views are seen by the worker alone: while it makes an answer, all SQL that it runs on a slot is
looked at, and an answer that such SQL went into says that nobody may keep it.

This reads text, not SQL. What it takes for restless without need is rendered each time; what it
does not see (a time that is put together out of parts, a function of a plugin) is kept for an hour
at most (cache_rules.py).
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Source: SQLite, "Date And Time Functions": without a time they take that of now, also where the
# first they have is 'subsec'. Datasette, "Magic parameters": they begin with an underscore.
_RESTLESS = re.compile(
    r"""
    \brandom(?:blob)?\s*\(
    | \bcurrent_(?:date|time|timestamp)\b
    | (?:date|time|julianday|unixepoch)\s*\(\s*\)
    | \bstrftime\s*\(\s*(?:'[^']*'|"[^"]*"|[:@$?]\w*)\s*\)
    | ['"]\s*(?:now|subsec|subsecond)\s*['"]
    | :_\w
    """,
    re.IGNORECASE | re.VERBOSE,
)
_OF_TIME = re.compile(r"(?:date|time|julianday|unixepoch|timediff)\s*\(", re.IGNORECASE)
_NOW = frozenset({"now", "subsec", "subsecond"})
_SQL = frozenset({"sql", "_where"})  # the parameters that Datasette takes SQL from


def is_restless(sql: str, values: Iterable[object] = ()) -> bool:
    """Tell whether SQL gives another result each time.

    Args:
        sql: A statement, or a part of one.
        values: Of its parameters.
    """
    if _RESTLESS.search(sql) is not None:
        return True
    given = {value.strip().lower() for value in values if isinstance(value, str)}
    return not given.isdisjoint(_NOW) and _OF_TIME.search(sql) is not None


def asks_restless(target: str) -> bool:
    """Tell whether a request's target holds such SQL."""
    query = target.partition("?")[2]
    if not ("sql" in query or "_where" in query or "%" in query):  # most targets, in no time
        return False
    pairs = parse_qsl(query, keep_blank_values=True)
    values = [value for _name, value in pairs]
    return any(name in _SQL and is_restless(value, values) for name, value in pairs)


def find_restless_views(views: Mapping[str, str]) -> frozenset[str]:
    """Give those views whose own SQL, or that of a view in it, is restless.

    Args:
        views: The SQL of each.
    """
    found: set[str] = set()
    while new := {
        name
        for name, sql in views.items()
        if name not in found and (is_restless(sql) or names_any(sql, found))
    }:
        found |= new
    return frozenset(found)


def names_any(sql: str, views: Iterable[str]) -> bool:
    """Tell whether a view may be named in SQL."""
    lower = sql.lower()
    return any(name.lower() in lower for name in views)


@dataclass(slots=True)
class Making:
    """An answer that is being made.

    Attributes:
        restless: Whether such SQL went into it.
    """

    restless: bool = False


MAKING: ContextVar[Making | None] = ContextVar("making", default=None)


class RestlessAnswers:
    """An ASGI application whose answers say so if nobody may keep them.

    Args:
        application: Makes them.
        unchosen: The ``Cache-Control`` that nobody has chosen; another one stays.
    """

    def __init__(self, application: Any, unchosen: str) -> None:
        self._application = application
        self._unchosen = unchosen.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        making = Making()
        MAKING.set(making)

        async def tell(message: Any) -> None:
            if making.restless and message["type"] == "http.response.start":
                headers = [each for each in message["headers"] if not self._is_unchosen(each)]
                if not any(name.lower() == b"cache-control" for name, _value in headers):
                    headers.append((b"cache-control", b"no-cache"))
                message = {**message, "headers": headers}
            await send(message)

        await self._application(scope, receive, tell)

    def _is_unchosen(self, header: tuple[bytes, bytes]) -> bool:
        name, value = header
        return name.lower() == b"cache-control" and value == self._unchosen
