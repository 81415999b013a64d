"""The commands that look at earlier generations, straight from the store."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import click

from headrace.config import store_url
from headrace.errors import RestoreError
from headrace.generation import format_time, format_txid
from headrace.history import compare, compare_metadata, read_at, read_back, restore_files
from headrace.log import GenerationLog
from headrace.remote import wording
from headrace.store import Store
from headrace.store_url import parse_store_url

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headrace.config import StoreSettings
    from headrace.generation import Entry

_CAUSES = ("kind", "receipt", "to")  # what is shown of why a generation was published


async def list_generations(settings: StoreSettings, limit: int) -> None:
    """Print the newest entries of the log, one a line."""
    log = GenerationLog(_open(settings))
    newest = await log.read_newest()
    rows = [_row(entry) async for entry in read_back(log, newest.number, limit + 1)]
    print_table(("generation", "at", "why", "changed", "size"), rows[:limit])
    if len(rows) > limit:
        click.echo(f"headrace: note: there are older ones than these {limit}: --limit", err=True)


async def show_difference(settings: StoreSettings, first: int, second: int) -> None:
    """Print the tables that differ between two generations."""
    log = GenerationLog(_open(settings))
    before, after = await read_at(log, first), await read_at(log, second)
    found = compare(before, after)
    rows = [
        (each.database, each.table, _rows(each.before), _rows(each.after), _change(each))
        for each in found
    ]
    for name, keys in compare_metadata(before, after).items():
        rows.append((name, "", "", "", f"metadata: {', '.join(keys)}"))
    print_table(("database", "table", f"rows in {first}", f"rows in {second}", "change"), rows)


async def restore_files_of(
    settings: StoreSettings, number: int, folder: Path, database: str | None
) -> None:
    """Write the databases of a generation as files."""
    store = _open(settings)
    state = await read_at(GenerationLog(store), number)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    said = {name: dict(cut.metadata) for name, cut in state.databases.items() if cut.metadata}
    if database is not None:
        said = {name: metadata for name, metadata in said.items() if name == database}
    about = folder / "metadata.json"
    if said and about.exists():
        raise RestoreError(f"{about} is in the way", hint="choose an empty folder")
    async for name, txid in restore_files(store, state, folder, database):
        wanted = state.databases[name].txid
        note = "" if txid == wanted else f" (the nearest that is kept to {format_txid(wanted)})"
        click.echo(f"{folder / name}.db: TXID {format_txid(txid)}{note}")
    if said:
        about.write_text(json.dumps({"databases": said}, ensure_ascii=False, indent=2) + "\n")
        click.echo(f"{about}: what is said about them")


def _open(settings: StoreSettings) -> Store:
    """Open the store to look at; a folder that is missing would be made, and be empty.

    Raises:
        click.UsageError: There is none.
    """
    url = store_url(settings)
    folder = parse_store_url(url).folder
    if folder is not None and not folder.is_dir():
        raise click.UsageError(f"there is no store in {folder}: say where by --data, or --store")
    return Store(url)


def _row(entry: Entry) -> tuple[str, ...]:
    changed = [*entry.databases, *(f"-{name}" for name in entry.removed)]
    size_bytes = sum(cut.pages * cut.page_size for cut in entry.databases.values())
    cause = " ".join(entry.cause[name] for name in _CAUSES if name in entry.cause)
    at = format_time(entry.created_at)
    return str(entry.number), at, cause, " ".join(changed), wording.size(size_bytes)


def _rows(count: int | None) -> str:
    return "-" if count is None else str(count)


def _change(each: Any) -> str:
    if each.before is None or each.after is None:
        return "new" if each.before is None else "gone"
    return f"{each.after - each.before:+d}" if each.after != each.before else "other values"


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns, the head first."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
