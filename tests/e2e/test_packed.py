"""Packed files, from POST to the pages of a reader; and how far a conversion is, meanwhile."""

from __future__ import annotations

import gzip
import io
import time
import zipfile
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import wait_for
from tests.e2e.conftest import System, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give one system that takes larger files."""
    with running(tmp_path_factory.mktemp("system") / "data", "--workers", "1") as system:
        yield system


def _zip(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def test_upload_of_archive_is_read_as_its_tables(system: System) -> None:
    """Each file of an archive is a page of its own; the receipt says what was inside."""
    body = _zip({"orders.csv": b"a\n1\n", "people.json": b'[{"n": "x"}]'})
    receipt = system.upload(body, "shop.zip")
    system.wait_until_live(receipt)
    assert (receipt["database"], receipt["format"]) == ("shop", "csv+json.zip")
    assert system.rows("/shop/orders")[0]["a"] == 1
    assert system.rows("/shop/people")[0]["n"] == "x"


def test_upload_of_archive_into_one_table_is_one_table(system: System) -> None:
    """With ?table= all files of an archive are read as one table."""
    body = _zip({"1.csv": b"a\n1\n", "2.csv": b"a,b\n2,x\n"})
    receipt = system.upload(body, "parts.zip", table="all")
    system.wait_until_live(receipt)
    assert [(table["name"], table["rows"]) for table in receipt["tables"]] == [("all", 2)]
    assert [row["b"] for row in system.rows("/parts/all")] == [None, "x"]


def test_upload_of_compressed_file_is_named_as_what_it_holds(system: System) -> None:
    """A compressed file makes the database and the table that it would make unpacked."""
    receipt = system.upload(gzip.compress(b"a\n1\n"), "shops.csv.gz")
    system.wait_until_live(receipt)
    assert (receipt["url"], receipt["format"]) == ("/shops/shops", "csv.gz")


def test_receipt_shows_progress_while_it_converts(system: System) -> None:
    """A receipt that is read again and again has new numbers at least twice a second."""
    row = b"12345,some text that is a little longer,9.5\n"
    body = b"a,b,c\n" + row * 2_500_000
    response = system.post(body, "large.csv", headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    seen: list[tuple[float, dict[str, Any]]] = []

    def look() -> bool:
        receipt = system.client.get(response.headers["Location"]).json()
        if receipt["progress"] is not None and (not seen or seen[-1][1] != receipt["progress"]):
            seen.append((time.monotonic(), receipt["progress"]))
        return receipt["state"] in {"published", "failed"}

    wait_for(look, timeout_s=60)
    steps = [progress["step"] for _, progress in seen]
    assert [step for step, _ in groupby(steps)] in (
        ["read", "merge"],
        ["look", "read", "merge"],
        ["read", "look", "read", "merge"],
    )
    read = [progress for _, progress in seen if progress["step"] == "read"]
    assert all(progress["of_bytes"] == len(body) for progress in read)
    assert len({progress["bytes"] for progress in read}) >= 3
    merged = [progress for _, progress in seen if progress["step"] == "merge"]
    assert {(progress["rows"], progress["of_bytes"]) for progress in merged} == {(2_500_000, None)}
    final = system.client.get(response.headers["Location"]).json()
    assert (final["state"], final["progress"]) == ("published", None)
