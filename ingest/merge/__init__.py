"""merge: a staging database goes into the primary's database in one transaction.

Runs in a thread: all the work is SQLite's own C code, outside of the interpreter's lock. A merge
also writes the receipt's id and its own outcome into ``_headrace_merges``, in the same transaction,
so that after a crash it is known whether it happened, and what it did.
"""

from ingest.merge.database import count_tables, find_last_merge, find_tables
from ingest.merge.first import FIRST_TXIDS, adopt
from ingest.merge.tables import Merged, MergedTable, merge, require_keys
from ingest.merge.texts import find_texts, keeps_texts

__all__ = [
    "FIRST_TXIDS",
    "Merged",
    "MergedTable",
    "adopt",
    "count_tables",
    "find_last_merge",
    "find_tables",
    "find_texts",
    "keeps_texts",
    "merge",
    "require_keys",
]
