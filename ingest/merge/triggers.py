"""Triggers of a live database: none runs while rows are written, but those of a search.

A database that somebody uploaded may have triggers, which do what he wants: without end, and in
tables whose rows nobody counts then. So they are taken out before anything is written, and put back
before that is committed: they stay part of the database, and never run here. Those of a full-text
search run, if they are what is written here to the letter; else they are replaced by such.

SQLite lets a trigger write to a full-text index only where the whole schema is trusted
(sqlite.org/pragma.html, trusted_schema): that is said when no other trigger is left.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.names import quote_identifier as quote
from ingest.merge.schema import find_table, is_taken
from ingest.merge.search import (
    find_searches,
    install_triggers,
    is_fts5,
    is_own_trigger,
    rebuild_search,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from ingest.merge.search import Search

MAX_KEPT = 1_000  # each is looked for among all of them
MAX_SHOWN = 10  # names in a warning
_TRIGGER = re.compile(r"CREATE\s+TRIGGER\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger that was taken out.

    Attributes:
        name: As it is written.
        table: The table or view that it is on.
        sql: What made it.
    """

    name: str
    table: str
    sql: str


@dataclass(frozen=True, slots=True)
class Aside:
    """What was taken out of a live database.

    Attributes:
        triggers: Those that are put back.
        searches: Tables and their searches that were kept right by triggers of another hand.
        replaced: Those triggers that are not put back: the search gets ours.
    """

    triggers: list[Trigger] = field(default_factory=list)
    searches: list[tuple[str, Search]] = field(default_factory=list)
    replaced: list[Trigger] = field(default_factory=list)

    def on(self, table: str) -> list[str]:
        """Give the names of the triggers on a table."""
        return [each.name for each in self.triggers if each.table.lower() == table.lower()]


def drop_triggers(db: sqlite3.Connection, schema: str) -> None:
    """Drop all triggers of a database."""
    query = f"SELECT name FROM {schema}.sqlite_schema WHERE type = 'trigger'"  # noqa: S608
    for (name,) in db.execute(query).fetchall():
        db.execute(f"DROP TRIGGER {schema}.{quote(name)}")


def set_aside(db: sqlite3.Connection) -> Aside:
    """Take the triggers out that are not to run; in the transaction that they shall not run in."""
    stored = db.execute(
        "SELECT name, tbl_name, sql FROM main.sqlite_schema WHERE type = 'trigger' ORDER BY rowid"
    ).fetchall()
    aside = Aside()
    searches: dict[str, list[Search]] = {}  # by the table
    runs = False
    for trigger in (Trigger(*row) for row in stored):
        name = trigger.table
        if name not in searches:
            table = find_table(db, "main", name)
            searches[name] = find_searches(db, table) if table else []
        if any(is_own_trigger(name, each, trigger.sql) for each in searches[name]):
            runs = True
            continue
        db.execute(f"DROP TRIGGER main.{quote(trigger.name)}")
        named = [each for each in searches[name] if each.name.lower() in trigger.sql.lower()]
        aside.searches.extend((name, each) for each in named if (name, each) not in aside.searches)
        left = aside.replaced if any(is_fts5(each) for each in named) else aside.triggers
        left.append(trigger)
    if runs:
        db.execute("PRAGMA trusted_schema = ON")
    return aside


def put_back(db: sqlite3.Connection, aside: Aside, written: Collection[str]) -> list[str]:
    """Put back what was taken out, before the commit.

    Args:
        db: The live database.
        aside: What ``set_aside`` gave.
        written: The tables that were written to.

    Returns:
        Warnings: which triggers are not what they were, and which of those tables have some.
    """
    warnings = [
        f"the trigger {each.name!r} was replaced by those that full-text search has here"
        for each in aside.replaced
    ]
    for name in written:
        if names := aside.on(name):
            more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
            shown = ", ".join(map(repr, names[:MAX_SHOWN]))
            warnings.append(f"triggers of {name!r} are kept, and were not run: {shown}{more}")
    _fill_searches(db, aside, {each.lower() for each in written})
    if len(aside.triggers) > MAX_KEPT:
        gone = len(aside.triggers) - MAX_KEPT
        warnings.append(f"dropped {gone:,} triggers: {MAX_KEPT:,} are kept at most")
    for trigger in aside.triggers[:MAX_KEPT]:
        if not is_taken(db, trigger.table):  # what it was on is gone
            continue
        if failure := _make(db, trigger):
            warnings.append(f"dropped the trigger {trigger.name!r}: {failure}")
    return warnings


def _fill_searches(db: sqlite3.Connection, aside: Aside, written: Collection[str]) -> None:
    """Fill the searches whose triggers did not run; give those that can have them ours."""
    for name, search in aside.searches:
        table = find_table(db, "main", name)
        if table is None or search not in find_searches(db, table):  # it is gone
            continue
        if is_fts5(search):
            rebuild_search(db, search)
            install_triggers(db, table, search)
        elif name.lower() in written:
            rebuild_search(db, search)


def _make(db: sqlite3.Connection, trigger: Trigger) -> str | None:
    """Make a trigger again; say why it cannot be."""
    if not _TRIGGER.match(trigger.sql):  # a file can say what it likes there
        return "it is none"
    if is_taken(db, trigger.name):
        return "its name is taken"
    try:
        db.execute(trigger.sql)
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        return str(exc)
    return None
