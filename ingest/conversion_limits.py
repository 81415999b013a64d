"""What a conversion may use, and what it may not read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ingest.converters import Limits

if TYPE_CHECKING:
    from headrace.config import IngestSettings
    from headrace.keys import PrimaryPaths

_TOKENS = ("token", "secret")


def conversion_limits(settings: IngestSettings, paths: PrimaryPaths) -> Limits:
    """Give them, by the settings."""
    return Limits(
        memory_bytes=settings.convert_memory,
        cpu_s=settings.convert_cpu,
        output_bytes=settings.convert_output,
        wall_s=settings.convert_time,
        hidden=_secrets(paths),
    )


def _secrets(paths: PrimaryPaths) -> tuple[str, ...]:
    """List what converters have no business to read: tokens, other uploads, live databases."""
    # `headrace up` keeps its own one folder above.
    tokens = (folder / name for folder in (paths.root, paths.root.parent) for name in _TOKENS)
    clouds = (Path.home() / name for name in (".aws", ".azure", ".config/gcloud"))
    return tuple(map(str, (paths.dbs, paths.spool, paths.staging, paths.tus, *tokens, *clouds)))
