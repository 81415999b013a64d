"""The commands that ask something of the primary, or of a reader that passes it on."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import click

from headrace.errors import HeadraceError, RemoteError
from headrace.history_commands import print_table
from headrace.remote.credentials import find_token
from headrace.remote.server import connected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TIMEOUT_S = 3600.0  # a rollback copies whole databases
LOOK_S = 0.1  # from one look at what regions show to the next
WAIT = "wait=600"  # seconds for a conversion; what takes longer goes on


async def roll_back(
    url: str, token_file: Path | None, number: int, database: str | None, *, in_regions: bool
) -> None:
    """Ask the primary to publish an earlier generation again.

    Args:
        url: Of it, or of a reader.
        token_file: None: the token is found elsewhere.
        number: Of the generation.
        database: None: all of them.
        in_regions: Wait until all regions show it.

    Raises:
        HeadraceError: It refused, or cannot be reached.
    """
    options = {"database": database} if database else {}
    answer = await ask(url, token_file, f"/ingest/generations/{number}/rollback", options)
    click.echo(f"generation {answer['generation']} holds what {number} held")
    for name, txid in answer["nearest"].items():
        click.echo(f"  but {name} as of TXID {txid}: the nearest before it that is kept")
    if in_regions:
        await _wait_shown(url, token_file, answer["generation"])


async def _wait_shown(url: str, token_file: Path | None, generation: int) -> None:
    """Wait until all regions that were heard of lately show a generation."""
    while True:
        status = await ask(url, token_file, "/ingest/status", method="GET")
        if all(each["generation"] >= generation for each in status["regions"].values()):
            return
        await asyncio.sleep(LOOK_S)


async def reprocess(
    url: str, token_file: Path | None, receipt_id: str, options: Sequence[str]
) -> None:
    """Ask the primary to take an archived upload once more.

    Args:
        url: Of it, or of a reader.
        token_file: None: the token is found elsewhere.
        receipt_id: Of the upload.
        options: What is to be other than then, each ``name=value``.

    Raises:
        HeadraceError: It refused, or cannot be reached, or an option has no value.
    """
    asked = read_options(options)
    path = f"/ingest/receipts/{receipt_id}/reprocess"
    answer = await ask(url, token_file, path, asked, prefer=WAIT)
    where = f"in generation {answer['generation']}: {answer['url']}" if answer["url"] else ""
    click.echo(f"receipt {answer['id']}: {answer['state']} {where}".rstrip())
    for warning in answer["warnings"]:
        click.echo(f"  {warning}")


async def prune(url: str, token_file: Path | None, *, dry_run: bool) -> None:
    """Ask the primary to delete what nobody needs, or only what that is.

    Raises:
        HeadraceError: It refused, or cannot be reached.
    """
    answer = await ask(url, token_file, "/ingest/prune", {"dry_run": str(int(dry_run))})
    rows = [
        (each["kind"], each["name"], str(each["objects"]), str(each["size_bytes"]))
        for each in answer["pruned"]
    ]
    print_table(("kind", "name", "objects", "bytes"), rows)
    said = "would be deleted" if dry_run else "deleted"
    click.echo(f"{answer['objects']} objects, {answer['bytes']} bytes {said}")


def read_options(options: Sequence[str]) -> dict[str, str]:
    """Read options of an upload, each ``name=value``.

    Raises:
        HeadraceError: One has no value.
    """
    pairs = [each.partition("=") for each in options]
    for name, equals, _value in pairs:
        if not equals:
            raise HeadraceError(f"cannot use {name!r}", hint="write options as name=value")
    return {name: value for name, _equals, value in pairs}


async def ask(
    url: str,
    token_file: Path | None,
    path: str,
    params: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    document: Mapping[str, Any] | None = None,
    prefer: str | None = None,
) -> dict[str, Any]:
    """Ask the primary something; give its answer.

    Args:
        url: Of it, or of a reader.
        token_file: None: the token is found elsewhere.
        path: What is asked.
        params: The query.
        method: How it is asked.
        document: Sent as JSON.
        prefer: How long to wait.

    Raises:
        HeadraceError: It refused, or cannot be reached; with the exit code that says which.
    """
    headers = {} if prefer is None else {"Prefer": prefer}
    content = None
    if document is not None:
        headers["Content-Type"] = "application/json"
        content = json.dumps(document).encode()
    async with connected(url, find_token(url, token_file)) as server:
        response = await server.ask(
            method, path, params=params, headers=headers, content=content, silence_s=TIMEOUT_S
        )
    try:
        answer: dict[str, Any] = response.json() if response.content else {}
    except ValueError as exc:
        raise RemoteError(f"{url} did not answer by JSON: is it a Headrace?") from exc
    return answer
