"""What Fly tells a machine by its environment, as settings: below all that a person says.

Source: Fly's documentation: "The Machine Runtime Environment" of ``FLY_…``, "Tigris Global Object
Storage" of the secrets that ``fly storage create`` sets.
"""

from __future__ import annotations

import os

# The variable of each setting.
FLY_VARIABLES = {
    "region": "FLY_REGION",
    "machine": "FLY_MACHINE_ID",
    "address": "FLY_PRIVATE_IP",
    "store": "BUCKET_NAME",
}


def read_fly() -> dict[str, str]:
    """Give what is told, by the settings' names; nothing where it is not Fly.

    The bucket counts only with its endpoint beside it: other platforms have a ``BUCKET_NAME`` too,
    which may be of any kind of store.
    """
    told = {name: os.environ.get(variable, "") for name, variable in FLY_VARIABLES.items()}
    bucket = told.pop("store")
    if bucket and os.environ.get("AWS_ENDPOINT_URL_S3"):
        told["store"] = f"s3://{bucket}"
    return {name: value for name, value in told.items() if value}
