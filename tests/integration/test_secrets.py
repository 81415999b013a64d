"""What programs that an operator brings along can learn of the reader's secrets."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import aiohttp

from tests.integration.reader_kit import ORDERS, Publisher, Visitor, eventually, spawned_reader

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SECRETS = (
    "HEADRACE_TOKEN",
    "DATASETTE_SECRET",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "LITESTREAM_SECRET_ACCESS_KEY",
    "SERVICE_ACCOUNT",
    "FLY_API_TOKEN",
    "OTEL_EXPORTER_OTLP_HEADERS",
)

# Its own environment, and that of whatever else it can look at.
SPY = """
import os
from pathlib import Path
from datasette import hookimpl, Response

def look():
    found = {"own": str(dict(os.environ))}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found[pid] = Path(f"/proc/{pid}/environ").read_text(errors="replace")
        except OSError:
            pass
    return found

@hookimpl
def register_routes():
    return [(r"^/-/spy$", lambda: Response.json(look()))]
"""


async def test_plugins_and_hooks_find_no_secret_in_any_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in their own nor in that of the processes around them; what else is set is there."""
    value = secrets.token_hex(16)
    for name in SECRETS:
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PLUGIN_SETTING", "for plugins")
    hooked = tmp_path / "hooked"
    hook = f"env > {hooked}.part && mv {hooked}.part {hooked}"
    monkeypatch.setenv("HEADRACE_ON_GENERATION", hook)
    (tmp_path / "datasette" / "plugins").mkdir(parents=True)
    (tmp_path / "datasette" / "plugins" / "spy.py").write_text(SPY)
    publisher = Publisher(tmp_path)
    await publisher.publish({"sales": publisher.write("sales", *ORDERS)})
    async with (
        spawned_reader(
            tmp_path, prefix=_without_privileges(), datasette_dir=tmp_path / "datasette"
        ) as spawned,
        aiohttp.ClientSession() as session,
    ):
        reader = Visitor(spawned.url, spawned.metrics_url, session)
        await reader.wait_generation(1)
        found = await reader.json("/-/spy")
        await eventually(hooked.exists)

    assert "for plugins" in found.pop("own")
    assert any("for plugins" in text for text in found.values())  # some it can look at
    assert [name for name, text in found.items() if value in text] == []
    assert "for plugins" in hooked.read_text()
    assert value not in hooked.read_text()


def _without_privileges() -> tuple[str, ...]:
    """Give what takes root's right to look at everything from a command."""
    return ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
