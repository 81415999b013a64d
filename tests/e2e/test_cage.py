"""A program that converts uploads, and tries to learn the service's secrets meanwhile."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

from tests.e2e.conftest import running

if TYPE_CHECKING:
    from pathlib import Path

# What it finds of secrets becomes rows: as a hostile file would have it, that found a way in.
SPY = """
import os, socket, sqlite3, sys
from pathlib import Path
_, source, output, data, port, secret = sys.argv
found = {"environ": str(dict(os.environ))}
def attempt(name, act):
    try:
        found[name] = str(act())
    except OSError as exc:
        found[name] = type(exc).__name__
for pid in filter(str.isdigit, os.listdir("/proc")):
    attempt(pid, lambda: Path(f"/proc/{pid}/environ").read_text(errors="replace"))
for path in (Path(data) / "token", Path(data) / "secret"):
    attempt(path.name, path.read_bytes)
journal = Path(data) / "primary" / "dbs" / "_headrace"
attempt("journal", lambda: next(path for path in journal.iterdir() if path.is_file()).read_bytes())
attempt("connect", lambda: socket.create_connection(("127.0.0.1", int(port)), 5))
db = sqlite3.connect(output)
db.execute("CREATE TABLE t (name TEXT, leaked INTEGER, found TEXT)")
for name, value in found.items():
    kept = "" if name.isdigit() else value[:99]
    db.execute("INSERT INTO t VALUES (?, ?, ?)", (name, secret in value, kept))
db.commit()
"""


def test_converter_that_spies_finds_no_secret_and_no_server(tmp_path: Path) -> None:
    """Neither environment, files of the service nor servers of its machine can be reached."""
    (tmp_path / "spy.py").write_text(SPY)
    data = tmp_path / "data"
    config = tmp_path / "headrace.toml"
    value = "kept-from-all"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        config.write_text(
            f"""[converters.spy]
match = "*.spy"
command = "{sys.executable} {tmp_path}/spy.py {{input}} {{output}} {data} {port} kept-from"
"""
        )
        flags = ("--config", str(config), "--workers", "1")
        with running(data, *flags, HEADRACE_TOKEN=value, AWS_SECRET_ACCESS_KEY=value) as system:
            receipt = system.upload(b"anything", "x.spy")
            system.wait_until_live(receipt)
            rows = {row["name"]: row for row in system.rows("/x/t")}
    assert not [name for name, row in rows.items() if row["leaked"]]
    assert rows["connect"]["found"] == "PermissionError"
    refused = {rows[name]["found"] for name in ("secret", "journal")}
    assert refused == {"PermissionError"}
