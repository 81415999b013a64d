"""The commands that explain a node's settings, and look at what it will need."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from headrace import doctor
from headrace.exits import Exit
from headrace.history_commands import print_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headrace.settings import InForce

_COLOURS = {doctor.Verdict.OK: "green", doctor.Verdict.NOTE: "yellow", doctor.Verdict.BAD: "red"}


def show(settings: Sequence[InForce], *, as_json: bool) -> None:
    """Print the settings that are in force."""
    if as_json:
        click.echo(json.dumps([asdict(each) for each in settings], indent=2))
        return
    rows = [
        (each.name, "-" if each.value is None else each.value, each.origin) for each in settings
    ]
    print_table(("setting", "value", "from"), rows)


async def examine(
    settings: doctor.AnySettings,
    list_converters: Callable[[doctor.AnySettings], Iterable[tuple[str, str]]],
    *,
    as_json: bool,
) -> Exit:
    """Print what is found; give how the command ends."""
    found = await doctor.examine(settings, list_converters)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
    else:
        for each in found:
            verdict = click.style(f"{each.verdict:<5}", fg=_COLOURS[each.verdict])
            click.echo(f"{verdict} {each.what:<10}  {each.said}")
            if each.advice:
                click.echo(f"{'':<18}{each.advice}")
    bad = any(each.verdict is doctor.Verdict.BAD for each in found)
    return Exit.FAILED if bad else Exit.DONE
