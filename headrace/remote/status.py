"""``headrace status``: what a reader says of itself, and what the primary says of all."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headrace.errors import NotAllowedError, RemoteError, UnreachableError
from headrace.exits import Exit
from headrace.remote import wording
from headrace.remote.server import connected, decode_document

if TYPE_CHECKING:
    from rich.console import RenderableType

    from headrace.remote.server import Server

SILENCE_S = 10.0
DATABASES_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a system is doing.

    Attributes:
        url: Of the reader that was asked.
        reader: What it says of itself; None: it cannot be reached.
        primary: What the primary says; None: it does not.
        why: Why the reader, or the primary, says nothing.
        end: How a command ends that finds this.
    """

    url: str
    reader: dict[str, Any] | None
    primary: dict[str, Any] | None
    why: RemoteError | None
    end: Exit

    def encode(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {
            "url": self.url,
            "reader": self.reader,
            "primary": self.primary,
            "problem": self.why and wording.failure(self.why).partition("\n")[0],
        }


async def show_status(url: str, token: str | None, *, as_json: bool, every_s: float | None) -> Exit:
    """Print how a system is doing; once, or again and again until Ctrl-C.

    Args:
        url: Of a reader.
        token: None: only what everybody may know is asked for.
        as_json: Print a line of JSON.
        every_s: Seconds from one look to the next; None: one is enough.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    async with connected(url, token) as server:
        standing = await look(server, with_primary=token is not None)
        if as_json or every_s is None:
            _print(console, standing, as_json=as_json)
        if every_s is None:
            return standing.end
        if as_json:
            while True:
                await asyncio.sleep(every_s)
                _print(console, await look(server, with_primary=token is not None), as_json=True)
        with Live(render(standing), console=console, screen=False, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(every_s)
                standing = await look(server, with_primary=token is not None)
                live.update(render(standing), refresh=True)


async def look(server: Server, *, with_primary: bool) -> Standing:
    """Ask a reader, and the primary through it."""
    reader: dict[str, Any] | None = None
    primary: dict[str, Any] | None = None
    why: RemoteError | None = None
    end = Exit.DONE
    try:
        reader = await _ask(server, "/-/headrace.json")
        if with_primary:
            primary = await _ask(server, "/ingest/status")
    except UnreachableError as exc:
        why, end = exc, Exit.UNREACHABLE if reader is None else Exit.FAILED
    except NotAllowedError as exc:
        why, end = exc, Exit.NOT_ALLOWED
    except RemoteError as exc:
        why, end = exc, Exit.FAILED
    return Standing(url=server.url, reader=reader, primary=primary, why=why, end=end)


def render(standing: Standing) -> RenderableType:
    """Give what a person sees."""
    parts: list[RenderableType] = [_nodes(standing)]
    if standing.why is not None:
        parts.append(Text(wording.failure(standing.why)))
    if standing.primary is not None:
        parts += [
            _databases(standing.primary["databases"]),
            _uploads(standing.primary),
        ]
    elif standing.why is None:
        parts.append(Text("with a token there is more to see: `headrace login`"))
    return Group(*parts)


async def _ask(server: Server, path: str) -> dict[str, Any]:
    response = await server.ask("GET", path, silence_s=SILENCE_S)
    return decode_document(response.text)


def _print(console: Console, standing: Standing, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(standing.encode()), flush=True)  # noqa: T201 - for scripts
    else:
        console.print(render(standing))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _nodes(standing: Standing) -> Table:
    table = _table(standing.url, "node", "generation", "behind", "state")
    primary, reader = standing.primary, standing.reader
    if primary is not None:
        up = primary["lease_held"] and primary["litestream_up"]
        said = f"epoch {primary['epoch']}" if up else "cannot take uploads now"
        table.add_row("primary", str(primary["generation"]), "", said)
    if reader is not None:
        behind = _seconds(reader["seconds_behind"])
        said = f"workers: {reader['workers']}, {reader['step']}"
        name = f"reader, region {reader['region']}"
        table.add_row(name, str(reader["generation"]), behind, said)
    for region, heard in (primary or {"regions": {}})["regions"].items():
        table.add_row(
            f"region {region}",
            str(heard["generation"]),
            _seconds(heard["seconds_behind"]),
            _say_heard(heard),
        )
    return table


def _say_heard(region: dict[str, Any]) -> str:
    if not region["readers"]:
        return f"silent for {region['heard_s_ago']:.0f} s"
    readers = f"{region['readers']} readers" if region["readers"] > 1 else "1 reader"
    return f"{readers}, heard {region['heard_s_ago']:.0f} s ago"


def _seconds(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f} s" if value else "0 s"


def _databases(databases: dict[str, Any]) -> Table:
    table = _table("\ndatabases", "database", "tables", "rows", "changed")
    newest = sorted(databases.items(), key=lambda each: str(each[1]["updated_at"]), reverse=True)
    for name, cut in newest[:DATABASES_SHOWN]:
        tables = cut["tables"]
        rows = f"{sum(tables.values()):,}"
        table.add_row(name, str(len(tables)), rows, _moment(cut["updated_at"]))
    if len(newest) > DATABASES_SHOWN:
        table.add_row(f"… {len(newest) - DATABASES_SHOWN} more")
    return table


def _uploads(primary: dict[str, Any]) -> Table:
    title = f"\nlast uploads ({primary['in_flight']} on their way)"
    table = _table(title, "received", "file", "size", "state", "what")
    shown = {each["id"]: each for each in (*primary["uploads"], *primary["receipts"])}
    for receipt in sorted(shown.values(), key=lambda each: str(each["id"]), reverse=True):
        progress = receipt["progress"]
        what = receipt["url"] or ""
        if receipt["error"]:
            what = receipt["error"]["detail"]
        elif progress:
            what = wording.step(progress["step"], progress)
        table.add_row(
            _moment(receipt["created_at"]),
            Text(receipt["filename"]),
            wording.size(receipt["bytes"]),
            receipt["state"],
            Text(what),
        )
    return table


def _moment(at: str) -> str:
    """Give a time without its fraction: ``2026-11-27 12:25:26Z``."""
    return f"{at[:10]} {at[11:19]}Z"
