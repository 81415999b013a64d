"""Settings: a flag wins over the environment (``HEADRACE_…``), that over ``headrace.toml``."""

from __future__ import annotations

import os
import secrets
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_origin

import click
from pydantic import ByteSize, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from headrace.converter_command import ConverterCommand  # noqa: TC001 - pydantic reads it
from headrace.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])

# Offsets from --port, for one machine (``headrace up``) and as defaults for separate ones.
INGEST_PORT_OFFSET = 100
METRICS_PORT_OFFSET = 200

MIB = 1024**2  # bytes
GIB = 1024**3


CONFIG_NAME = "headrace.toml"


class StoreSettings(BaseSettings):
    """Where things are kept: what is needed to look at them."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", extra="ignore")

    config: Path | None = Field(
        None, description=f"Settings as TOML (default: {CONFIG_NAME} in the data folder)."
    )
    data: Path = Field(Path("data"), description="Folder that everything is kept in.")
    store: str | None = Field(
        None,
        description="Object store: a folder, s3://bucket/prefix, gs://… or az://….",
    )

    @classmethod
    def settings_customise_sources(  # noqa: D102 - pydantic's hook
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not used
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not used
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        nearer = {**env_settings(), **init_settings()}
        file = InitSettingsSource(settings_cls, _read_config(nearer))
        return init_settings, env_settings, file


class NodeSettings(StoreSettings):
    """What every kind of node needs."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    token: SecretStr | None = Field(
        None, description="Token that allows to write (environment only)."
    )


class ReaderSettings(BaseSettings):
    """What decides how a reader serves."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", extra="ignore")

    datasette_dir: Path | None = Field(
        None,
        description="Datasette configuration directory: metadata, settings.json, plugins/, "
        "templates/, static/.",
    )
    workers: int | None = Field(
        None, ge=1, le=64, description="Datasette workers (default: cores, at most 4)."
    )
    worker_memory: int = Field(
        GIB, ge=1, description="A worker that holds more bytes of memory is replaced."
    )
    min_switch_interval: float = Field(
        0.2, ge=0, le=3600, description="Least seconds between two switches."
    )
    on_generation: str | None = Field(
        None, description="Command to run after each switch, or python:module:function."
    )
    cache_size: int = Field(
        256 * 1024**2, ge=0, description="Bytes of the page cache in memory; 0 turns it off."
    )
    request_timeout: float = Field(
        30.0, gt=0, description="Seconds that Datasette has for an answer."
    )
    worker_concurrency: int = Field(
        16, ge=1, description="Requests that one worker answers at once."
    )
    queue_length: int = Field(
        256, ge=0, description="Requests that wait for Datasette; more are answered with 503."
    )
    client_concurrency: int = Field(
        64, ge=0, description="Requests of one address at once, beyond the cache; 0: no limit."
    )
    trusted_proxies: str = Field(
        "", description="Networks (CIDR, comma-separated) whose X-Forwarded headers are believed."
    )


class WriterSettings(BaseSettings):
    """What decides how uploads are taken."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", extra="ignore")

    archive: bool = Field(
        True, description="Keep the bytes of uploads in the object store, before the answer."
    )
    lease_duration: float = Field(
        30.0, ge=1, le=3600, description="Seconds that the primary's lease runs without a renewal."
    )
    lease_renewal: float = Field(
        10.0, gt=0, description="Seconds between renewals of the lease; a third of it or less."
    )
    log_retention: float = Field(
        30.0, ge=1, le=36500, description="Days that entries of the generation log are kept."
    )
    max_upload: ByteSize = Field(ByteSize(10 * GIB), ge=1, description="Largest upload in bytes.")
    litestream_config: Path | None = Field(
        None, description="litestream.yml to use instead of Headrace's own."
    )
    convert_memory: ByteSize = Field(
        ByteSize(4 * GIB), ge=64 * MIB, description="Memory of a converter's process, in bytes."
    )
    convert_cpu: int = Field(3600, ge=1, description="CPU seconds of a conversion.")
    convert_output: ByteSize = Field(
        ByteSize(40 * GIB),
        ge=MIB,
        description="Largest file that a conversion may write, and all that an archive may hold.",
    )
    convert_time: float = Field(
        3600.0, gt=0, description="Seconds that a conversion may take from start to end."
    )


class ConverterSettings(BaseSettings):
    """What converts files, besides what is built in and what plugins bring along."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", extra="ignore")

    converters: dict[str, ConverterCommand] = Field(
        {}, description="Commands that convert files, by the name of the format."
    )


class UpSettings(NodeSettings, ReaderSettings, WriterSettings, ConverterSettings):
    """``headrace up``: everything on one machine."""

    readers: int = Field(1, ge=1, le=99, description="Number of readers.")


class IngestSettings(NodeSettings, WriterSettings, ConverterSettings):
    """``headrace ingest``: the primary."""

    port: int = Field(8100, ge=0, le=65535, description="Private port to listen on.")
    metrics_port: int = Field(8200, ge=0, le=65535, description="Port of /metrics.")
    standby: bool = Field(
        False, description="Wait while another primary holds the lease, and take over after it."
    )


class ServeSettings(NodeSettings, ReaderSettings):
    """``headrace serve``: a reader."""

    metrics_port: int = Field(8201, ge=0, le=65535, description="Port of /metrics.")
    primary: str = Field("http://127.0.0.1:8100", description="URL of the primary.")
    region: str = Field("local", description="Region that this reader is in.")


Settings = TypeVar("Settings", bound=BaseSettings)


def load_settings(kind: type[Settings], flags: dict[str, Any]) -> Settings:
    """Build settings out of the flags that were given, the environment and the defaults.

    Raises:
        ConfigError: A value does not fit; says which.
    """
    try:
        return kind(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as exc:
        first = exc.errors()[0]
        why = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"].lower()
        raise ConfigError(f"cannot use {_setting(first['loc'])}: {why}") from exc
    except SettingsError as exc:
        raise ConfigError(f"cannot read the settings: {exc}") from exc


def _setting(place: tuple[int | str, ...]) -> str:
    """Name a setting as it is written."""
    name, *inner = map(str, place)
    if inner:  # of a table in the file
        return f"[{'.'.join([name, *inner[:1]])}] {'.'.join(inner[1:])}".rstrip()
    return f"--{name.replace('_', '-')} (HEADRACE_{name.upper()})"


def _read_config(nearer: dict[str, Any]) -> dict[str, Any]:
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
        return {}
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot read {path}: {exc}") from exc
    known = {
        name for kind in (UpSettings, IngestSettings, ServeSettings) for name in kind.model_fields
    }
    # The file decides on neither where it lies itself.
    for name in values:
        if name not in known - {"config", "data"}:
            raise ConfigError(f"cannot use {path}: {name!r} is no setting of it")
    return values


def options_of(kind: type[BaseSettings]) -> Callable[[Command], Command]:
    """Give a command one flag for every setting, so that both have one source."""

    def decorate(command: Command) -> Command:
        for name, field in reversed(kind.model_fields.items()):
            if field.annotation == SecretStr | None:
                continue  # secrets show in process lists: environment only
            if get_origin(field.annotation) is dict:
                continue  # tables of the file
            switch = field.annotation is bool
            default = "" if field.default is None else f"  [default: {_written(field.default)}]"
            command = click.option(
                f"--{name.replace('_', '-')}",
                name,
                type=click.Choice(["on", "off"]) if switch else None,
                default=None,
                help=f"{field.description}{default}",
            )(command)
        return command

    return decorate


def as_flags(settings: BaseSettings, names: list[str]) -> list[str]:
    """Give the flags that hand settings on to a child process."""
    values = {name: getattr(settings, name) for name in names}
    return [
        part
        for name, value in values.items()
        if value is not None
        for part in (f"--{name.replace('_', '-')}", _written(value))
    ]


def _written(value: Any) -> str:
    """Give a value as a flag has it."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


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


def find_or_make_secret(path: Path) -> str:
    """Read a secret from a file of mode 0600, or make one and write it there."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        secret = secrets.token_urlsafe(32)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
        return secret
