"""The primary's volume: its folders, and what a crash may have left in them."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from headrace.errors import ProofError
from headrace.store_url import check_plain_path
from headrace.sums import Sums

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.generation import Cut, State
    from headrace.keys import PrimaryPaths


def new_lineage() -> str:
    """Make a lineage's name: 16 hex digits, the form that litestream.yml's pattern watches for."""
    return secrets.token_hex(8)


def make_folders(paths: PrimaryPaths) -> None:
    """Make the volume's folders, for this user only.

    Raises:
        ConfigError: Its path has characters that Litestream cannot carry.
    """
    check_plain_path(paths.root)
    for folder in (paths.root, paths.dbs, paths.spool, paths.staging, paths.tus):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def sort_on_volume(folder: Path) -> None:
    """Let SQLite put what it sorts, and statements that it may undo, into a folder of the volume.

    Else a merge of a large table fills ``/var/tmp``, which in a container is small, or memory. It
    holds for the whole process; the files have no name, and go with the connection.

    Source: sqlite.org/tempfiles.html, 5; sqlite.org/pragma.html, temp_store_directory (deprecated:
    a SQLite that is built without it reads the variable when it first needs a folder).
    """
    os.environ["SQLITE_TMPDIR"] = str(folder)
    with closing(sqlite3.connect(":memory:")) as db:
        quoted = str(folder).replace("'", "''")
        db.execute(f"PRAGMA temp_store_directory = '{quoted}'")


def find_held(paths: PrimaryPaths, state: State) -> dict[str, Path]:
    """Find the databases whose file is here, followed as far as it is published or farther."""
    return {
        name: paths.database(name, cut.lineage)
        for name, cut in state.databases.items()
        if _holds(paths, name, cut)
    }


def clean(paths: PrimaryPaths, *, kept: set[tuple[str, str]], spooled: set[str]) -> None:
    """Delete what nobody knows, before Litestream starts.

    Args:
        paths: The volume.
        kept: Databases to keep, each with its lineage.
        spooled: Ids of the unfinished uploads, whose spooled files stay.
    """
    for folder in paths.dbs.iterdir():
        for file in folder.iterdir():
            if (folder.name, _lineage_of(file)) not in kept:
                _delete(file)
        if not any(folder.iterdir()):
            folder.rmdir()
    for file in paths.spool.iterdir():
        if file.name not in spooled:
            file.unlink()
    for folder in paths.staging.iterdir():
        shutil.rmtree(folder)


def make_empty(folder: Path) -> None:
    """Make a folder for this user only, without what was in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)


def _holds(paths: PrimaryPaths, database: str, cut: Cut) -> bool:
    """Say whether a file is here, and was followed as far as it is published."""
    try:
        at = Sums.read(paths.sums(database, cut.lineage)).txid
    except ProofError:
        return False
    return at >= cut.txid and paths.database(database, cut.lineage).exists()


def delete_lineage(paths: PrimaryPaths, database: str, lineage: str) -> None:
    """Delete one lineage's files, after Litestream has let go of it."""
    folder = paths.database(database, lineage).parent
    if not folder.exists():  # a primary before this one had it
        return
    for file in folder.iterdir():
        if _lineage_of(file) == lineage:
            _delete(file)
    if not any(folder.iterdir()):
        folder.rmdir()


def _lineage_of(file: Path) -> str:
    """Give the lineage that a file belongs to: ``L``, ``L-wal``, ``L-shm``, ``.L-litestream``."""
    return file.name.removeprefix(".").partition("-")[0]


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
