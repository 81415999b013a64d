"""Damaged files through the real converter's process: each is converted whole, or refused.

Every format of the registry that has files in ``seeds/<format>/`` takes part. In ``make test`` the
same few files are made each time; ``make fuzz FUZZ_SECONDS=…`` makes others, for as long.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import Refusal
from headrace.wishes import Wishes
from ingest.convert import convert
from ingest.converters import FORMATS, Conversion, Limits, find_ignored
from ingest.nursery import Nursery

SEEDS = Path(__file__).parent / "seeds"
SEEDED = [known.name for known in FORMATS if (SEEDS / known.name).is_dir()]
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0")) / max(1, len(SEEDED))  # of each format
EXAMPLES = int(SECONDS * 40) or 24  # about a minute in all
CRASHES = {"converter-crashed", "internal-error"}
MIB = 1024**2
LIMITS = Limits(memory_bytes=600 * MIB, cpu_s=20, output_bytes=64 * MIB, wall_s=30.0)
WISHES = (
    Wishes(),
    Wishes(on_bad_rows="quarantine", strict=True),
    Wishes(empty="null", header=False),
)
TOKENS = (
    b'"', b'""', b",", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"{", b"}", b"[",
    b"]", b"<", b">", b"&", b":", b"- ", b"---\n", b"'", b"\\", b"9" * 400, b"1e999",
    b"\xed\xa0\x80", b"\x1a", b"*a", b"&a ", b"\\ud800", b"-9223372036854775809", b"\t", b"NaN",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Take a seed, and cut, repeat, overwrite, or fill in a few places."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 200)))
        piece = draw(
            st.one_of(
                st.just(b""),
                st.sampled_from(TOKENS),
                st.binary(min_size=1, max_size=8),
                st.just(data[start:end] * 2),
                st.just(data[start:end] * 50),
                st.sampled_from(seeds).map(lambda seed: seed[: len(seed) // 2]),
            )
        )
        data = data[:start] + piece + data[end:]
    if draw(st.integers(0, 9)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    return data


@pytest.mark.timeout(SECONDS + 240)
@pytest.mark.parametrize("format_name", SEEDED)
def test_damaged_file_is_converted_whole_or_refused(format_name: str) -> None:
    """No file ends the converter's process otherwise, and none leaves a part of a table."""
    seeds = [path.read_bytes() for path in sorted((SEEDS / format_name).iterdir())]
    started_s = time.monotonic()

    @given(data=damaged(seeds), wishes=st.sampled_from(WISHES))
    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=SECONDS == 0,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    def convert_one(data: bytes, wishes: Wishes) -> None:
        if SECONDS and time.monotonic() - started_s > SECONDS:
            return
        with TemporaryDirectory(prefix="headrace-fuzz-") as folder:
            runner.run(_convert_or_refuse(Path(folder), data, format_name, wishes, nursery))

    with TemporaryDirectory(prefix="headrace-fuzz-") as scratch, asyncio.Runner() as runner:
        nursery = Nursery(Path(scratch))
        try:
            convert_one()
        finally:
            runner.run(nursery.close())
        assert list(Path(scratch).iterdir()) == []


async def _convert_or_refuse(
    folder: Path, data: bytes, format_name: str, wishes: Wishes, nursery: Nursery
) -> None:
    conversion = Conversion(
        input=folder / "in",
        output=folder / "out.db",
        format=format_name,
        table="t",
        filename="in",
        wishes=wishes,
    )
    conversion = replace(conversion, wishes=wishes.without(find_ignored(conversion)))
    conversion.input.write_bytes(data)
    try:
        converted = await convert(conversion, limits=LIMITS, nursery=nursery)
    except Refusal as refusal:
        assert refusal.code not in CRASHES, refusal.document()  # noqa: PT017 - one of many
        assert [path.name for path in folder.iterdir()] == ["in"]
        return
    with closing(sqlite3.connect(conversion.output)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for table in converted.tables:
            name = table.name.replace('"', '""')
            assert db.execute(f'SELECT count(*) FROM "{name}"').fetchone() == (table.rows,)
