"""Settings: a flag wins over the environment (``HEADRACE_…``), that over ``headrace.toml``."""

from __future__ import annotations

import os
import secrets
import tomllib
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from headrace.converter_command import ConverterCommand, decode_commands
from headrace.errors import ConfigError
from headrace.fly import FLY_VARIABLES, read_fly
from headrace.settings import (
    HIDDEN,
    VARIABLE_PREFIX,
    Bytes,
    InForce,
    Texts,
    decode_settings,
    flag_of,
    list_in_force,
    names_of,
    read_environment,
    setting,
    settings_of,
    variable_of,
)
from headrace.store_url import parse_store_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Offsets from --port, for one machine (``headrace up``) and as defaults for separate ones.
INGEST_PORT_OFFSET = 100
METRICS_PORT_OFFSET = 200

MIB = 1024**2  # bytes
GIB = 1024**3

CONFIG_NAME = "headrace.toml"
PYTHON = "python:"  # what a function begins with that is called instead of a command

# Variables of ours that are no settings: of commands, and what hooks after a switch are told.
OTHER_VARIABLES = frozenset(
    {
        "HEADRACE_URL",
        "HEADRACE_GENERATION",
        "HEADRACE_PREVIOUS_GENERATION",
        "HEADRACE_CHANGED_DATABASES",
        "HEADRACE_REMOVED_DATABASES",
    }
)


def _show_store(url: str) -> str:
    return parse_store_url(url).base


def _show_command(command: str) -> str:
    """Hide a line for the shell, which may say a token or a password."""
    return command if command.startswith(PYTHON) else HIDDEN


def _show_primary(url: str) -> str:
    """Give the primary's URL, which holds no secret.

    Raises:
        ConfigError: It is no HTTP URL, or holds more than where the primary is.
    """
    parts = urlsplit(url)
    fits = parts.scheme in {"http", "https"} and parts.hostname
    if not fits or "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            "cannot use --primary: it is no HTTP URL, or one with a user or a query",
            hint="such as http://127.0.0.1:8100",
        )
    return url


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """Where things are kept: what is needed to look at them."""

    config: Path | None = setting(
        None, description=f"Settings as TOML (default: {CONFIG_NAME} in the data folder)."
    )
    data: Path = setting(Path("data"), description="Folder that everything is kept in.")
    store: str | None = setting(
        None,
        show=_show_store,
        description="Object store: a folder, s3://bucket/prefix, gs://… or az://….",
    )


@dataclass(frozen=True, kw_only=True)
class NodeSettings(StoreSettings):
    """What every kind of node needs."""

    host: str = setting("127.0.0.1", description="Address to listen on.")
    port: int = setting(8000, ge=0, le=65535, description="Port to listen on.")
    token: str | None = setting(
        None, secret=True, description="Token that allows to write (environment only)."
    )
    store_prices: str | None = setting(
        None,
        description="Dollars for 1,000 writes or lists, 1,000 reads, and a GB read of the store, "
        "with commas between (default: its kind's).",
    )
    shutdown_timeout: float = setting(
        60.0, ge=1, le=3600, description="Seconds that a stop may take, from the signal on."
    )


@dataclass(frozen=True, kw_only=True)
class PlaceSettings:
    """Where a node runs."""

    region: str = setting("local", description="Region that this node is in (on Fly: FLY_REGION).")
    machine: str | None = setting(
        None, description="Name of this machine, for people (on Fly: FLY_MACHINE_ID)."
    )
    address: str | None = setting(
        None, description="Its address in the private network, for people (on Fly: FLY_PRIVATE_IP)."
    )


@dataclass(frozen=True, kw_only=True)
class UploadSettings:
    """What decides about uploads wherever they arrive."""

    max_upload: Bytes = setting(Bytes(10 * GIB), ge=1, description="Largest upload in bytes.")


@dataclass(frozen=True, kw_only=True)
class ReaderSettings(UploadSettings):
    """What decides how a reader serves."""

    datasette_dir: Path | None = setting(
        None,
        description="Datasette configuration directory: metadata, settings.json, plugins/, "
        "templates/, static/.",
    )
    workers: int | None = setting(
        None, ge=1, le=64, description="Datasette workers (default: cores, at most 4)."
    )
    worker_memory: Bytes = setting(
        Bytes(GIB), ge=1, description="A worker that holds more bytes of memory is replaced."
    )
    min_switch_interval: float = setting(
        0.2, ge=0, le=3600, description="Least seconds between two switches."
    )
    max_staleness: float | None = setting(
        None,
        ge=10,
        le=31_536_000,
        description="Seconds since a reader last knew that it was up to date; one that is staler "
        "answers no reads (default: it always does).",
    )
    on_generation: str | None = setting(
        None,
        show=_show_command,
        description="Command to run after each switch, or python:module:function.",
    )
    cache_size: Bytes = setting(
        Bytes(256 * MIB), ge=0, description="Bytes of the page cache in memory; 0 turns it off."
    )
    request_timeout: float = setting(
        30.0, gt=0, description="Seconds that Datasette has for an answer."
    )
    worker_concurrency: int = setting(
        16, ge=1, description="Requests that one worker answers at once."
    )
    queue_length: int = setting(
        256, ge=0, description="Requests that wait for Datasette; more are answered with 503."
    )
    client_concurrency: int = setting(
        64, ge=0, description="Requests of one address at once, beyond the cache; 0: no limit."
    )
    upload_page: bool = setting(
        True, description="Show people a page to upload with, at /ingest, and links to it."
    )
    page_footer: bool = setting(
        True, description="Say at the foot of each page how old its data is, and where from."
    )
    trusted_proxies: str = setting(
        "", description="Networks (CIDR, comma-separated) whose X-Forwarded headers are believed."
    )
    client_header: str = setting(
        "X-Forwarded-For", description="Header by which such a proxy names the client."
    )


@dataclass(frozen=True, kw_only=True)
class WriterSettings(UploadSettings):
    """What decides how uploads are taken."""

    archive: bool = setting(
        True, description="Keep the bytes of uploads in the object store, before the answer."
    )
    disk_reserve: Bytes = setting(
        Bytes(128 * MIB),
        ge=0,
        description="Bytes of the primary's disk that uploads leave free, for Litestream.",
    )
    max_write_bytes: Bytes = setting(
        Bytes(32 * MIB), ge=1, description="Largest request of Datasette's write API, in bytes."
    )
    max_write_rows: int = setting(
        10_000, ge=1, description="Most rows in one request of Datasette's write API."
    )
    write_window: float = setting(
        0.004,
        ge=0,
        le=60,
        description="Seconds that a write of rows waits for others, to be published with them.",
    )
    lease_duration: float = setting(
        30.0, ge=1, le=3600, description="Seconds that the primary's lease runs without a renewal."
    )
    lease_renewal: float = setting(
        10.0, gt=0, description="Seconds between renewals of the lease; a third of it or less."
    )
    new_journal: bool = setting(
        False, description="Begin with no receipts if the journal is lost, here and in the store."
    )
    log_retention: float = setting(
        30.0, ge=1, le=36500, description="Days that entries of the generation log are kept."
    )
    generation_retention: float = setting(
        1.0,
        gt=0,
        le=36500,
        description="Days that a generation can be brought back, after the next took its place.",
    )
    upload_retention: float = setting(
        30.0, gt=0, le=36500, description="Days that the bytes of uploads are kept."
    )
    fetch: str = setting(
        "off",
        description="From where files may be fetched: off, public, or hosts and origins with "
        "commas between.",
    )
    fetch_time: float = setting(600.0, gt=0, description="Seconds that fetching a file may take.")
    audit_retention: float = setting(
        400.0, ge=1, le=36500, description="Days that rows of the audit log are kept."
    )
    token_rate: float = setting(
        0.0, ge=0, description="Writes a minute of each token, session or actor; 0: no limit."
    )
    address_rate: float = setting(
        120_000.0, ge=0, description="Writes a minute of each address; 0: no limit."
    )
    queue_uploads: int = setting(
        1000, ge=1, description="Uploads that are on their way at once; more are answered with 429."
    )
    tus_expiry: float = setting(
        24.0,
        gt=0,
        le=8760,
        description="Hours without a byte after which an unfinished resumable upload is dropped.",
    )
    litestream_config: Path | None = setting(
        None, description="litestream.yml to use instead of Headrace's own."
    )
    incoming_interval: float | None = setting(
        None,
        ge=0,
        le=86_400,
        description="Seconds between two looks for files that others put under incoming/ and "
        "where --watch says; 0: only when an event comes (default: 120, in a folder 2).",
    )
    watch: Texts = setting(
        (),
        show=_show_store,
        description="Bucket and prefix, or folder, whose files <database>/<file> are taken as "
        "well; may be given several times.",
    )
    after_taking: str = setting(
        "keep",
        description="What becomes of a file of --watch that was taken: keep, or move.",
    )
    mirror_deletes: bool = setting(
        False,
        description="Delete what a file of --watch made when that file is deleted there.",
    )
    convert_memory: Bytes = setting(
        Bytes(4 * GIB), ge=64 * MIB, description="Memory of a converter's process, in bytes."
    )
    convert_cpu: int = setting(3600, ge=1, description="CPU seconds of a conversion.")
    convert_output: Bytes = setting(
        Bytes(40 * GIB),
        ge=MIB,
        description="Largest file that a conversion may write, and all that an archive may hold.",
    )
    convert_time: float = setting(
        3600.0, gt=0, description="Seconds that a conversion may take from start to end."
    )


@dataclass(frozen=True, kw_only=True)
class ConverterSettings:
    """What converts files, besides what is built in and what plugins bring along."""

    converters: dict[str, ConverterCommand] = setting(
        {},
        decode_table=decode_commands,
        description="Commands that convert files, by the name of the format.",
    )


@dataclass(frozen=True, kw_only=True)
class UpSettings(NodeSettings, ReaderSettings, WriterSettings, ConverterSettings):
    """``headrace up``: everything on one machine."""

    port: int = setting(8000, ge=1, le=65535, description="Port to listen on.")
    readers: int = setting(1, ge=1, le=99, description="Number of readers.")

    @property
    def ports(self) -> list[int]:
        """All that is listened on."""
        readers = range(self.readers)
        metrics = (METRICS_PORT_OFFSET + 1 + number for number in readers)
        offsets = (*readers, INGEST_PORT_OFFSET, METRICS_PORT_OFFSET, *metrics)
        return [self.port + offset for offset in offsets]


@dataclass(frozen=True, kw_only=True)
class IngestSettings(NodeSettings, PlaceSettings, WriterSettings, ConverterSettings):
    """``headrace ingest``: the primary."""

    port: int = setting(8100, ge=0, le=65535, description="Private port to listen on.")
    metrics_port: int = setting(8200, ge=0, le=65535, description="Port of /metrics.")
    standby: bool = setting(
        False, description="Wait while another primary holds the lease, and take over after it."
    )

    @property
    def ports(self) -> list[int]:
        """All that is listened on; 0: whichever the kernel picks."""
        return [self.port, self.metrics_port]


@dataclass(frozen=True, kw_only=True)
class ServeSettings(NodeSettings, PlaceSettings, ReaderSettings):
    """``headrace serve``: a reader."""

    metrics_port: int = setting(8201, ge=0, le=65535, description="Port of /metrics.")
    primary: str = setting(
        "http://127.0.0.1:8100", show=_show_primary, description="URL of the primary."
    )
    shutdown_grace: float = setting(
        5.0,
        ge=0,
        le=600,
        description="Seconds that a reader which stops answers on, but says that it is not ready.",
    )

    @property
    def ports(self) -> list[int]:
        """All that is listened on; 0: whichever the kernel picks."""
        return [self.port, self.metrics_port]


KINDS: dict[str, type[NodeSettings]] = {
    "up": UpSettings,
    "ingest": IngestSettings,
    "serve": ServeSettings,
}
_ALL = names_of(*KINDS.values())
_SECRETS = {each.name for kind in KINDS.values() for each in settings_of(kind) if each.secret}

Settings = TypeVar("Settings", bound=StoreSettings)


def load_settings(kind: type[Settings], flags: Mapping[str, Any]) -> Settings:
    """Build settings out of flags, the environment, the file, what Fly tells, and the defaults.

    Raises:
        ConfigError: A value does not fit, or something is no setting; says which.
    """
    return decode_settings(kind, _gather(kind, flags)[0])


def explain_settings(kind: type[Settings], flags: Mapping[str, Any]) -> list[InForce]:
    """List what is in force, and where it comes from.

    Raises:
        ConfigError: A value does not fit, or something is no setting; says which.
    """
    values, origins = _gather(kind, flags)
    settings = decode_settings(kind, values)
    token = settings.data / "token"
    found = {each.name: each for each in list_in_force(settings, origins)}
    found["store"] = replace(found["store"], value=parse_store_url(store_url(settings)).base)
    if "token" in found and found["token"].value is None and token.exists():
        found["token"] = replace(found["token"], value=HIDDEN, origin=str(token))
    return [found[name] for name in names_of(NodeSettings, kind) if name in found]


def _gather(
    kind: type[StoreSettings], flags: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Give what is said of each setting, and who says it."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    _check_variables()
    said = read_environment(kind)
    path, file = _read_config({**said, **given})
    fly = read_fly()
    origins = {
        **{name: FLY_VARIABLES[name] for name in fly},
        **dict.fromkeys(file, str(path)),
        **{name: variable_of(name) for name in said},
        **{name: flag_of(name) for name in given},
    }
    return {**fly, **file, **said, **given}, origins


def _read_config(nearer: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Read the file of settings: the chosen one, or the one in the data folder if there is one.

    Args:
        nearer: The settings that flags and environment give.

    Raises:
        ConfigError: It is not there, is no TOML, or sets what is no setting.
    """
    chosen = nearer.get("config")
    path = Path(chosen or Path(nearer.get("data", "data"), CONFIG_NAME))
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError as exc:
        if chosen:
            raise ConfigError(f"find no {path}") from exc
        return path, {}
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot read {path}: {exc}") from exc
    # The file decides on neither where it lies itself.
    known = [name for name in _ALL if name not in {"config", "data"} | _SECRETS]
    for name in values:
        if name in _SECRETS:
            raise ConfigError(
                f"cannot use {path}: {name!r} is a secret",
                hint=f"say it in the environment, as {variable_of(name)}",
            )
        if name not in known:
            raise ConfigError(
                f"cannot use {path}: {name!r} is no setting of it",
                hint=_suggest(name, known, like=0.6) or "`headrace config up` lists all",
            )
    return path, values


def _check_variables() -> None:
    """Refuse variables that look like a setting misspelled.

    Others are left alone: Kubernetes, for one, sets variables named after each service.

    Raises:
        ConfigError: There is one; says which setting may be meant.
    """
    variables = {variable_of(name) for name in _ALL}
    for name in os.environ:
        if not name.startswith(VARIABLE_PREFIX) or name in variables | OTHER_VARIABLES:
            continue
        if (hint := _suggest(name, variables, like=0.8)) is not None:
            raise ConfigError(f"cannot use {name}: it is no setting", hint=hint)


def _suggest(name: str, known: Iterable[str], *, like: float) -> str | None:
    """Say what may be meant; None if nothing is like it.

    Args:
        name: What was said.
        known: What could have been.
        like: How much, from 0 to 1. Two letters that changed places are like enough, however short
            a name is: PROT is 0.75 like PORT, but so is Kubernetes' SERVICE_PORT like METRICS_PORT.
    """
    short = {each.removeprefix(VARIABLE_PREFIX): each for each in known}
    said = name.removeprefix(VARIABLE_PREFIX)
    near = [each for each in short if sorted(each) == sorted(said)]
    near += get_close_matches(said, short, n=1, cutoff=like)
    return f"did you mean {short[near[0]]}?" if near else None


def store_url(settings: StoreSettings) -> str:
    """Give the object store's URL: by default a folder inside the data folder."""
    return settings.store or str(settings.data.absolute() / "store")


def find_litestream_config(chosen: Path | None) -> Path:
    """Find ``litestream.yml``: the chosen one, the installed one, or the checkout's.

    Raises:
        ConfigError: It is not there.
    """
    here = Path(__file__).parent
    candidates = [chosen] if chosen else [here / "litestream.yml", here.parent / "litestream.yml"]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise ConfigError(f"find no {candidates[-1]}")


def find_secret(path: Path) -> str | None:
    """Read a secret from a file, if there is one."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


def find_or_make_secret(path: Path) -> str:
    """Read a secret from a file of mode 0600, or make one and write it there."""
    if (found := find_secret(path)) is not None:
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    secret = secrets.token_urlsafe(32)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    return secret
