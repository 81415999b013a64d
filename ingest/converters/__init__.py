"""Converters: one file in, one staging SQLite database out.

Each module is one format family, and has one function: ``convert(conversion) -> Converted``. It
runs in a process of its own, forked from ``python -m ingest.converters``, and raises ``Refusal``
for a file that it cannot convert without loss. Plugins add converters of the same shape
(``ingest.plugins``).
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import Refusal
from headrace.names import quote_identifier
from headrace.wishes import READING, Wishes
from ingest.converters.registry import Converter, Registry, find_promised, load_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

GIB = 1024**3  # bytes
REJECTS = "_rejects"  # ends the name of a table of rows that were put aside
_OF_JSON = frozenset({"json", "ndjson", "geojson", "yaml"})  # a file of one may be one of another
_KEEP_NAMES = frozenset({"sqlite", "sql"})  # formats of whole databases


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format that is built in.

    Attributes:
        name: What the receipt calls it.
        module: The module of this package that converts it.
        suffixes: Endings of file names that promise it, lower case.
        media_types: Media types that promise it.
        recognise: ``module:function`` of this package that tells it by its content, if one can: see
            ``Converter.recognise``. The service imports it, so that module is a light one.
        honours: What can be asked for about how it is read, of ``wishes.READING``; None: what
            the files inside of it honour.
    """

    name: str
    module: str
    suffixes: frozenset[str]
    media_types: frozenset[str]
    recognise: str | None = None
    honours: frozenset[str] | None = frozenset()

    @property
    def converter(self) -> Converter:
        """The same as what plugins register."""
        return Converter(
            name=self.name,
            convert=f"{__name__}.{self.module}:convert",
            match=tuple(f"*{suffix}" for suffix in sorted(self.suffixes)),
            media_types=tuple(sorted(self.media_types)),
            recognise=self.recognise and f"{__name__}.{self.recognise}",
        )


_DELIMITED = frozenset({"encoding", "delimiter", "header", "empty", "on_bad_rows"})
_RECORDS = frozenset({"encoding", "nested"})
FORMATS = (
    Format(
        name="csv",
        module="delimited",
        suffixes=frozenset({".csv", ".tsv", ".tab", ".psv"}),
        media_types=frozenset({"text/csv", "application/csv", "text/tab-separated-values"}),
        honours=_DELIMITED,
    ),
    Format(
        name="json",
        module="json_records",
        suffixes=frozenset({".json"}),
        media_types=frozenset({"application/json", "text/json"}),
        honours=_RECORDS,
    ),
    Format(
        name="ndjson",
        module="json_records",
        suffixes=frozenset({".ndjson", ".jsonl", ".jsonlines"}),
        media_types=frozenset(
            {"application/x-ndjson", "application/ndjson", "application/jsonl", "text/jsonl"}
        ),
        honours=_RECORDS | {"on_bad_rows"},
    ),
    Format(
        name="yaml",
        module="yaml_records",
        suffixes=frozenset({".yaml", ".yml"}),
        media_types=frozenset(
            {"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"}
        ),
        honours=_RECORDS,
    ),
    Format(
        name="markdown",
        module="markdown",
        suffixes=frozenset({".md", ".markdown", ".mdown"}),
        media_types=frozenset({"text/markdown", "text/x-markdown"}),
        honours=_RECORDS,
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
        honours=_RECORDS,
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
        honours=frozenset({"header"}),
    ),
    Format(
        name="parquet",
        module="arrow_files",
        suffixes=frozenset({".parquet", ".pq"}),
        media_types=frozenset({"application/vnd.apache.parquet"}),
        recognise="signatures:recognise_parquet",
        honours=frozenset({"nested"}),
    ),
    Format(
        name="arrow",
        module="arrow_files",
        suffixes=frozenset({".arrow", ".arrows", ".feather", ".ipc"}),
        media_types=frozenset(
            {"application/vnd.apache.arrow.file", "application/vnd.apache.arrow.stream"}
        ),
        recognise="signatures:recognise_arrow",
        honours=frozenset({"nested"}),
    ),
    Format(
        name="gzip",
        module="packed",
        suffixes=frozenset({".gz", ".tgz"}),
        media_types=frozenset({"application/gzip", "application/x-gzip"}),
        recognise="packings:recognise_gzip",
        honours=None,
    ),
    Format(
        name="bzip2",
        module="packed",
        suffixes=frozenset({".bz2"}),
        media_types=frozenset({"application/x-bzip2"}),
        recognise="packings:recognise_bzip2",
        honours=None,
    ),
    Format(
        name="xz",
        module="packed",
        suffixes=frozenset({".xz"}),
        media_types=frozenset({"application/x-xz"}),
        recognise="packings:recognise_xz",
        honours=None,
    ),
    Format(
        name="zstd",
        module="packed",
        suffixes=frozenset({".zst"}),
        media_types=frozenset({"application/zstd"}),
        recognise="packings:recognise_zstd",
        honours=None,
    ),
    Format(
        name="zip",
        module="packed",
        suffixes=frozenset({".zip"}),
        media_types=frozenset({"application/zip", "application/x-zip-compressed"}),
        recognise="packings:recognise_zip",
        honours=None,
    ),
    Format(
        name="tar",
        module="packed",
        suffixes=frozenset({".tar"}),
        media_types=frozenset({"application/x-tar"}),
        recognise="packings:recognise_tar",
        honours=None,
    ),
    Format(
        name="html",
        module="html_tables",
        suffixes=frozenset({".html", ".htm", ".xhtml"}),
        media_types=frozenset({"text/html", "application/xhtml+xml"}),
        recognise="recognise:recognise_html",
        honours=frozenset({"encoding", "header", "empty"}),
    ),
    Format(
        name="xml",
        module="xml_records",
        suffixes=frozenset({".xml", ".rss", ".atom", ".gpx", ".kml"}),
        media_types=frozenset(
            {"application/xml", "text/xml", "application/rss+xml", "application/atom+xml"}
        ),
        recognise="recognise:recognise_xml",
        honours=frozenset({"encoding", "empty"}),
    ),
    Format(
        name="icalendar",
        module="icalendar_events",
        suffixes=frozenset({".ics", ".ical", ".icalendar", ".ifb"}),
        media_types=frozenset({"text/calendar"}),
        recognise="recognise:recognise_icalendar",
        honours=frozenset({"encoding"}),
    ),
    Format(
        name="mbox",
        module="mbox_messages",
        suffixes=frozenset({".mbox", ".mbx", ".eml"}),
        media_types=frozenset({"application/mbox", "message/rfc822"}),
        recognise="recognise:recognise_mbox",
    ),
    Format(
        name="sql",
        module="sql_dump",
        suffixes=frozenset({".sql", ".dump"}),
        media_types=frozenset({"application/sql", "application/x-sql", "text/x-sql"}),
        recognise="recognise:recognise_sql",
        honours=frozenset({"encoding"}),
    ),
)
BUILT_IN = Registry(built_in=tuple(known.converter for known in FORMATS))
KNOWN_FORMATS = BUILT_IN.names
_HONOURS = {known.name: known.honours for known in FORMATS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What a converter is asked to do.

    Attributes:
        input: The file to read.
        output: The staging database to create; nothing is there yet.
        format: The name of a converter of the registry.
        table: The name of the table, where the file makes one table.
        filename: The file's name as its sender had it; empty where there was none.
        media_type: As its sender had it; None where it said nothing, and for what was packed.
        table_given: Whether the uploader named the table: then all files of an archive go into it.
        wishes: How to read and shape it.
        texts: The columns of the live tables whose values are texts and stay so, by table, all in
            lower case. Tables without any are there as well.
        joined: The columns, by table, that hold texts of other files of an archive: as ``texts``,
            but by the names that the file has.
        report: To be called with the rows and the bytes of the input done so far, as often as one
            likes; what is shown is bounded.
        begin: To be called with a word for what is done from now on; it begins as ``read``. Rows
            and bytes count anew. In steps other than ``look``, ``read`` and ``read again``, what
            the process reads and writes is shown as bytes.
        registry: The converters that there are, for what lies inside of the file.
    """

    input: Path
    output: Path
    format: str
    table: str
    filename: str = ""
    media_type: str | None = None
    table_given: bool = False
    wishes: Wishes = field(default_factory=Wishes)
    texts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    joined: Mapping[str, frozenset[str]] = field(default_factory=dict)
    report: Callable[[int, int], None] = lambda _rows, _bytes: None
    begin: Callable[[str], None] = lambda _step: None
    registry: Registry = BUILT_IN

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the converter was registered with."""
        return self.registry.get(self.format).settings

    def stays_text(self, table: str, column: str) -> bool:
        """Say whether a column goes into one that holds texts, of a live table or of other files.

        Its values are to be what the file writes then, also where all of them are numbers; unless
        the uploader says its type.

        Args:
            table: As the converter calls it.
            column: As the file calls it, in a form that SQLite takes.
        """
        columns, joined = (
            known.get(table.lower(), known.get(self.table.lower()) if self.table_given else None)
            for known in (self.texts, self.joined)  # if it is the only table, it gets that name
        )
        if column.lower() in (joined or ()):
            return True
        name = _find_named(self.wishes.columns, column) or column
        if any(_find_named(self.wishes.types, each) for each in (column, name)):
            return False
        lookup = _find_named(self.wishes.extract, name)
        if lookup is not None:  # a lookup table has one column that is no key
            return bool(self.texts.get(lookup.lower()))
        return name.lower() in (columns or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRows:
    """A table of the staging database.

    Attributes:
        name: Its name.
        rows: How many it has.
        unwanted: Columns that a live table of this name is to lose by ``mode=replace``; None: all
            that this one does not have.
    """

    name: str
    rows: int
    unwanted: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What a converter made.

    Attributes:
        tables: The tables, in the order of the file.
        warnings: What was changed on the way, a sentence each.
        format: What the receipt calls the format, where that is known only now; None: as detected.
        encoding: What a text file was in; None for other files.
        metadata: The ``metadata.yaml`` that lay beside the files of an archive; not checked.
    """

    tables: tuple[TableRows, ...]
    warnings: tuple[str, ...] = ()
    format: str | None = None
    encoding: str | None = None
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one conversion may use.

    Attributes:
        memory_bytes: Private memory of each process (RLIMIT_DATA). Not the address space: threads
            and allocators reserve far more of that than they use.
        cpu_s: CPU seconds of each process.
        output_bytes: The size of the largest file that it may write, and of all that an archive
            may hold.
        wall_s: Seconds from its start to its end.
        hidden: Files and folders that it cannot read, its own input and output aside.
    """

    memory_bytes: int = 4 * GIB
    cpu_s: int = 3600
    output_bytes: int = 40 * GIB
    wall_s: float = 3600.0
    hidden: tuple[str, ...] = ()


def load_converter(
    format_name: str, registry: Registry = BUILT_IN
) -> Callable[[Conversion], Converted]:
    """Import the function of a format; nothing that other formats need is imported."""
    return load_function(registry.get(format_name).convert)


def run_converter(conversion: Conversion) -> Converted:
    """Convert a file by the converter of its format; in the converter's process.

    Raises:
        Refusal: The converter's own, ``converter-failed``, or ``invalid-option``: what is asked for
            can be done for other formats alone.
    """
    if ignored := find_ignored(conversion):
        raise refuse_ignored(ignored, f"{conversion.format} files")
    converted = load_converter(conversion.format, conversion.registry)(conversion)
    if conversion.registry.get(conversion.format) in conversion.registry.added:
        _check_made(conversion, converted)
        return converted
    converted = replace(converted, warnings=(*_warn_of_name(conversion), *converted.warnings))
    if conversion.table_given and _HONOURS[conversion.format] is not None:
        return _name_table(conversion, converted)
    return converted


def _warn_of_name(conversion: Conversion) -> list[str]:
    """Warn of a file whose name promises another format than its content is of."""
    promised = find_promised(conversion.registry.built_in, conversion.filename, None)
    if promised is None or promised.name == conversion.format:
        return []
    if {promised.name, conversion.format} <= _OF_JSON:
        return []
    told = f"by its name the file is {promised.name}, by its content {conversion.format}"
    return [f"{told}: is it the right one?"]


def _name_table(conversion: Conversion, converted: Converted) -> Converted:
    """Give the one table that a file made the name that was asked for; warn if it made several."""
    made = {table.name for table in converted.tables}
    rejects = {f"{name}{REJECTS}" for name in made} & made
    own = sorted(made - rejects)
    wanted = conversion.table
    if wanted in own:
        return converted
    keeps = conversion.format in _KEEP_NAMES
    if keeps or len(own) > 1:
        why = "a database keeps the names of its tables" if keeps else "it is for a file of one"
        warning = f"table={wanted!r} was not used: {why}"
        return replace(converted, warnings=(*converted.warnings, warning))
    with closing(sqlite3.connect(conversion.output, isolation_level=None)) as staging:
        for name in (*own, *rejects):
            new = f"{wanted}{name.removeprefix(own[0])}"
            staging.execute(
                f"ALTER TABLE {quote_identifier(name)} RENAME TO {quote_identifier(new)}"
            )
    tables = tuple(
        replace(table, name=f"{wanted}{table.name.removeprefix(own[0])}")
        for table in converted.tables
    )
    return replace(converted, tables=tables)


def _find_named(wanted: Mapping[str, str], column: str) -> str | None:
    """Find what is asked for a column; SQLite ignores the case of names."""
    folded = {name.lower(): value for name, value in wanted.items()}
    return folded.get(column.lower())


def find_ignored(conversion: Conversion) -> frozenset[str]:
    """Give what is asked for about how the file is read, and its format knows nothing of.

    What converters that were added make of wishes is not known: nothing is.
    """
    honours = _HONOURS.get(conversion.format)
    if honours is None:
        return frozenset()
    wishes = conversion.wishes
    if wishes.types or wishes.strict:  # casting asks what an empty text is, whatever the format
        honours |= {"empty"}
    return wishes.reading - honours


def find_honoured(format_name: str) -> frozenset[str]:
    """Find what can be asked for about how files of a format are read, of ``wishes.READING``."""
    honours = _HONOURS.get(format_name, frozenset())
    return READING if honours is None else honours


def refuse_ignored(names: Iterable[str], what: str) -> Refusal:
    """Give the refusal for options that nothing would come of, with the formats that know them."""
    known = {
        name: [each.name for each in FORMATS if each.honours and name in each.honours]
        for name in sorted(names)
    }
    formats = "; ".join(f"{name} is for {', '.join(those)}" for name, those in known.items())
    return Refusal(
        "invalid-option",
        f"{', '.join(known)}: cannot be used for {what}",
        hint=formats,
        extra={"known": known},
    )


def _check_made(conversion: Conversion, converted: object) -> None:
    """Refuse what a converter of somebody else says if its staging database says otherwise."""
    if not isinstance(converted, Converted):
        raise _failure(conversion, f"returned a {type(converted).__name__}")
    if not conversion.output.is_file():
        raise _failure(conversion, "made no database")
    try:
        with closing(sqlite3.connect(f"{conversion.output.as_uri()}?mode=ro", uri=True)) as made:
            there = {name for (name,) in made.execute("SELECT name FROM sqlite_schema")}
    except sqlite3.DatabaseError as exc:
        raise _failure(conversion, f"made what is no database: {exc}") from exc
    for table in converted.tables:
        if table.name not in there:
            raise _failure(conversion, f"did not make the table {table.name!r}")
    if not converted.tables:
        raise Refusal("no-rows", "the file holds no table")


def _failure(conversion: Conversion, what: str) -> Refusal:
    return Refusal("converter-failed", f"the converter {conversion.format!r} {what}")


def encode_request(conversion: Conversion, limits: Limits) -> bytes:
    """Encode what the parent tells the converter's process."""
    request = {
        "conversion": {
            "input": str(conversion.input),
            "output": str(conversion.output),
            "format": conversion.format,
            "table": conversion.table,
            "filename": conversion.filename,
            "media_type": conversion.media_type,
            "table_given": conversion.table_given,
            "wishes": conversion.wishes.encode(),
            "texts": {table: sorted(columns) for table, columns in conversion.texts.items()},
        },
        "added": [asdict(converter) for converter in conversion.registry.added],
        "limits": asdict(limits),
    }
    return json.dumps(request).encode()


def decode_request(data: bytes) -> tuple[Conversion, Limits]:
    """Decode what the parent told."""
    request = json.loads(data)
    members = request["conversion"]
    paths = {"input": Path(members["input"]), "output": Path(members["output"])}
    wishes = Wishes.decode(members["wishes"])
    texts = {table: frozenset(columns) for table, columns in members["texts"].items()}
    registry = replace(BUILT_IN, added=tuple(map(_decode_converter, request["added"])))
    conversion = Conversion(
        **{**members, **paths, "wishes": wishes, "texts": texts}, registry=registry
    )
    limits = Limits(**{**request["limits"], "hidden": tuple(request["limits"]["hidden"])})
    return conversion, limits


def _decode_converter(members: dict[str, Any]) -> Converter:
    words = {name: tuple(members[name]) for name in ("match", "media_types")}
    return Converter(**{**members, **words})


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
        tables=tuple(map(_decode_table, members["tables"])),
        warnings=tuple(members["warnings"]),
        format=members.get("format"),
        encoding=members.get("encoding"),
        metadata=members.get("metadata"),
    )


def _decode_table(members: dict[str, Any]) -> TableRows:
    unwanted = members["unwanted"]
    return TableRows(**{**members, "unwanted": None if unwanted is None else tuple(unwanted)})
