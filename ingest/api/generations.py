"""Earlier generations: the list, and going back to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from headrace.errors import Refusal, StoreError
from headrace.generation import format_txid
from headrace.history import read_back
from headrace.names import check_database_name
from headrace.operation import Parameter, Who, in_path, number, operation
from headrace.web import answer_json
from ingest.api.declared import GENERATION, IN_DATABASE, answers_json
from ingest.api.node import NODE
from ingest.documents import GenerationPage, RolledBack

if TYPE_CHECKING:
    from ingest.writer import Writer

PAGE = 100  # entries

_BEFORE = number("before", "Only generations before that one.", low=1, high=GENERATION)
_NUMBER = in_path("number", "Number of the generation.", pattern="^[0-9]{1,18}$", example="42")
_ONE_DATABASE = Parameter(
    name="database", what="Take back that database alone.", schema=IN_DATABASE.schema
)

routes = web.RouteTableDef()


@routes.get("/ingest/generations")
@operation(
    _BEFORE,
    answers=answers_json(GenerationPage, "A page of the log."),
    refuses=("replication-down",),
    who=Who.KNOWN,
)
async def get_generations(request: web.Request) -> web.Response:
    """Show the newest generations first; ``next`` leads to older ones.

    Of each entry whoever asks sees the databases that he may write to.
    """
    node = request.app[NODE]
    reader = node.identify(request)
    newest = int(request.query.get("before", node.primary.state.number + 1)) - 1
    newest = min(newest, node.primary.state.number)
    try:
        entries = [entry.document() async for entry in read_back(node.generations, newest, PAGE)]
    except StoreError as exc:
        raise Refusal("replication-down", "the object store cannot be asked for them") from exc
    oldest = entries[-1]["generation"] if len(entries) == PAGE else 1
    for entry in entries:
        _show_only(entry, reader)
    next_page = f"/ingest/generations?before={oldest}" if oldest > 1 else None
    return answer_json({"generations": entries, "next": next_page})


@routes.post("/ingest/generations/{number}/rollback")
@operation(
    _NUMBER,
    _ONE_DATABASE,
    answers=answers_json(RolledBack, "The new generation."),
    refuses=("invalid-name", "not-found"),
    who=Who.WRITER,
)
async def post_rollback(request: web.Request) -> web.Response:
    """Publish what an earlier generation held: all of it, or one of its databases."""
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
    done: RolledBack = {
        "generation": back.state.number,
        "rolled_back_to": number,
        "nearest": {name: format_txid(txid) for name, txid in back.nearest.items()},
    }
    return answer_json(done)


def _show_only(entry: dict[str, Any], reader: Writer) -> None:
    databases = entry["databases"]
    entry["databases"] = {name: databases[name] for name in databases if reader.sees(name)}
    entry["removed"] = [name for name in entry["removed"] if reader.sees(name)]
    if reader.databases is not None:
        entry["cause"] = {"kind": entry["cause"].get("kind")}
        entry.pop("metadata", None)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(GENERATION)):
        raise Refusal("invalid-option", f"{text!r} is not the number of a generation")
    return int(text)
