"""Litestream and obstore on a real S3 server, told of it by one setting."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.reader_kit import ORDERS
from tests.integration.slots_kit import (
    ROWS,
    make_restorer,
    replicating,
    restore,
    with_checksum,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from tests.integration.s3_kit import S3


async def test_replica_that_litestream_writes_is_found_by_the_reader(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find the store by the same setting, and no process shows the credentials."""
    s3.give_credentials(monkeypatch)
    async with replicating(tmp_path, store_url=s3.url(s3.make_bucket())) as publisher:
        restorer = make_restorer(publisher)
        for rows, statements in ((500, (*ORDERS, ROWS)), (1000, (ROWS,))):
            cut = await publisher.write("sales", *statements)
            slot = await restore(restorer, with_checksum(publisher, "sales", cut))
            with closing(sqlite3.connect(slot)) as db:
                assert db.execute("SELECT count(*) FROM orders").fetchone() == (rows,)
        shown = "".join(command_lines())
        assert "litestream" in shown
        assert s3.credentials["AWS_SECRET_ACCESS_KEY"] not in shown


def command_lines() -> Iterator[str]:
    """Give what process lists show."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            yield path.read_bytes().decode(errors="replace")
