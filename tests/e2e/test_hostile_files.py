"""Files made to do harm: refused with a code, within limits, and the service goes on as before."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ingest.converters.unpack import MAX_FILES
from tests.e2e.conftest import System, running
from tests.faults.processes import command_of, descendants

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024**2
GIB = 1024**3
MAX_INGEST_BYTES = 400 * MIB  # of memory that the service itself may ever have held


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give one system for all of them, with limits that are soon reached."""
    data = tmp_path_factory.mktemp("system") / "data"
    limits = ["--convert-memory", "1GiB", "--convert-output", "1GiB", "--convert-time", "60"]
    with running(data, "--max-upload", "3GiB", "--workers", "1", *limits) as system:
        yield system


def _zip(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def _tar_with_link() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        link = tarfile.TarInfo("passwords.csv")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return made.getvalue()


def _many_files() -> bytes:
    return _zip({f"{number}.csv": b"a\n1\n" for number in range(MAX_FILES + 1)})


def _gzip_bomb() -> bytes:
    made = io.BytesIO()
    with gzip.GzipFile(fileobj=made, mode="wb", compresslevel=6) as file:
        for _ in range(300):
            file.write(bytes(MIB))
    return made.getvalue()


def _billion_laughs() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines).encode()


def _deep_json() -> bytes:
    return b'[{"a": ' + b"[" * 500_000 + b"]" * 500_000 + b"}]"


def _long_field() -> Iterator[bytes]:
    """Give a CSV file with one row, whose one field has 2 GB, without ever holding it."""
    block = b"x" * MIB
    yield b'a,b\n1,"'
    for _ in range(2 * GIB // MIB):
        yield block
    yield b'"\n'


def _post(system: System, body: Any, filename: str) -> dict[str, Any]:
    """POST a file that must be refused; give the problem."""
    response = system.client.post(
        "/ingest",
        params={"filename": filename},
        content=body,
        headers={**system.auth, "Prefer": "wait=100"},
        timeout=110,
    )
    assert response.headers["Content-Type"].startswith("application/problem+json"), response.text
    problem: dict[str, Any] = response.json()
    return problem


def _check_unharmed(system: System) -> None:
    """Check that nothing is left of an upload, that memory was bounded, and that the next works."""
    primary = system.data / "primary"
    assert list((primary / "spool").iterdir()) == []
    assert list((primary / "staging").iterdir()) == []
    commands = [command_of(pid).split() for pid in descendants(system.process.pid)]
    # The one that is left is what they are forked from.
    assert len([words for words in commands if "ingest.converters" in words]) == 1
    (ingest,) = system.find("ingest")
    fields = dict(line.split(":", 1) for line in _read(ingest, "status").splitlines())
    assert int(fields["VmHWM"].split()[0]) * 1024 < MAX_INGEST_BYTES
    assert system.upload(b"a\n1\n", "fine.csv")["state"] == "published"


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.parametrize(
    ("make", "filename", "code", "limit"),
    [
        (_gzip_bomb, "bomb.csv.gz", "limit-exceeded", "ratio"),
        (lambda: _zip({"a.zip": _zip({"b.csv": b"a\n1\n"})}), "a.zip", "limit-exceeded", "nesting"),
        (_many_files, "many.zip", "limit-exceeded", "files"),
        (lambda: _zip({"../../token.csv": b"a\n1\n"}), "up.zip", "unsafe-archive", None),
        (_tar_with_link, "link.tar", "unsafe-archive", None),
        (lambda: _zip({"a.csv": b"a\n1\n" * 99})[:-30], "cut.zip", "invalid-file", None),
        (_billion_laughs, "laughs.yaml", "limit-exceeded", "aliases"),
        (_deep_json, "deep.json", "limit-exceeded", "depth"),
    ],
)
def test_hostile_file_is_refused_and_harms_nothing(
    system: System, make: Any, filename: str, code: str, limit: str | None
) -> None:
    """Each has its code and a receipt, and the next upload is published as always."""
    problem = _post(system, make(), filename)
    assert (problem["code"], problem.get("limit")) == (code, limit), json.dumps(problem)
    receipt = system.client.get(problem["instance"]).json()
    assert receipt["state"] == "failed"
    _check_unharmed(system)


def test_file_with_a_field_of_two_gigabytes_is_refused(system: System) -> None:
    """One value as large as memory ends its own conversion, and nothing else."""
    problem = _post(system, _long_field(), "long.csv")
    assert problem["code"] == "limit-exceeded", json.dumps(problem)
    assert problem["limit"] in {"memory", "value", "output"}
    _check_unharmed(system)
