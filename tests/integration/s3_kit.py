"""A real S3 server for the tests: SeaweedFS, on ports that the kernel picks."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace.leash import leashed
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

# Each has two ports, one of them for gRPC.
_PARTS = ("s3", "master", "volume", "filer", "admin")
_OFF = ("master.telemetry=false", "admin.ui=false", "webdav=false")
_OFF_PORTS = ("s3.port.iceberg=0", "s3.port.lance=0")  # other protocols, on ports of their own
START_S = 30.0  # it takes one
# It rests at 200 MB. With a limit of 256 MiB it collected garbage all the time: a put took 12 ms of
# CPU instead of 2, and 35 ms instead of 4.
_MEMORY = {"GOMEMLIMIT": "1GiB"}

_PUT = (
    "curl -s -X PUT -o /dev/null -w %{http_code} --aws-sigv4 aws:amz:us-east-1:s3 "
    "-H x-amz-content-sha256:UNSIGNED-PAYLOAD --config -"
)

_CONFIG = """{"identities": [{"name": "test", "actions": ["Admin"],
  "credentials": [{"accessKey": "%s", "secretKey": "%s"}]}]}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """A running server.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        credentials: As S3 clients find them in their environment.
    """

    port: int
    credentials: dict[str, str]

    def give_credentials(self, patch: pytest.MonkeyPatch) -> None:
        """Put the credentials into this process's environment, and into that of what it starts."""
        for name, value in self.credentials.items():
            patch.setenv(name, value)

    def make_bucket(self) -> str:
        """Make an empty bucket; give its name."""
        name = f"test-{secrets.token_hex(4)}"
        assert self._create(name) == "200"
        return name

    def url(self, bucket: str, *, port: int | None = None) -> str:
        """Give the setting by which a bucket is found, at another port if something is between."""
        return f"s3://{bucket}/some/prefix?endpoint=http://127.0.0.1:{port or self.port}"

    def is_up(self) -> bool:
        """Tell whether it keeps what it is given."""
        return self._create("probe") in {"200", "409"}

    def _create(self, bucket: str) -> str:
        user = 'user = "{AWS_ACCESS_KEY_ID}:{AWS_SECRET_ACCESS_KEY}"'.format(**self.credentials)
        url = f"http://127.0.0.1:{self.port}/{bucket}"
        return subprocess.run(
            [*_PUT.split(), url],
            input=user,
            capture_output=True,
            text=True,
            check=False,
        ).stdout


@contextmanager
def s3_server(root: Path) -> Iterator[S3]:
    """Run SeaweedFS in a folder while the block runs."""
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
    config = root / "s3.json"
    config.write_text(_CONFIG % tuple(credentials.values()))
    names = [f"{part}.port{kind}" for part in _PARTS for kind in ("", ".grpc")]
    ports = {name: free_ports([0]) for name in names}
    flags = [f"{name}={port}" for name, port in ports.items()]
    flags += [f"dir={root / 'data'}", f"s3.config={config}", f"filer.localSocket={root / 'sock'}"]
    flags += ["ip=127.0.0.1", "ip.bind=127.0.0.1", *_OFF, *_OFF_PORTS]
    (root / "data").mkdir()
    weed = Path(sys.executable).with_name("weed")
    with (root / "out").open("wb") as out:
        process = subprocess.Popen(
            leashed(str(weed), "mini", *(f"-{flag}" for flag in flags)),
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=root,
            env={**os.environ, **_MEMORY},
        )
    try:
        server = S3(port=ports["s3.port"], credentials=credentials)
        deadline_s = time.monotonic() + START_S
        while not server.is_up():
            if process.poll() is not None or time.monotonic() > deadline_s:
                pytest.fail(f"the S3 server did not start: {(root / 'out').read_text()}")
            time.sleep(0.01)
        yield server
    finally:
        process.kill()  # its orderly end takes two seconds, and nothing is kept
        process.wait()
