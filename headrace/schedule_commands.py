"""``headrace schedule``: what the primary fetches again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headrace.admin_commands import ask, read_options
from headrace.history_commands import print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PATH = "/ingest/schedules"


async def add(
    primary: str,
    token_file: Path | None,
    asked: Mapping[str, str | None],
    options: Sequence[str],
) -> None:
    """Make a schedule.

    Args:
        primary: URL of it, or of a reader.
        token_file: None: the token is found elsewhere.
        asked: ``url``, ``cron`` and the like.
        options: Of an upload, each ``name=value``.

    Raises:
        HeadraceError: The primary refused, or cannot be reached, or an option has no value.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    document = {**read_options(options), **given}
    answer = await ask(primary, token_file, PATH, document=document)
    click.echo(f"schedule {answer['id']}: next at {answer['next_at']}")


async def list_all(primary: str, token_file: Path | None) -> None:
    """Print all schedules, one a line; what is wrong with one below it.

    Raises:
        HeadraceError: The primary refused, or cannot be reached.
    """
    schedules = (await ask(primary, token_file, PATH, method="GET"))["schedules"]
    head = ("schedule", "cron", "timezone", "url", "next at", "last at", "outcome", "receipt")
    print_table(head, [_row(each) for each in schedules])
    for each in schedules:
        if each["last_error"]:
            times = f", {each['failures']} times now" if each["failures"] > 1 else ""
            click.echo(f"{each['id']}: {each['last_error']['detail']}{times}")


async def remove(primary: str, token_file: Path | None, schedule_id: str) -> None:
    """Remove a schedule.

    Raises:
        HeadraceError: The primary refused, or cannot be reached.
    """
    await ask(primary, token_file, f"{PATH}/{schedule_id}", method="DELETE")
    click.echo(f"schedule {schedule_id} is removed")


async def run(primary: str, token_file: Path | None, schedule_id: str) -> None:
    """Run a schedule now.

    Raises:
        HeadraceError: The primary refused, or cannot be reached.
    """
    answer = await ask(primary, token_file, f"{PATH}/{schedule_id}/run")
    error = answer["last_error"]
    why = f": {error['detail']}" if error else ""
    click.echo(f"receipt {answer['last_receipt'] or '-'}: {answer['last_outcome']}{why}")


def _row(schedule: dict[str, Any]) -> tuple[str, ...]:
    names = ("id", "cron", "timezone", "url", "next_at", "last_at", "last_outcome", "last_receipt")
    return tuple(str(schedule[name] or "-") for name in names)
