"""The commands that make tokens, list them and revoke them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from headrace.admin_commands import ask
from headrace.history_commands import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


async def create(
    url: str, file: Path | None, *, name: str | None, scopes: Sequence[str], expires: str
) -> None:
    """Have a token made, and print it: this once.

    Raises:
        HeadraceError: The primary refused, or cannot be reached.
    """
    document = {"name": name or " ".join(scopes), "scopes": list(scopes), "expires": expires}
    made = await ask(url, file, "/ingest/tokens", document=document)
    ends = made["expires_at"] or "never"
    about = f"token {made['id']} ({', '.join(made['scopes'])}) expires: {ends}"
    click.echo(about, err=True)
    click.echo(made["token"])


async def show(url: str, file: Path | None) -> None:
    """Print the tokens that were made.

    Raises:
        HeadraceError: The primary refused, or cannot be reached.
    """
    answer = await ask(url, file, "/ingest/tokens", method="GET")
    rows = [
        (
            each["id"],
            each["name"],
            " ".join(each["scopes"]),
            (each["revoked_at"] and "revoked") or each["expires_at"] or "never",
            each["used_at"] or "never",
        )
        for each in answer["tokens"]
    ]
    print_table(("id", "name", "scopes", "expires", "last used"), rows)


async def revoke(url: str, file: Path | None, token_id: str) -> None:
    """Have a token end now.

    Raises:
        HeadraceError: The primary refused, or cannot be reached.
    """
    path = f"/ingest/tokens/{quote(token_id, safe='')}"
    answer = await ask(url, file, path, method="DELETE")
    click.echo(f"token {answer['id']} is revoked")
