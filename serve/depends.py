"""What a page depends on: the part of the generation, and of the configuration, that it shows.

Checked in Datasette 0.65.5: the pages below ``/<database>`` (its tables, rows, queries, downloads,
its 404s) show that database, the user's metadata and Datasette's own name and version; menus and
crumbs come from the actor and the path. Of the instance's metadata they show only what the user
wrote (licence, source, about): the description, which names the generation, stands on ``/`` alone.
``/`` and ``/-/…`` list all databases.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.generation import State

# Datasette serves files with these endings in its configuration directory, and watches them for
# writes. Source: Datasette 0.65.5, Datasette.__init__, config_dir mode.
_DATABASE_ENDINGS = frozenset({".db", ".sqlite", ".sqlite3"})
_SIDE_FILES = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What of the user's Datasette configuration decides about pages.

    Attributes:
        fingerprint: Of the files' names, sizes and times: another one, other pages.
        base_url: Datasette's setting: the path that all of it lies below.
        live: Databases that the user put into the folder. They can change at any time.
    """

    fingerprint: str = ""
    base_url: str = "/"
    live: frozenset[str] = frozenset()


def read_configuration(folder: Path | None) -> Configuration:
    """Look at a configuration directory; None gives the configuration of a plain Datasette."""
    if folder is None:
        return Configuration()
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(_walk(folder)):
        try:
            found = path.stat()
        except OSError:  # it is gone: so it was not there
            continue
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode(errors="replace"))
    live = {path.stem for path in folder.iterdir() if path.suffix in _DATABASE_ENDINGS}
    return Configuration(
        fingerprint=digest.hexdigest(), base_url=_read_base_url(folder), live=frozenset(live)
    )


class Dependencies:
    """What the pages of one set of workers depend on.

    Args:
        state: The generation that the set serves.
        configuration: The one that its workers were started with.
    """

    def __init__(self, state: State, configuration: Configuration) -> None:
        self._state = state
        self._configuration = configuration
        self._base_url = configuration.base_url.rstrip("/") + "/"
        self._instance = f"{state.epoch}.{state.number}.{configuration.fingerprint}"
        self._tokens: dict[str, str] = {}

    def find_token(self, path: str) -> str | None:
        """Give what a path's page depends on, as text; None if it can change at any time.

        Args:
            path: Of the request, byte for byte, without the query.

        Returns:
            The same text for as long as the page is the same.
        """
        database = self._first_segment(path)
        known = self._tokens.get(database)
        if known is not None:
            return known
        cut = self._state.databases.get(database)
        if cut is None:
            # The instance's, or a name written otherwise (`~73ales`): all of the generation.
            return None if self._configuration.live else self._instance
        # All that is published of it: its page also says when it was updated, and from which file.
        published = json.dumps(cut.encode(), sort_keys=True)
        digest = hashlib.blake2b(published.encode(), digest_size=16).hexdigest()
        token = f"{database}.{digest}.{self._configuration.fingerprint}"
        self._tokens[database] = token
        return token

    def _first_segment(self, path: str) -> str:
        if self._base_url != "/" and path.startswith(self._base_url):
            path = path[len(self._base_url) - 1 :]
        return path[1:].partition("/")[0].partition(".")[0]


def _walk(folder: Path) -> list[Path]:
    return [
        Path(parent) / name
        for parent, _folders, names in os.walk(folder)
        if not parent.endswith("__pycache__")
        for name in names
        if not name.endswith(_SIDE_FILES)
    ]


def _read_base_url(folder: Path) -> str:
    try:
        settings: Any = json.loads((folder / "settings.json").read_text())
        return str(settings.get("base_url", "/"))
    except (OSError, ValueError, AttributeError):  # Datasette says what is wrong with it
        return "/"
