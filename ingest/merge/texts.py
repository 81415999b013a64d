"""Columns of a live database that hold texts: a file's values go there as the file writes them.

A converter is told of them before it makes numbers of texts, which would not all go back: ``1.10``.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from typing import TYPE_CHECKING

from ingest.merge.database import BUSY_TIMEOUT_S
from ingest.merge.lookups import find_references, value_column
from ingest.merge.schema import Column, find_table, get_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ingest.converters import TableRows

_COLUMNS = (
    "SELECT stored.name, info.name, upper(info.type) FROM sqlite_schema AS stored "
    "JOIN pragma_table_xinfo(stored.name) AS info "
    "WHERE stored.type = 'table' AND stored.rootpage > 0 AND info.hidden = 0"
)
_REFERRING = (
    "SELECT DISTINCT stored.name FROM sqlite_schema AS stored "
    "JOIN pragma_foreign_key_list(stored.name) "
    "WHERE stored.type = 'table' AND stored.rootpage > 0"
)


def find_texts(live: Path, mode: str) -> dict[str, frozenset[str]]:
    """Find the columns that a merge leaves texts, whatever a file has for them.

    Args:
        live: The live database, which is only read.
        mode: ``append`` or ``upsert``; by ``replace`` a table becomes what the file says, and only
            what is looked up in other tables stays.

    Returns:
        Columns by table, as ``Conversion.texts``. What a table refers to a lookup table for counts
        among its own, by the names that a file may have for it.

    Raises:
        sqlite3.Error: The file cannot be read, or is there no more.
    """
    texts: defaultdict[str, set[str]] = defaultdict(set)
    uri = f"{live.as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)) as db:
        db.execute("PRAGMA trusted_schema = OFF")
        for name, column, kind in db.execute(_COLUMNS):
            of_table = texts[name.lower()]
            if mode != "replace" and Column(name=column, type=kind, key=0).affinity == "TEXT":
                of_table.add(column.lower())
        for (name,) in db.execute(_REFERRING).fetchall():
            table = get_table(db, "main", name)
            for reference in find_references(db, table):
                values = value_column(get_table(db, "main", reference.lookup))
                if values is None or values.affinity != "TEXT":
                    continue
                texts[reference.lookup.lower()].add(values.name.lower())
                plain = (values.name, reference.column.removesuffix("_id"))
                texts[name.lower()].update(
                    each.lower() for each in plain if table.find_column(each) is None
                )
    return {name: frozenset(columns) for name, columns in texts.items()}


def keeps_texts(
    staging: Path,
    tables: Iterable[TableRows],
    *,
    told: Mapping[str, frozenset[str]],
    texts: Mapping[str, frozenset[str]],
) -> bool:
    """Say whether a file was converted as if its converter had been told what holds now.

    Args:
        staging: What became of the file; it is only read.
        tables: Its tables.
        told: What the converter was told.
        texts: What holds.
    """
    if told == texts:
        return True
    with closing(sqlite3.connect(f"{staging.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        db.execute("PRAGMA trusted_schema = OFF")
        for each in tables:
            was, now = (known.get(each.name.lower(), frozenset()) for known in (told, texts))
            table = find_table(db, "main", each.name) if was != now else None
            for column in table.columns if table else ():
                name, is_text = column.name.lower(), column.affinity == "TEXT"
                if name in was - now or (name in now - was and not is_text):
                    return False
    return True
