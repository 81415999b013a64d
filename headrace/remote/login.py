"""``headrace login``: a token that the server knows is kept."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from headrace.errors import NotAllowedError
from headrace.exits import Exit
from headrace.remote import credentials
from headrace.remote.server import connected

if TYPE_CHECKING:
    from pathlib import Path

_UNKNOWN = "unauthorized"


async def log_in(url: str, token: str) -> Exit:
    """Try a token, and keep it.

    Raises:
        HeadraceError: It cannot be kept, or the server does not know it.
    """
    await _try(url, token)
    click.echo(f"kept in {credentials.keep(url, token)}")
    return Exit.DONE


def read_token(token_file: Path | None) -> str:
    """Read a token from a file, from a terminal, or from standard input.

    Raises:
        click.Abort: Ctrl-C.
        HeadraceError: It cannot be read, or is none.
    """
    if token_file is not None:
        token = credentials.read_file(token_file)
    elif sys.stdin.isatty():
        token = click.prompt("Token", hide_input=True, err=True)
    else:
        token = sys.stdin.readline()
    return credentials.checked(token.strip())


async def _try(url: str, token: str) -> None:
    """Ask for something that takes a token; one that may only do other things is good as well."""
    async with connected(url, token) as server:
        try:
            await server.ask("GET", "/ingest/receipts")
        except NotAllowedError as exc:
            if exc.code == _UNKNOWN:
                raise
