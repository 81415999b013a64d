"""The options of an upload as options of a command, out of the table that the server reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from headrace.errors import Refusal
from headrace.names import check_database_name, check_table_name
from headrace.options import CHOICES, FIELDS, MODES
from headrace.remote.wording import is_utf8
from headrace.wishes import read_wishes

if TYPE_CHECKING:
    from collections.abc import Mapping

Command = TypeVar("Command", bound=Callable[..., Any])

# The file's name is the command's own matter, and so is waiting: --filename and --wait.
OWN = frozenset({"filename", "wait_for"})
FLAGS = frozenset({"strict", "header"})

# What --help says of each field that there is a flag for (docs/reference/http.md says more).
HELP = {
    "database": "Where the files go (default: made from each file's name).",
    "table": "Name of the table (default: made from each file's name).",
    "mode": "What becomes of a table that is there (default: replace).",
    "pk": "Columns of the primary key: a,b.",
    "encoding": "Of the file, where it is not found out: cp1252, utf-16, …",
    "delimiter": "Of a CSV: one character, or tab, comma, semicolon, pipe.",
    "header": "Whether the first row names the columns.",
    "empty": "What an empty field is.",
    "on_bad_rows": "Refuse the file, or put its bad rows in <table>_rejects.",
    "nested": "Objects within records: kept as JSON, or made columns.",
    "columns": "Columns to keep, in this order, with new names: zip,price:cost.",
    "types": "Types of columns: zip:text,price:real.",
    "strict": "Make STRICT tables.",
    "extract": "Columns to move to tables of their own: city:cities,state.",
    "index": "Indexes: zip,day+price.",
    "fts": "Columns to search in: title,body.",
    "metadata": "What to say about the database, as JSON or YAML.",
}


def field_options(command: Command) -> Command:
    """Give a command a flag for each option of an upload, and ``--option`` for those to come."""
    command = click.option(
        "--option",
        "others",
        multiple=True,
        metavar="NAME=VALUE",
        help="Another option of POST /ingest, of a server that is newer than this command.",
    )(command)
    for name in reversed(HELP):
        flag = name.replace("_", "-")
        declared = f"--{flag}/--no-{flag}" if name in FLAGS else f"--{flag}"
        command = click.option(
            declared,
            name,
            default=None,
            type=click.Choice(CHOICES[name]) if name in CHOICES.keys() - FLAGS else None,
            help=HELP[name],
        )(command)
    return command


def read_fields(flags: Mapping[str, Any]) -> dict[str, str]:
    """Give the fields of the requests; what the server would refuse is refused before it is sent.

    Args:
        flags: What ``field_options`` gives a command: None where nothing was said.

    Raises:
        click.UsageError: One cannot be used.
    """
    fields = {
        name: str(int(value)) if isinstance(value, bool) else str(value)
        for name, value in flags.items()
        if value is not None and name in HELP
    }
    for each in flags["others"]:
        name, equals, value = each.partition("=")
        if not equals or not name or name in OWN:
            raise click.UsageError(f"cannot use --option {each!r}: write NAME=VALUE")
        fields[name] = value
    for name, value in fields.items():
        if not is_utf8(name + value):
            raise click.UsageError(f"what --{name.replace('_', '-')} says is not UTF-8")
    try:
        _check({name: value for name, value in fields.items() if name in FIELDS})
    except Refusal as refusal:
        hint = f" ({refusal.hint})" if refusal.hint else ""
        raise click.UsageError(f"{refusal.detail}{hint}") from refusal
    return fields


def _check(fields: Mapping[str, str]) -> None:
    read_wishes(fields)
    if "database" in fields:
        check_database_name(fields["database"])
    if "table" in fields:
        check_table_name(fields["table"])
    if fields.get("mode", MODES[0]) not in MODES:
        raise Refusal("invalid-option", f"a mode is one of {', '.join(MODES)}")
