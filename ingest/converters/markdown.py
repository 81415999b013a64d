"""Markdown: one row a file; the front matter's keys are columns, the text is ``body``."""

from __future__ import annotations

import re
from typing import Any

from headrace.errors import Refusal
from headrace.names import file_stem
from ingest.converters import Conversion, Converted
from ingest.converters.encodings import reads_text
from ingest.converters.records import convert_batches
from ingest.converters.text import read_text

_FRONT_MATTER = re.compile(
    r"---[ \t]*\r?\n(?P<yaml>.*?)^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE
)


@reads_text
def convert(conversion: Conversion) -> Converted:
    """Convert a Markdown file: ``name`` (of the file), its front matter's keys, ``body``.

    A ``name`` in the front matter takes the place of the file's.

    Raises:
        Refusal: ``invalid-file`` with line and column: the front matter is no YAML object.
    """
    front_matter, body = split_front_matter(read_text(conversion.input))
    name = file_stem(conversion.filename) or conversion.table
    record = {"name": name, **front_matter}
    warnings: tuple[str, ...] = ()
    if "body" in record:
        record["front_matter_body"] = record.pop("body")
        warnings = ("the front matter's 'body' was renamed to 'front_matter_body'",)
    record["body"] = body
    converted = convert_batches({conversion.table: lambda: [[record]]}, conversion)
    return Converted(tables=converted.tables, warnings=(*warnings, *converted.warnings))


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """Divide a Markdown text into its front matter and its body; neither is changed."""
    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    # Imported here: a file without front matter needs no YAML.
    from ingest.converters.yaml_records import load_documents  # noqa: PLC0415

    documents = load_documents(match["yaml"], lines_before=1)
    front_matter = documents[0] if documents else None
    if front_matter is None:
        return {}, text[match.end() :]
    if not isinstance(front_matter, dict):
        raise Refusal("invalid-file", "the front matter is not made of keys and values", line=2)
    return front_matter, text[match.end() :]
