"""The objects of the store and the files of the nodes, as ``headrace/keys.py`` names them."""

from __future__ import annotations

import inspect
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from docs.made.table import code, phrase, table
from headrace import keys
from headrace.generation import Cut, Entry, Source, State
from headrace.incoming import IncomingFile, IncomingRequest
from headrace.json_schema import attributes_of
from headrace.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_AT = datetime(2026, 11, 22, 1, 33, 39, 479000, tzinfo=UTC)
_RECEIPT = "01a21c0228502894854536a608312bb6"
_LINEAGE = "10dd0617772872ca"
_SHA256 = "98d1d36c3f513f3867a90a6371c8b69670a9832b3942d722c5e051295a1a221d"
# What the functions of keys.py are called with, by the name of the parameter.
_ARGUMENTS: dict[str, Any] = {
    "number": 42,
    "receipt_id": _RECEIPT,
    "request_id": "7c211433f02071597741e6ff5a8ea34d",
    "filename": "orders.csv",
    "database": "sales",
    "lineage": _LINEAGE,
    "level": 0,
    "min_txid": 10,
    "max_txid": 10,
    "name": "3f6c0a9d",
    "reader": "5d41402a",
    "s3": False,
}
_LITERAL = re.compile(r"^::\n\n((?:    .*\n?|\n)+)", re.MULTILINE)
_SOURCE = Source(filename="orders.csv", sha256=_SHA256)
_CUT = Cut(
    lineage=_LINEAGE,
    txid=10,
    page_size=4096,
    pages=2775,
    checksum=0xD4A1C5E20F7B3896,
    tables={"orders": 1_000_000},
    updated_at=_AT,
    source=_SOURCE,
    metadata={"title": "Orders"},
)
_ENTRY = Entry(
    number=42,
    epoch=3,
    created_at=_AT,
    cause={"kind": "ingest", "receipt": _RECEIPT},
    databases={"sales": _CUT},
)
_STATE = State().apply(
    Entry(number=1, epoch=3, created_at=_AT, cause={}, databases={"sales": _CUT})
)
_LEASE = Lease(
    number=317,
    epoch=3,
    owner="5a8ea34d7c211433",
    process="02071597741e6ff5",
    duration_s=30.0,
    journal="f02071597741e6ff",
    created_at=_AT,
)
_FILE = IncomingFile(
    receipt_id=_RECEIPT,
    filename="orders.csv",
    media_type="text/csv",
    bytes=38,
    sha256=_SHA256,
    archive=keys.upload_key(_RECEIPT, "orders.csv"),
)
_REQUEST = IncomingRequest(
    key=None,
    fields={"mode": "append"},
    files=(_FILE,),
    arrived_at=_AT,
    reader="5d41402a",
    region="fra",
    address="192.0.2.1",
)
# Where the JSON has another name than the record.
_RENAMED = {"generation": "number", "lease": "number"}


def keys_of_objects() -> str:
    """Give the table of keys: of every function of ``keys.py`` that makes one."""
    rows = [(code(keys.LAST_CHECKPOINT), "names the last checkpoint: where reading starts")]
    rows += ((code(_example(make)), _first_line(make)) for make in _makers())
    return table(("key", "what"), rows)


def entry() -> str:
    """Give an entry of the log, and its members."""
    return _described(_ENTRY.encode(), Entry)


def cut() -> str:
    """Give the members of a database's cut, and of the file that it is from."""
    document = _CUT.encode()
    said = attributes_of(Cut) | {
        f"source.{name}": what for name, what in attributes_of(Source).items()
    }
    names = [*document, *(f"source.{name}" for name in document["source"])]
    return _members(dict.fromkeys(names), said)


def checkpoint() -> str:
    """Give a checkpoint, and its members."""
    return _described(_STATE.encode(), Entry, State)


def lease() -> str:
    """Give an entry of the lease's log, and its members."""
    return _described(_LEASE.encode(), Lease)


def incoming() -> str:
    """Give what a reader writes of an upload that it took, and its members."""
    shown = _described(_REQUEST.encode(), IncomingRequest)
    document = json.loads(_REQUEST.encode())
    of_file = _members(document["files"][0], attributes_of(IncomingFile))
    return f"{shown}\n\nEach of the files:\n\n{of_file}"


def files_of_primary() -> str:
    """Give the folders of a primary's volume."""
    return _literal(keys.PrimaryPaths)


def files_of_reader() -> str:
    """Give the folders of a reader."""
    return _literal(keys.ReaderPaths)


def _makers() -> Iterator[Callable[..., str]]:
    for name, each in vars(keys).items():
        if inspect.isfunction(each) and name.endswith("_key") and not name.startswith("parse_"):
            yield each


def _example(make: Callable[..., str]) -> str:
    parameters = inspect.signature(make).parameters
    return make(**{name: _ARGUMENTS[name] for name in parameters})


def _first_line(make: Callable[..., str]) -> str:
    line = inspect.cleandoc(make.__doc__ or "").partition("\n")[0]
    return phrase(line.partition(": ``")[0]).replace("``", "`")


def _described(body: bytes, *kinds: type) -> str:
    document = json.loads(body)
    shown = json.dumps(document, indent=2, ensure_ascii=False)
    return f"```json\n{shown}\n```\n\n{_members(document, attributes_of(*kinds))}"


def _members(document: Mapping[str, Any], said: Mapping[str, str]) -> str:
    """Give the table of members; one of which nothing is said is an error."""
    rows = (
        (code(name), phrase(said[_RENAMED.get(name, name)]).replace("``", "`")) for name in document
    )
    return table(("member", "what"), rows)


def _literal(kind: type) -> str:
    found = _LITERAL.search(inspect.cleandoc(kind.__doc__ or ""))
    if found is None:
        raise ValueError(f"{kind.__name__} lists no files")
    return f"```text\n{inspect.cleandoc(found[1])}\n```"
