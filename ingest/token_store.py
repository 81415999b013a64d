"""Tokens that were given out: only their hashes are kept, in the journal, and so replicated.

A token is 32 random bytes, so a plain SHA-256 of it cannot be turned back. All of them are in
memory too: a request costs no query.

Source: RFC 6750, section 5.2 (short-lived, scoped tokens); GitHub's tokens for the prefix, by which
a secret that got into a repository can be found.
"""

from __future__ import annotations

import hmac
import json
import secrets
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from headrace.errors import Refusal
from headrace.generation import format_time, parse_time
from headrace.tokens import MADE_PREFIX, hash_token
from ingest.audit_rows import AuditRow, insert_audit
from ingest.writer import By, Writer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from ingest import documents
    from ingest.journal import Journal

RANDOM_BYTES = 32
ID_BYTES = 6
MAX_NAME = 100  # characters
USE_NOTED_EVERY = timedelta(minutes=1)
_SESSION_KEY = "session"  # in the table of secrets

SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,  -- of the token, which is kept nowhere
    scopes TEXT NOT NULL,  -- JSON
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT,
    used_at TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secrets (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""
_COLUMNS = "id, name, sha256, scopes, created_at, created_by, expires_at, revoked_at, used_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token that was given out.

    Attributes:
        id: 12 hex digits; no secret.
        name: What people call it.
        sha256: Of its text: 64 hex digits.
        scopes: What it may do.
        created_at: When it was made.
        created_by: Id of the writer who made it.
        expires_at: When it ends; None: never.
        revoked_at: When it was revoked; None if it was not.
        used_at: When it was used last, to a minute; None if it never was.
    """

    id: str
    name: str
    sha256: str
    scopes: frozenset[str]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None = None
    used_at: datetime | None = None

    def fault(self, now: datetime) -> str | None:
        """Say why it does not count any more; None if it does."""
        if self.revoked_at is not None:
            return "the token was revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "the token has expired"
        return None

    def writer(self, address: str, by: By = By.TOKEN) -> Writer:
        """Give who writes with it."""
        return Writer(
            id=f"token:{self.id}", name=self.name, scopes=self.scopes, address=address, by=by
        )

    def encode(self) -> documents.Token:
        """Give the JSON form that is shown: without the hash."""
        return {
            "id": self.id,
            "name": self.name,
            "scopes": sorted(self.scopes),
            "created_at": format_time(self.created_at),
            "created_by": self.created_by,
            "expires_at": None if self.expires_at is None else format_time(self.expires_at),
            "revoked_at": None if self.revoked_at is None else format_time(self.revoked_at),
            "used_at": None if self.used_at is None else format_time(self.used_at),
        }


class TokenStore:
    """The tokens of one primary.

    Args:
        journal: Where they are kept.
        now: Gives the time, by a clock that never jumps.

    Attributes:
        session_key: A secret to sign cookies with.
    """

    def __init__(self, journal: Journal, now: Callable[[], datetime]) -> None:
        self._journal = journal
        self._now = now
        self._tokens: dict[str, Token] = {}
        self._by_hash: dict[str, str] = {}  # first digits of a hash: id
        self._unwritten: set[str] = set()
        self.session_key = ""

    async def load(self) -> None:
        """Read them; to be called before anything else."""

        def read(db: sqlite3.Connection) -> tuple[list[Any], str]:
            made = (_SESSION_KEY, secrets.token_urlsafe(RANDOM_BYTES))
            db.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", made)
            key = db.execute("SELECT value FROM secrets WHERE name = ?", (_SESSION_KEY,))
            return db.execute(f"SELECT {_COLUMNS} FROM tokens").fetchall(), key.fetchone()[0]  # noqa: S608

        rows, self.session_key = await self._journal.change(read)
        for row in rows:
            self._remember(_decode(row))

    def find(self, text: str) -> Token | None:
        """Find a token by its text, whether it still counts or not."""
        sent = hash_token(text)
        # A short part of the hash leads to one candidate, which is compared in constant time.
        token = self._tokens.get(self._by_hash.get(sent[:16], ""))
        if token is None or not hmac.compare_digest(sent, token.sha256):
            return None
        return token

    def get(self, token_id: str) -> Token:
        """Give a token by its id.

        Raises:
            Refusal: ``not-found``.
        """
        try:
            return self._tokens[token_id]
        except KeyError:
            raise Refusal("not-found", "there is no such token") from None

    def find_by_id(self, token_id: str) -> Token | None:
        """Find a token by its id."""
        return self._tokens.get(token_id)

    def list_all(self) -> list[Token]:
        """List them, the oldest first."""
        return sorted(self._tokens.values(), key=lambda each: (each.created_at, each.id))

    async def create(
        self, by: Writer, *, name: str, scopes: frozenset[str], lifetime: timedelta | None
    ) -> tuple[Token, str]:
        """Make a token; give it, and its text, which is not kept.

        Args:
            by: Who makes it.
            name: What people call it.
            scopes: What it may do.
            lifetime: Until it ends; None: never.
        """
        now = self._now()
        text = MADE_PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
        token = Token(
            id=secrets.token_hex(ID_BYTES),
            name=name,
            sha256=hash_token(text),
            scopes=scopes,
            created_at=now,
            created_by=by.id,
            expires_at=None if lifetime is None else now + lifetime,
        )
        row = AuditRow.of(by, "create-token", now, detail=f"token:{token.id}")

        def write(db: sqlite3.Connection) -> None:
            sql = f"INSERT INTO tokens ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
            db.execute(sql, _encode(token))
            insert_audit(db, [row])

        await self._journal.change(write)
        self._remember(token)
        return token, text

    async def revoke(self, by: Writer, token_id: str) -> Token:
        """End a token, at once; one that was revoked before stays so.

        Raises:
            Refusal: ``not-found``.
        """
        token = self.get(token_id)
        now = self._now()
        token = replace(token, revoked_at=token.revoked_at or now)
        self._tokens[token.id] = token
        row = AuditRow.of(by, "revoke-token", now, detail=f"token:{token.id}")

        def write(db: sqlite3.Connection) -> None:
            sql = "UPDATE tokens SET revoked_at = ? WHERE id = ?"
            db.execute(sql, (format_time(token.revoked_at or now), token.id))
            insert_audit(db, [row])

        await self._journal.change(write)
        return token

    def note_use(self, token: Token) -> None:
        """Remember that a token is used now; it is written down with others, a little later."""
        now = self._now()
        if token.used_at is None or now - token.used_at >= USE_NOTED_EVERY:
            self._tokens[token.id] = replace(token, used_at=now)
            self._unwritten.add(token.id)

    def take_uses(self) -> list[Token]:
        """Give the tokens whose last use is to be written down, by ``write_uses``."""
        used = [self._tokens[each] for each in self._unwritten]
        self._unwritten.clear()
        return used

    def give_back_uses(self, used: Iterable[Token]) -> None:
        """Take back what could not be written down."""
        self._unwritten.update(each.id for each in used)

    def _remember(self, token: Token) -> None:
        self._tokens[token.id] = token
        self._by_hash[token.sha256[:16]] = token.id


def write_uses(db: sqlite3.Connection, used: Iterable[Token]) -> None:
    """Write down when tokens were used."""
    rows = [(format_time(each.used_at), each.id) for each in used if each.used_at]
    db.executemany("UPDATE tokens SET used_at = ? WHERE id = ?", rows)


def _encode(token: Token) -> tuple[Any, ...]:
    return (
        token.id,
        token.name,
        token.sha256,
        json.dumps(sorted(token.scopes)),
        format_time(token.created_at),
        token.created_by,
        token.expires_at and format_time(token.expires_at),
        token.revoked_at and format_time(token.revoked_at),
        token.used_at and format_time(token.used_at),
    )


def _decode(row: tuple[Any, ...]) -> Token:
    token_id, name, sha256, scopes, created_at, created_by, *times = row
    expires_at, revoked_at, used_at = (each and parse_time(each) for each in times)
    return Token(
        id=token_id,
        name=name,
        sha256=sha256,
        scopes=frozenset(json.loads(scopes)),
        created_at=parse_time(created_at),
        created_by=created_by,
        expires_at=expires_at,
        revoked_at=revoked_at,
        used_at=used_at,
    )
