"""Converters: one file in, one staging SQLite database out.

Each module is one format family, and has one function: ``convert(conversion) -> Converted``. It
runs in a process of its own (``python -m ingest.converters``), and raises ``Refusal`` for a file
that it cannot convert without loss.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from headrace.errors import Refusal
from ingest.converters.wishes import Wishes

GIB = 1024**3  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format that can be converted.

    Attributes:
        name: What the receipt calls it.
        module: The module of this package that converts it.
        suffixes: Endings of file names that promise it, lower case.
        media_types: Media types that promise it.
        recognise: ``module:function`` of this package that tells it by its content, if one can: it
            gets the first bytes, and the text that they are, or None. That module is a light one.
    """

    name: str
    module: str
    suffixes: frozenset[str]
    media_types: frozenset[str]
    recognise: str | None = None


FORMATS = (
    Format(
        name="csv",
        module="delimited",
        suffixes=frozenset({".csv", ".tsv", ".tab", ".psv"}),
        media_types=frozenset({"text/csv", "application/csv", "text/tab-separated-values"}),
    ),
    Format(
        name="json",
        module="json_records",
        suffixes=frozenset({".json"}),
        media_types=frozenset({"application/json", "text/json"}),
    ),
    Format(
        name="ndjson",
        module="json_records",
        suffixes=frozenset({".ndjson", ".jsonl", ".jsonlines"}),
        media_types=frozenset(
            {"application/x-ndjson", "application/ndjson", "application/jsonl", "text/jsonl"}
        ),
    ),
    Format(
        name="yaml",
        module="yaml_records",
        suffixes=frozenset({".yaml", ".yml"}),
        media_types=frozenset(
            {"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"}
        ),
    ),
    Format(
        name="markdown",
        module="markdown",
        suffixes=frozenset({".md", ".markdown", ".mdown"}),
        media_types=frozenset({"text/markdown", "text/x-markdown"}),
    ),
    Format(
        name="sqlite",
        module="sqlite_file",
        suffixes=frozenset({".db", ".db3", ".sqlite", ".sqlite3", ".s3db", ".gpkg"}),
        media_types=frozenset({"application/vnd.sqlite3", "application/x-sqlite3"}),
    ),
    Format(
        name="geojson",
        module="json_records",
        suffixes=frozenset({".geojson", ".geojsons", ".geojsonseq"}),
        media_types=frozenset({"application/geo+json", "application/geo+json-seq"}),
        recognise="signatures:recognise_geojson",
    ),
    Format(
        name="sheets",
        module="sheets",
        suffixes=frozenset({".xlsx", ".xlsm", ".xls", ".ods"}),
        media_types=frozenset(
            {
                "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
                "application/vnd.ms-excel",
                "application/vnd.oasis.opendocument.spreadsheet",
            }
        ),
        recognise="signatures:recognise_sheets",
    ),
    Format(
        name="parquet",
        module="arrow_files",
        suffixes=frozenset({".parquet", ".pq"}),
        media_types=frozenset({"application/vnd.apache.parquet"}),
        recognise="signatures:recognise_parquet",
    ),
    Format(
        name="arrow",
        module="arrow_files",
        suffixes=frozenset({".arrow", ".arrows", ".feather", ".ipc"}),
        media_types=frozenset(
            {"application/vnd.apache.arrow.file", "application/vnd.apache.arrow.stream"}
        ),
        recognise="signatures:recognise_arrow",
    ),
)
KNOWN_FORMATS = tuple(known.name for known in FORMATS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What a converter is asked to do.

    Attributes:
        input: The file to read.
        output: The staging database to create; nothing is there yet.
        format: One of ``KNOWN_FORMATS``.
        table: The name of the table, where the file makes one table.
        filename: The file's name as its sender had it; empty where there was none.
        wishes: How to read and shape it.
        report: To be called with the rows and the bytes of the input done so far, as often as one
            likes; what is shown is bounded.
    """

    input: Path
    output: Path
    format: str
    table: str
    filename: str = ""
    wishes: Wishes = field(default_factory=Wishes)
    report: Callable[[int, int], None] = lambda _rows, _bytes: None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRows:
    """A table of the staging database, and how many rows it has."""

    name: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What a converter made.

    Attributes:
        tables: The tables, in the order of the file.
        warnings: What was changed on the way, a sentence each.
    """

    tables: tuple[TableRows, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one conversion may use.

    Attributes:
        memory_bytes: Private memory of the process (RLIMIT_DATA). Not the address space: threads
            and allocators reserve far more of that than they use.
        cpu_s: CPU seconds.
        output_bytes: The size of the largest file that it may write.
        wall_s: Seconds from its start to its end.
    """

    memory_bytes: int = 4 * GIB
    cpu_s: int = 3600
    output_bytes: int = 40 * GIB
    wall_s: float = 3600.0


Converter = Callable[[Conversion], Converted]


def load_converter(format_name: str) -> Converter:
    """Import the converter of a format; nothing that other formats need is imported."""
    for known in FORMATS:
        if known.name == format_name:
            converter: Converter = importlib.import_module(f"{__name__}.{known.module}").convert
            return converter
    raise Refusal(
        "unknown-format",
        f"there is no converter for {format_name!r}",
        extra={"known": list(KNOWN_FORMATS)},
    )


def encode_request(conversion: Conversion, limits: Limits, *, parent_pid: int) -> bytes:
    """Encode what the parent tells the converter's process."""
    request = {
        "conversion": {
            "input": str(conversion.input),
            "output": str(conversion.output),
            "format": conversion.format,
            "table": conversion.table,
            "filename": conversion.filename,
            "wishes": conversion.wishes.encode(),
        },
        "limits": asdict(limits),
        "parent_pid": parent_pid,
    }
    return json.dumps(request).encode()


def decode_request(data: bytes) -> tuple[Conversion, Limits, int]:
    """Decode what the parent told: the conversion, its limits, and the parent's process id."""
    request = json.loads(data)
    members = request["conversion"]
    paths = {"input": Path(members["input"]), "output": Path(members["output"])}
    wishes = Wishes.decode(members["wishes"])
    conversion = Conversion(**{**members, **paths, "wishes": wishes})
    return conversion, Limits(**request["limits"]), request["parent_pid"]


def encode_outcome(outcome: Converted | Refusal) -> bytes:
    """Encode what came of it, as one line."""
    if isinstance(outcome, Converted):
        answer: dict[str, Any] = {"converted": asdict(outcome)}
    else:
        answer = {
            "refusal": {
                "code": outcome.code,
                "detail": outcome.detail,
                "hint": outcome.hint,
                "line": outcome.line,
                "column": outcome.column,
                "extra": outcome.extra,
            }
        }
    return json.dumps(answer).encode() + b"\n"


def decode_outcome(data: bytes) -> Converted | Refusal:
    """Decode what came of it.

    Raises:
        ValueError: The process did not say an outcome.
    """
    answer = json.loads(data)
    if "refusal" in answer:
        return Refusal(**answer["refusal"])
    if "converted" not in answer:
        raise ValueError("neither an outcome nor a refusal")
    members = answer["converted"]
    return Converted(
        tables=tuple(TableRows(**table) for table in members["tables"]),
        warnings=tuple(members["warnings"]),
    )
