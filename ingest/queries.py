"""Canned queries and units, tried before readers get them: in a process that can be ended.

A query that is short may take years to prepare (each of its subqueries names another one twice),
and what stands for a unit is calculated. Nothing is run, and nothing can be written.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import sqlite3
import sys
from contextlib import closing
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.leash import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIMEOUT_S = 10.0  # for all of them
CPU_S = 5
MEMORY_BYTES = 512 * 1024**2
NO_FUNCTION = "no such function"  # begins what SQLite says; a plugin of the readers may have it

_SELECT = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:select|with)\b", re.DOTALL | re.IGNORECASE)
_NO_SELECT = "it is not one SELECT that only reads the tables of the database"
_MAX_FAULT = 300  # characters


async def try_apart(
    queries: Sequence[str],
    units: Sequence[str],
    databases: Sequence[Path],
    environment: Mapping[str, str],
) -> tuple[list[str | None], list[str | None]]:
    """Prepare queries and use units, in a process of its own.

    Args:
        queries: Their SQL.
        units: As metadata has them.
        databases: Where the queries are prepared: the first that has a name decides what it stands
            for. They are opened read-only.
        environment: Of the process.

    Returns:
        What is wrong with each query and each unit; None: nothing.
    """
    if not queries and not units:
        return [], []
    request = {
        "parent_pid": os.getpid(),
        "queries": list(queries),
        "units": list(units),
        "databases": [str(path.absolute()) for path in databases],
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-s", "-m", "ingest.queries"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=dict(environment),
    )
    answers: list[str | None] = []
    try:
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(TIMEOUT_S):
                await _ask(process, request, answers)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    missing = len(queries) + len(units) - len(answers)
    answers += ["it takes too long, or too much memory, to be prepared"] * missing
    return answers[: len(queries)], answers[len(queries) :]


async def _ask(
    process: asyncio.subprocess.Process, request: Mapping[str, Any], answers: list[str | None]
) -> None:
    """Add the answers as they come: those that are there count, also if the rest never comes."""
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    process.stdin.write(json.dumps(request).encode())
    process.stdin.close()
    while line := await process.stdout.readline():
        answers.append(json.loads(line))


def main() -> None:
    """Answer for one query and unit after the other; in the process of its own."""
    request = json.load(sys.stdin)
    die_with_parent(request["parent_pid"])
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    with closing(_connect([Path(path) for path in request["databases"]])) as db:
        for sql in request["queries"]:
            print(json.dumps(find_fault(db, sql)), flush=True)  # noqa: T201 - the answer
    for unit in request["units"]:
        print(json.dumps(_find_fault_of_unit(unit)), flush=True)  # noqa: T201


def _connect(paths: Sequence[Path]) -> sqlite3.Connection:
    uris = [f"{path.as_uri()}?mode=ro" for path in paths] or ["file::memory:"]
    db = sqlite3.connect(uris[0], uri=True)
    for number, uri in enumerate(uris[1:]):
        db.execute(f"ATTACH ? AS other{number}", (uri,))
    return db


def find_fault(db: sqlite3.Connection, sql: str) -> str | None:
    """Prepare one query, and say what is wrong with it."""
    if not _SELECT.match(sql):
        return _NO_SELECT
    given = _Parameters()
    try:
        steps = db.execute(f"EXPLAIN {sql}", given).fetchall()
    except (sqlite3.Error, sqlite3.Warning, ValueError) as exc:  # the last: a NUL
        return str(exc)[:_MAX_FAULT]
    if any(operation == "Transaction" and writes for _, operation, _, writes, *_ in steps):
        return _NO_SELECT
    if magic := sorted(name for name in given.names if name.startswith("_")):
        return (
            f"the parameter {magic[0]!r} begins with an underscore: Datasette would fill it in "
            "from the visitor's cookies, headers or account"
        )
    return None


class _Parameters(dict[str, Any]):
    """Gives NULL for every named parameter, and notes its name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __missing__(self, name: str) -> None:
        self.names.add(name)


def _find_fault_of_unit(unit: str) -> str | None:
    """Do with a unit what Datasette does; 1.0 has none, so there it is only kept.

    Source: datasette 0.65.5, ``views/table.py``.
    """
    if find_spec("datasette.vendored") is None:
        return None
    try:
        f"{round((1.5 * _registry()(unit)).to_compact(), 6):~P}"
    except Exception as exc:  # noqa: BLE001 - whatever it is, pages would fail by it
        return f"Datasette cannot use it: {str(exc)[:200]}"
    return None


@cache
def _registry() -> Any:
    # Not loaded before a unit is there: it takes 0.2 s, and so do its definitions.
    return import_module("datasette.vendored.pint").UnitRegistry()


if __name__ == "__main__":
    main()
