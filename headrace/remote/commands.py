"""The commands that work from any machine. What each needs is loaded when it runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from headrace.exits import Exit
from headrace.failing import failing
from headrace.remote.fields import field_options, read_fields
from headrace.remote.urls import DEFAULT_SAID, find_url, read_url

if TYPE_CHECKING:
    from collections.abc import Coroutine

Command = TypeVar("Command", bound=Callable[..., Any])

WAITS = ("none", "published", "regions")
RETRY_FOR_S = 120.0
FIRST_FOR_S = 10.0  # of a server that never was there: its URL is wrong more often than it starts


def asks_server(command: Command) -> Command:
    """Give a command the options that say which server is asked, and by which token."""
    command = click.option(
        "--token-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="File of the token (default: HEADRACE_TOKEN, else that of `headrace login`, else, for "
        "a server on this machine, data/token).",
    )(command)
    return click.option(
        "--to",
        "url",
        default=find_url,
        show_default=DEFAULT_SAID,
        envvar="HEADRACE_URL",
        show_envvar=True,
        callback=read_url,
        help="URL of a reader, or of the primary.",
    )(command)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@asks_server
@field_options
@click.option("--filename", help="Name to send it under: for one file, or for standard input.")
@click.option(
    "--wait",
    type=click.Choice(WAITS),
    default="published",
    show_default=True,
    help="Until it was received, is published, or all regions show it.",
)
@click.option("--jobs", type=click.IntRange(1, 32), default=4, show_default=True, help="At once.")
@click.option(
    "--retry-for",
    type=click.FloatRange(0),
    show_default=f"{RETRY_FOR_S:g}, or {FIRST_FOR_S:g} if it never was there",
    metavar="SECONDS",
    help="How long the server may be away at a stretch.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="How long a file may take in all (default: as long as it takes).",
)
@click.option("--json", "as_json", is_flag=True, help="Print each file's receipt as a JSON line.")
def push(files: tuple[str, ...], url: str, token_file: Path | None, **flags: Any) -> None:
    """Send files, and say what became of them.

    FILE is a file, a pattern, or - for standard input. A command that was cut off goes on where it
    was when it is run again.
    """
    from headrace.remote.files import find_items  # noqa: PLC0415
    from headrace.remote.push import push as send  # noqa: PLC0415
    from headrace.remote.sending import Terms  # noqa: PLC0415

    retry_for_s: float | None = flags.pop("retry_for")
    terms = Terms(
        wait=flags.pop("wait"),
        retry_for_s=RETRY_FOR_S if retry_for_s is None else retry_for_s,
        timeout_s=flags.pop("timeout"),
        first_for_s=FIRST_FOR_S if retry_for_s is None else retry_for_s,
    )
    filename, jobs, as_json = (flags.pop(name) for name in ("filename", "jobs", "as_json"))
    items = find_items(files, filename, read_fields(flags))
    token = token_for(url, token_file)
    run(send(url, token, items, terms, jobs=jobs, as_json=as_json))


@click.command()
@asks_server
@click.option("--watch", is_flag=True, help="Again and again, until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="From one look to the next.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line for each look.")
def status(url: str, token_file: Path | None, watch: bool, every: float, as_json: bool) -> None:
    """Say how a system is doing: primary, regions and how far they are, the last uploads.

    Without a token only what everybody may know is shown.
    """
    from headrace.remote.status import show_status  # noqa: PLC0415

    token = token_for(url, token_file)
    run(show_status(url, token, as_json=as_json, every_s=every if watch else None))


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@asks_server
@field_options
@click.option("--jobs", type=click.IntRange(1, 32), default=4, show_default=True, help="At once.")
@click.option("--mirror-deletes", is_flag=True, help="Delete the tables of a file that is deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print each file's receipt as a JSON line.")
def watch(folder: Path, url: str, token_file: Path | None, **flags: Any) -> None:
    """Push the files of a folder as they are finished, until SIGTERM or Ctrl-C.

    FOLDER/<database>/<file> goes into that database, FOLDER/<file> into one of its own name. What
    was pushed before is not pushed again.
    """
    if sys.platform != "linux":
        raise click.UsageError("`headrace watch` needs inotify, which only Linux has")
    from headrace.remote.watch import Wanted  # noqa: PLC0415
    from headrace.remote.watch import watch as watch_folder  # noqa: PLC0415

    fields = read_fields(flags)
    if "table" in fields:
        raise click.UsageError("all files would take each other's place in one --table")
    wanted = Wanted(
        root=folder.absolute(),
        fields=fields,
        mirror_deletes=flags["mirror_deletes"],
        jobs=flags["jobs"],
        as_json=flags["as_json"],
    )
    run(watch_folder(url, token_for(url, token_file), wanted))


@click.command()
@asks_server
def login(url: str, token_file: Path | None) -> None:
    """Keep the token for a server: in the keyring, or in a file that only you can read.

    The token is asked for, or read from --token-file or from standard input.
    """
    from headrace.remote.login import log_in, read_token  # noqa: PLC0415

    with failing():
        try:
            token = read_token(token_file)  # before there is a loop, which would take the Ctrl-C
        except click.Abort:
            sys.exit(Exit.INTERRUPTED)
    run(log_in(url, token))


@click.command()
@asks_server
def logout(url: str, token_file: Path | None) -> None:  # noqa: ARG001 - as login
    """Forget the token for a server."""
    from headrace.remote.credentials import forget  # noqa: PLC0415

    with failing():
        click.echo(f"forgotten: {url}" if forget(url) else f"there was none for {url}")


def token_for(url: str, token_file: Path | None) -> str | None:
    """Find the token for a server; say so if it could be read on its way."""
    from headrace.remote.credentials import find_token, goes_in_the_open  # noqa: PLC0415

    with failing():
        token = find_token(url, token_file)
    if token is not None and goes_in_the_open(url):
        click.echo(
            f"headrace: note: {url} is not https: the token can be read on its way", err=True
        )
    return token


def run(work: Coroutine[Any, Any, Exit]) -> None:
    """Do it, and end as it says."""
    with failing():
        try:
            code = asyncio.run(work)
        except KeyboardInterrupt:
            code = Exit.INTERRUPTED
    sys.exit(code)


COMMANDS = (push, watch, status, login, logout)
