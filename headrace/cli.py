"""The command line: thin; each command loads its settings and runs its side."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace import __version__
from headrace.config import (
    KINDS,
    IngestSettings,
    NodeSettings,
    ServeSettings,
    StoreSettings,
    UpSettings,
    explain_settings,
    load_settings,
)
from headrace.failing import failing
from headrace.remote.commands import COMMANDS, asks_server
from headrace.settings import options_of

if TYPE_CHECKING:
    from collections.abc import Coroutine


@click.group()
@click.version_option(__version__, prog_name="headrace")
def main() -> None:
    """POST a file; a moment later everybody reads it in Datasette."""


@main.command()
@options_of(UpSettings)
def up(**flags: Any) -> None:
    """Run everything on this machine: ingest, Litestream, readers with Datasette."""
    from headrace.up import run  # noqa: PLC0415 - each command imports only its own side

    _run(run(_load(UpSettings, flags)))


@main.command()
@options_of(IngestSettings)
def ingest(**flags: Any) -> None:
    """Run the primary: take uploads, convert, replicate and publish them."""
    from ingest.service import run  # noqa: PLC0415

    _run(run(_load(IngestSettings, flags)))


@main.command()
@options_of(ServeSettings)
def serve(**flags: Any) -> None:
    """Run a reader: follow the log, restore copies, serve them with Datasette."""
    from serve.service import run  # noqa: PLC0415

    _run(run(_load(ServeSettings, flags)))


@main.group()
def config() -> None:
    """Print the settings that are in force, and where each of them comes from."""


@main.group()
def doctor() -> None:
    """Look at what a node will need (store, clock, disk, ports, versions, plugins)."""


def _add_explaining(name: str, kind: type[NodeSettings]) -> None:
    """Add the commands that explain what another one would do."""

    @config.command(name, help=f"Print the settings of `headrace {name}`.")
    @options_of(kind)
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def _config(*, as_json: bool, **flags: Any) -> None:
        from headrace import config_commands  # noqa: PLC0415

        with failing():
            config_commands.show(explain_settings(kind, flags), as_json=as_json)

    @doctor.command(name, help=f"Look at what `headrace {name}` will need; 1: it will not work.")
    @options_of(kind)
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def _doctor(*, as_json: bool, **flags: Any) -> None:
        from headrace import config_commands  # noqa: PLC0415
        from ingest.plugins import list_added  # noqa: PLC0415

        settings = _load(kind, flags)
        sys.exit(asyncio.run(config_commands.examine(settings, list_added, as_json=as_json)))


for _name, _kind in KINDS.items():
    _add_explaining(_name, _kind)


@main.command()
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Data folder of a primary, of a reader, or of `headrace up`.",
)
def verify(data: Path) -> None:
    """Read databases whole: live ones against their replicas, slots against their checksums."""
    from ingest.verify import verify_databases  # noqa: PLC0415
    from serve.scrub import verify_slots  # noqa: PLC0415

    equal = True
    for folder in (data, data / "primary", *sorted(data.glob("reader-*"))):
        for path, fault in (*verify_databases(folder), *verify_slots(folder)):
            click.echo(f"{path.relative_to(data)}: {fault or 'ok'}")
            equal = equal and fault is None
    sys.exit(0 if equal else 1)


@main.command()
@options_of(StoreSettings)
@click.option("--limit", default=20, show_default=True, help="How many at the most.")
def generations(limit: int, **flags: Any) -> None:
    """List the newest generations: when, why, and what they changed."""
    from headrace import history_commands  # noqa: PLC0415

    _run(history_commands.list_generations(_load(StoreSettings, flags), limit))


@main.command()
@click.argument("first", type=int)
@click.argument("second", type=int)
@options_of(StoreSettings)
def diff(first: int, second: int, **flags: Any) -> None:
    """Say which tables changed from one generation to another."""
    from headrace import history_commands  # noqa: PLC0415

    _run(history_commands.show_difference(_load(StoreSettings, flags), first, second))


@main.command()
@click.argument("generation", type=int)
@click.option(
    "--to",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files.",
)
@click.option("--database", help="Only this one.")
@options_of(StoreSettings)
def restore(generation: int, folder: Path, database: str | None, **flags: Any) -> None:
    """Write the databases of a generation as SQLite files, straight from the store."""
    from headrace import history_commands  # noqa: PLC0415

    settings = _load(StoreSettings, flags)
    _run(history_commands.restore_files_of(settings, generation, folder, database))


@main.command()
@click.argument("generation", type=int)
@click.option("--database", help="Only this one.")
@click.option(
    "--wait",
    type=click.Choice(("published", "regions")),
    default="published",
    show_default=True,
    help="Until it is published, or all regions show it.",
)
@asks_server
def rollback(
    generation: int, database: str | None, wait: str, url: str, token_file: Path | None
) -> None:
    """Publish what an earlier generation held, as a new one."""
    from headrace import admin_commands  # noqa: PLC0415

    in_regions = wait == "regions"
    _run(admin_commands.roll_back(url, token_file, generation, database, in_regions=in_regions))


@main.command()
@click.argument("receipt")
@click.argument("options", nargs=-1, metavar="[NAME=VALUE]...")
@asks_server
def reprocess(receipt: str, options: tuple[str, ...], url: str, token_file: Path | None) -> None:
    """Take an archived upload once more, with the options of that time or with others."""
    from headrace import admin_commands  # noqa: PLC0415

    _run(admin_commands.reprocess(url, token_file, receipt, options))


@main.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@asks_server
def prune(dry_run: bool, url: str, token_file: Path | None) -> None:
    """Delete what no kept generation names: lineages, archived uploads, old entries."""
    from headrace import admin_commands  # noqa: PLC0415

    _run(admin_commands.prune(url, token_file, dry_run=dry_run))


@main.group()
def schedule() -> None:
    """Fetch files from URLs again and again."""


@schedule.command("add")
@click.argument("fetched", metavar="URL")
@click.option("--cron", required=True, help="When: minute hour day month weekday.")
@click.option("--timezone", default="UTC", show_default=True, help="That these hold in.")
@click.option("--database", help="Where it goes; else it is named after the file.")
@click.argument("options", nargs=-1, metavar="[NAME=VALUE]...")
@asks_server
def schedule_add(
    options: tuple[str, ...],
    fetched: str,
    url: str,
    token_file: Path | None,
    **asked: str | None,
) -> None:
    """Fetch a URL at the times of a cron expression, with the options of an upload."""
    from headrace import schedule_commands  # noqa: PLC0415

    _run(schedule_commands.add(url, token_file, {"url": fetched, **asked}, options))


@schedule.command("list")
@asks_server
def schedule_list(url: str, token_file: Path | None) -> None:
    """List all schedules, and what came of their last runs."""
    from headrace import schedule_commands  # noqa: PLC0415

    _run(schedule_commands.list_all(url, token_file))


@schedule.command("remove")
@click.argument("schedule_id", metavar="SCHEDULE")
@asks_server
def schedule_remove(schedule_id: str, url: str, token_file: Path | None) -> None:
    """Remove a schedule; what it fetched stays."""
    from headrace import schedule_commands  # noqa: PLC0415

    _run(schedule_commands.remove(url, token_file, schedule_id))


@schedule.command("run")
@click.argument("schedule_id", metavar="SCHEDULE")
@asks_server
def schedule_run(schedule_id: str, url: str, token_file: Path | None) -> None:
    """Run a schedule now."""
    from headrace import schedule_commands  # noqa: PLC0415

    _run(schedule_commands.run(url, token_file, schedule_id))


@main.group()
def token() -> None:
    """Make tokens that may do less than the one in `data/token`, list and revoke them."""


@token.command("create")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    help="What it may do: ingest:<database>, ingest:*, or admin; several times for several.",
)
@click.option("--expires", default="90d", show_default=True, help="12h, 30d, … or never.")
@click.option("--name", help="Who or what it is for (default: its scopes).")
@asks_server
def create_token(
    scopes: tuple[str, ...], expires: str, name: str | None, url: str, token_file: Path | None
) -> None:
    """Make a token, and print it: it is not kept, so it cannot be read again."""
    from headrace import token_commands  # noqa: PLC0415

    _run(token_commands.create(url, token_file, name=name, scopes=scopes, expires=expires))


@token.command("list")
@asks_server
def list_tokens(url: str, token_file: Path | None) -> None:
    """List tokens: what they may do, when they end, when they were used last."""
    from headrace import token_commands  # noqa: PLC0415

    _run(token_commands.show(url, token_file))


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@asks_server
def revoke_token(token_id: str, url: str, token_file: Path | None) -> None:
    """End a token, at once."""
    from headrace import token_commands  # noqa: PLC0415

    _run(token_commands.revoke(url, token_file, token_id))


def _load(kind: Any, flags: dict[str, Any]) -> Any:
    with failing():
        return load_settings(kind, flags)


def _run(work: Coroutine[Any, Any, None]) -> None:
    with failing():
        asyncio.run(work)


for _command in COMMANDS:
    main.add_command(_command)
