"""Who asks, and what he may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from headrace.names import check_database_name

if TYPE_CHECKING:
    from collections.abc import Iterable

ADMIN = "admin"
INGEST = "ingest:"
INGEST_ALL = "ingest:*"
MAX_SCOPES = 100  # of one token


class By(StrEnum):
    """How a request says who sends it."""

    TOKEN = "token"  # noqa: S105 - a word
    SESSION = "session"
    ACTOR = "actor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Who asks.

    Attributes:
        id: ``root``, ``token:<id>``, or ``actor:<id>`` of Datasette.
        name: What people call it.
        scopes: What it may do: ``admin``, ``ingest:*``, ``ingest:<database>``.
        address: Where the request came from; ``""`` where nobody knows.
        by: How it said so.
    """

    id: str
    name: str
    scopes: frozenset[str]
    address: str = ""
    by: By = By.TOKEN

    @property
    def is_admin(self) -> bool:
        """Whether it may do everything."""
        return ADMIN in self.scopes

    @property
    def databases(self) -> frozenset[str] | None:
        """The databases that it may write to, and sees the receipts of; None: all."""
        if self.is_admin or INGEST_ALL in self.scopes:
            return None
        return frozenset(each.removeprefix(INGEST) for each in self.scopes)

    def sees(self, database: str | None) -> bool:
        """Whether it may write to a database; None: one that is not known."""
        return self.databases is None or database in self.databases

    def require(self, database: str | None) -> None:
        """Refuse what it may not write to, whether there is such a database or not.

        Raises:
            Refusal: ``forbidden``.
        """
        if not self.sees(database):
            raise Refusal(
                "forbidden",
                "this token may not write to that database"
                if self.by is not By.ACTOR
                else "you may not write to that database",
                hint="GET /ingest/session says what it may do",
            )

    def require_all(self) -> None:
        """Refuse who may not write to every database.

        Raises:
            Refusal: ``forbidden``.
        """
        if self.databases is not None:
            raise Refusal("forbidden", f"that takes the scope {INGEST_ALL} or {ADMIN}")

    def require_admin(self) -> None:
        """Refuse who may not do everything.

        Raises:
            Refusal: ``forbidden``.
        """
        if not self.is_admin:
            raise Refusal("forbidden", f"that takes the scope {ADMIN}")


ROOT = Writer(id="root", name="root", scopes=frozenset({ADMIN}))


def read_scopes(texts: Iterable[str]) -> frozenset[str]:
    """Check scopes; each text may hold several, with commas or spaces between.

    Raises:
        Refusal: ``invalid-option`` or ``invalid-name``.
    """
    scopes = {scope for text in texts for scope in text.replace(",", " ").split()}
    if not scopes:
        raise Refusal(
            "invalid-option",
            "the token would have no scope",
            hint="scopes are ingest:<database>, ingest:* and admin",
        )
    if len(scopes) > MAX_SCOPES:
        raise Refusal("invalid-option", f"a token takes {MAX_SCOPES} scopes at most")
    for scope in scopes - {ADMIN, INGEST_ALL}:
        if not scope.startswith(INGEST):
            raise Refusal(
                "invalid-option",
                f"the scope {scope!r} is not known",
                hint="scopes are ingest:<database>, ingest:* and admin (a space ends one)",
            )
        check_database_name(scope.removeprefix(INGEST))
    return frozenset(scopes)
