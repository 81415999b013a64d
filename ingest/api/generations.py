"""Earlier generations: the list, and going back to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from headrace.errors import Refusal
from headrace.generation import format_txid
from headrace.history import read_back
from headrace.names import check_database_name
from headrace.web import answer_json
from ingest.api.node import NODE

if TYPE_CHECKING:
    from ingest.writer import Writer

PAGE = 100  # entries

routes = web.RouteTableDef()


@routes.get("/ingest/generations")
async def get_generations(request: web.Request) -> web.Response:
    """Show the newest entries of the log first; ``?before=N`` pages on.

    Of each entry whoever asks sees the databases that he may write to.
    """
    node = request.app[NODE]
    reader = node.identify(request)
    newest = _number(request.query.get("before", str(node.primary.state.number + 1))) - 1
    entries = [entry.document() async for entry in read_back(node.generations, newest, PAGE)]
    next_page = f"/ingest/generations?before={entries[-1]['generation']}"
    full = len(entries) == PAGE and entries[-1]["generation"] > 1
    for entry in entries:
        _show_only(entry, reader)
    return answer_json({"generations": entries, "next": next_page if full else None})


@routes.post("/ingest/generations/{number}/rollback")
async def post_rollback(request: web.Request) -> web.Response:
    """Publish what an earlier generation held; ``?database=`` for one of its databases."""
    node = request.app[NODE]
    writer = node.check_writer(request)
    database = request.query.get("database")
    if database is None:
        writer.require_all()
    else:
        writer.require(database)
        database = check_database_name(database)
    number = _number(request.match_info["number"])
    detail = f"generation {number}"
    async with node.audited(request, writer, database=database, detail=detail):
        back = await node.rollback.to(number, database)
    return answer_json(
        {
            "generation": back.state.number,
            "rolled_back_to": number,
            "nearest": {name: format_txid(txid) for name, txid in back.nearest.items()},
        }
    )


def _show_only(entry: dict[str, Any], reader: Writer) -> None:
    databases = entry["databases"]
    entry["databases"] = {name: databases[name] for name in databases if reader.sees(name)}
    entry["removed"] = [name for name in entry["removed"] if reader.sees(name)]
    if reader.databases is not None:
        entry["cause"] = {"kind": entry["cause"].get("kind")}
        entry.pop("metadata", None)


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 20:  # noqa: PLR2004 - digits of a key of the log
        raise Refusal("invalid-option", f"{text!r} is not the number of a generation")
    return int(text)
