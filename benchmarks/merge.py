"""Upload a million rows again with a few changed, and count the bytes that Litestream ships."""

from __future__ import annotations

import csv
import http.client
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.make_csv import HEADER, rows
from benchmarks.table import Result, Row
from headrace.ltx import decode_header, decode_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PORT = 18860
SEED = 7
GOAL_SHARE = 0.05  # of the first upload's bytes
GOAL_PAGES = 1.1  # times the pages that hold a changed row

Rows = list[tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reupload:
    """One way that a file changes between two uploads.

    Attributes:
        name: As the table says it.
        key: Whether the table has a primary key.
        change: Makes the new rows; gives the numbers (from 1) of those that changed.
        in_pages: Whether the goal is in pages, not in bytes.
    """

    name: str
    key: bool
    change: Callable[[Rows], list[int]]
    in_pages: bool = False


def run(folder: Path, *, rows_count: int) -> Result:
    """Measure, and give the table as Markdown."""
    lines = [
        f"## {rows_count:,} rows uploaded again",
        "",
        "Bytes and pages are those of Litestream's level-0 files.",
        "",
        (
            "| what changed | seconds | rows written | LTX bytes (first: 100 %) | pages "
            "| pages with a changed row | goal | reached |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    compared: list[Row] = []
    with _up(folder / "data") as token:
        for reupload in _reuploads(rows_count):
            database = f"bench{len(lines)}"
            line, row = _measure(folder, reupload, rows_count, database, token)
            print(line, file=sys.stderr)
            lines.append(line)
            compared.append(row)
    return Result(text="\n".join([*lines, ""]), rows=tuple(compared))


def _reuploads(count: int) -> list[Reupload]:
    one, tiny, more = count // 100, count // 10_000, count // 100
    return [
        Reupload(name="nothing", key=True, change=lambda _rows: []),
        Reupload(
            name="1 % in one run of rows", key=True, change=lambda rows: _run_of_rows(rows, one)
        ),
        Reupload(name="0.01 % at random", key=True, change=lambda rows: _at_random(rows, tiny)),
        Reupload(
            name="1 % appended at the end, with a key",
            key=True,
            change=lambda rows: _append(rows, more),
        ),
        Reupload(
            name="1 % appended at the end, no key",
            key=False,
            change=lambda rows: _append(rows, more),
        ),
        Reupload(
            name="1 % at random",
            key=True,
            change=lambda rows: _at_random(rows, one),
            in_pages=True,
        ),
    ]


def _measure(
    folder: Path, reupload: Reupload, count: int, database: str, token: str
) -> tuple[str, Row]:
    file = folder / "rows.csv"
    content = list(rows(count))
    key = "&pk=id" if reupload.key else ""
    _write(file, content)
    first, first_s = _post(file, f"database={database}&table=rows{key}", token)
    found = (folder / "data").glob(f"**/dbs/{database}/{first['lineage']}")
    (live,) = (path for path in found if path.is_file())
    where = _first_pages(live) if reupload.in_pages else {}
    first_bytes, _pages = _shipped(live, 0, int(first["txid"], 16))
    changed = reupload.change(content)
    _write(file, content)
    again, seconds = _post(file, f"database={database}&table=rows{key}", token)
    (table,) = again["tables"]
    size, pages = _shipped(live, int(first["txid"], 16), int(again["txid"], 16))
    written = table["added"] + table["changed"] + table["removed"]
    share = size / first_bytes
    if written != len(changed):
        raise SystemExit(f"{written} rows were written, {len(changed)} changed")
    if reupload.in_pages:
        oracle = len({where[number] for number in changed})
        goal, reached = f"{GOAL_PAGES} x {oracle:,} pages", pages <= GOAL_PAGES * oracle
        with_changed = f"{oracle:,} of {len(set(where.values())):,} (x {pages / oracle:.3f})"
    else:
        goal, reached, with_changed = f"under {GOAL_SHARE:.0%}", share < GOAL_SHARE, "-"
    row = Row(
        what=f"{count:,} rows uploaded again, changed: {reupload.name}",
        headrace=f"{pages:,} pages, {size / 1e6:.2f} MB of LTX",
        against=f"first upload {first_bytes / 1e6:.1f} MB: {share:.2%}"
        if not reupload.in_pages
        else f"pages with a changed row: {with_changed}",
        goal=goal,
        reached=reached,
    )
    line = (
        f"| {reupload.name} | {seconds:.2f} (first {first_s:.2f}) | {written:,} "
        f"| {size:,} ({share:.2%}) | {pages:,} | {with_changed} | {goal} "
        f"| {'yes' if reached else 'NO'} |"
    )
    return line, row


def _run_of_rows(content: Rows, count: int) -> list[int]:
    start = len(content) // 3
    return _change(content, list(range(start, start + count)))


def _at_random(content: Rows, count: int) -> list[int]:
    return _change(content, random.Random(SEED).sample(range(len(content)), count))  # noqa: S311


def _change(content: Rows, positions: list[int]) -> list[int]:
    """Give rows another quantity and price, as a day's corrections would."""
    noise = random.Random(SEED)  # noqa: S311 - made-up data
    for position in positions:
        row = list(content[position])
        row[6] = str((int(row[6]) + noise.randrange(1, 400)) % 500)
        row[7] = f"{noise.randrange(99, 250_000) / 100:.2f}"
        content[position] = tuple(row)
    return [position + 1 for position in positions]


def _append(content: Rows, count: int) -> list[int]:
    start = len(content)
    more = rows(count, seed=SEED)
    content += [(str(start + int(row[0])), *row[1:]) for row in more]
    return list(range(start + 1, start + count + 1))


def _first_pages(live: Path) -> dict[int, int]:
    """Give the page that each row is on, by its id; the table's pages are read in their order.

    The file is opened without locks: who closes a live database as the last one deletes its WAL,
    and Litestream, which may not have opened it yet, would ship all of it again.
    """
    page_of: dict[int, int] = {}
    with closing(sqlite3.connect(f"file:{live}?immutable=1", uri=True)) as db:
        leaves = db.execute(
            "SELECT pageno, ncell FROM dbstat WHERE name = 'rows' AND pagetype = 'leaf' "
            "ORDER BY path"
        )
        ids = (row[0] for row in db.execute("SELECT rowid FROM rows ORDER BY rowid"))
        for page, cells in leaves.fetchall():
            for _ in range(cells):
                page_of[next(ids)] = page
    return page_of


def _shipped(live: Path, after: int, until: int) -> tuple[int, int]:
    """Add up the bytes and the distinct pages of the level-0 files of some transactions."""
    folder = live.with_name(f".{live.name}-litestream") / "ltx" / "0"
    size, pages = 0, set()
    for txid in range(after + 1, until + 1):
        body = (folder / f"{txid:016x}-{txid:016x}.ltx").read_bytes()
        decode_header(body)
        size += len(body)
        pages |= {number for number, _page in decode_pages(body)}
    return size, len(pages)


def _write(path: Path, content: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(content)


def _post(file: Path, query: str, token: str) -> tuple[dict[str, Any], float]:
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=600"}
    headers["Content-Length"] = str(file.stat().st_size)
    started = time.perf_counter()
    with file.open("rb") as body:
        connection.request("POST", f"/ingest?{query}&filename=rows.csv", body, headers)
        response = connection.getresponse()
        receipt: dict[str, Any] = json.load(response)
    if response.status != 201:
        raise SystemExit(f"upload failed: {receipt}")
    print(json.dumps(receipt["timings_s"]), file=sys.stderr)
    return receipt, time.perf_counter() - started


@contextmanager
def _up(data: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "headrace", "up", "--data", str(data), "--port", str(PORT)]
    process = subprocess.Popen([*command, "--workers", "1"], stdout=subprocess.PIPE, text=True)
    assert process.stdout  # noqa: S101
    for line in process.stdout:
        if line.startswith("ready:"):
            break
    try:
        yield (data / "token").read_text().strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
