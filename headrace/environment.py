"""Which variables are secrets, and the environment of programs that have no business to know them.

What is left out: Headrace's own tokens, what object stores are opened with, and the like. Whatever
else the operator sets stays, because plugins are configured that way (Datasette's
``{"$env": "NAME"}``).

Source: the variables that obstore reads (object_store, ``AmazonS3Builder::from_env`` and those of
Google and Azure), that Litestream 0.5 reads besides (its ``cmd/litestream/main.go``, and Azure's
``azidentity``), Fly's token, and OpenTelemetry's.
"""

from __future__ import annotations

import os

# Headrace's own; no other program gets them, Litestream neither.
OWN_SECRETS = frozenset({"HEADRACE_TOKEN", "DATASETTE_SECRET"})

_OTHER_SECRETS = frozenset(
    {
        "SERVICE_ACCOUNT",  # Google's, for obstore
        "IDENTITY_ENDPOINT",  # Azure's managed identity, these four
        "IDENTITY_HEADER",
        "MSI_ENDPOINT",
        "MSI_SECRET",
        "FLY_API_TOKEN",
        "OTEL_EXPORTER_OTLP_HEADERS",  # tokens of who receives traces
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    }
)
_STORE_PARTS = ("AWS_", "AZURE_", "CLOUDSDK_", "GOOGLE_", "LITESTREAM_")


def without_secrets() -> dict[str, str]:
    """Give this process's environment without any secret: for what users bring along."""
    return {name: value for name, value in os.environ.items() if not _is_secret(name)}


def _is_secret(name: str) -> bool:
    return name in OWN_SECRETS | _OTHER_SECRETS or name.startswith(_STORE_PARTS)
