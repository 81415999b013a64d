"""The last question before a switch: does every table of the generation answer?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import yarl

from headrace.errors import WorkerError
from headrace.names import tilde_encode
from serve.groups import one_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headrace.generation import Cut

PROBE_TIMEOUT_S = 60.0  # for all tables together
PROBES_AT_ONCE = 4  # a worker
HOME = "/"
SMALLEST_PAGE = "/-/versions.json"

# A Datasette configuration may protect a table: then it answers, though not with rows. 400 is
# Datasette's answer where SQLite's own limits do not let it show one (2,000 columns and a rowid).
_ANSWERS = frozenset({200, 301, 302, 303, 307, 308, 400, 401, 403})
_OPTIONS = "_size=1&_nocount=1&_nofacet=1&_nosuggest=1"  # what makes a large table cheap to ask


async def probe(
    databases: Mapping[str, Cut], sessions: Sequence[aiohttp.ClientSession], *, home: bool
) -> None:
    """Ask workers for every table of some databases between them, and each for one page.

    Args:
        databases: What is new to the workers.
        sessions: One for each worker.
        home: Ask each for its home page, which shows all databases; else for one of the tables.

    Raises:
        WorkerError: One does not answer.
    """
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await _probe_all(databases, sessions, home=home)
    except TimeoutError as exc:
        raise WorkerError(f"the probe took longer than {PROBE_TIMEOUT_S:g} s") from exc


async def _probe_all(
    databases: Mapping[str, Cut], sessions: Sequence[aiohttp.ClientSession], *, home: bool
) -> None:
    paths = _table_paths(databases)
    first = HOME if home else next(_table_paths(databases), SMALLEST_PAGE)
    with one_error():
        async with asyncio.TaskGroup() as tasks:
            for session in sessions:
                tasks.create_task(_probe_paths(session, iter([first])))
                for _ in range(PROBES_AT_ONCE):
                    tasks.create_task(_probe_paths(session, paths))


def _table_paths(databases: Mapping[str, Cut]) -> Iterator[str]:
    for name, cut in databases.items():
        for table in cut.tables:
            yield f"/{name}/{tilde_encode(table)}.json?{_OPTIONS}"


async def _probe_paths(session: aiohttp.ClientSession, paths: Iterator[str]) -> None:
    """Ask for paths until there are none left; several of these share one iterator."""
    for path in paths:
        url = yarl.URL(f"http://localhost{path}", encoded=True)
        try:
            async with session.get(url, allow_redirects=False) as response:
                body = await response.content.read(500)
        except aiohttp.ClientError as exc:
            raise WorkerError(f"the worker does not answer {path}: {exc}") from exc
        if response.status not in _ANSWERS:
            reason = body.decode(errors="replace").strip()
            raise WorkerError(f"the worker answers {path} with {response.status}: {reason}")
