"""Opens obstore's client of a store, which waits and tries again as Headrace wants it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError

from headrace.errors import ConfigError
from headrace.store_reason import tell_reason

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

    from headrace.store_url import StoreUrl

# How obstore asks over the network. It tries again what may be a hiccup; whatever lasts longer is
# ours to see, and to say. Nothing but silence ends a large body (``stall_s``): it may take hours.
_CONNECT = "5s"
_WHOLE_BODY = "24h"
_RETRY: RetryConfig = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=5),
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1)},
}


def open_client(location: StoreUrl) -> ObjectStore:
    """Give the client; nothing is asked yet.

    Raises:
        ConfigError: It cannot be opened like this.
    """
    client: ClientConfig = {
        "allow_http": location.allow_http,
        "connect_timeout": _CONNECT,
        "timeout": _WHOLE_BODY,
        "default_headers": dict(location.headers),
    }
    try:
        if location.folder is not None:
            location.folder.mkdir(parents=True, exist_ok=True)
            return obstore.store.LocalStore(location.folder)
        return obstore.store.from_url(
            location.base, config=location.config, client_options=client, retry_config=_RETRY
        )
    except (BaseError, OSError, ValueError) as exc:
        raise ConfigError(f"cannot open the store {location.base}: {tell_reason(exc)}") from exc
