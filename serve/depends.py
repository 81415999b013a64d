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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.generation import State
    from serve.configuration import Configuration


class Dependencies:
    """What the pages of one set of workers depend on.

    Args:
        state: The generation that the set serves.
        configuration: The one that its workers were started with.
    """

    def __init__(self, state: State, configuration: Configuration) -> None:
        self._state = state
        self._configuration = configuration
        self._instance = f"{state.epoch}.{state.number}.{configuration.fingerprint}"
        self._tokens: dict[str, str] = {}

    def find_token(self, path: str) -> str | None:
        """Give what a path's page depends on, as text; None if it can change at any time.

        Args:
            path: Of the request, byte for byte, without the query.

        Returns:
            The same text for as long as the page is the same.
        """
        database = first_segment(path, self._configuration.base_url)
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


def first_segment(path: str, base_url: str) -> str:
    """Give the first part of a path below Datasette's ``base_url``: the database, if it is one."""
    base_url = base_url.rstrip("/") + "/"
    if base_url != "/" and path.startswith(base_url):
        path = path[len(base_url) - 1 :]
    return path[1:].partition("/")[0].partition(".")[0]
