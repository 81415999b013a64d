"""What a file would become, asked by its first megabyte, as the upload page does."""

from __future__ import annotations

import http.client
import json
import statistics
import time
from typing import TYPE_CHECKING

from benchmarks.make_csv import make_csv
from benchmarks.table import Result, Row
from benchmarks.upload import PORT, _up

if TYPE_CHECKING:
    from pathlib import Path

HEAD_BYTES = 1024**2
ROUNDS = 20
APART_S = 1.0  # people look at one before they drop the next
GOAL_S = 0.3


def run(folder: Path) -> Result:
    """Measure, and give the table as Markdown."""
    csv = folder / "rows.csv"
    make_csv(csv, 20_000)
    head = csv.read_bytes()[:HEAD_BYTES]
    with _up(folder / "data") as (token, _processes):
        _preview(head, token)  # the first one of a process loads what it needs
        apart = []
        for _ in range(ROUNDS):
            time.sleep(APART_S)
            apart.append(_preview(head, token))
        at_once = [_preview(head, token) for _ in range(ROUNDS)]
    median_s = statistics.median(apart)
    lines = [
        "## Preview of the first megabyte of a CSV",
        "",
        f"Through a reader, until the answer is there; {ROUNDS} of each.",
        "",
        "| what | median | least | most |",
        "|---|---|---|---|",
        *(
            f"| {name} | {statistics.median(each):.3f} s | {min(each):.3f} s | {max(each):.3f} s |"
            for name, each in ((f"{APART_S:.0f} s apart", apart), ("one after another", at_once))
        ),
    ]
    row = Row(
        what="preview of 1 MB of CSV",
        headrace=f"{median_s:.3f} s",
        against=f"limit {GOAL_S} s",
        goal="under the limit",
        reached=median_s < GOAL_S,
    )
    return Result(text="\n".join([*lines, ""]), rows=(row,))


def _preview(head: bytes, token: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    started = time.perf_counter()
    headers = {"Authorization": f"Bearer {token}"}
    connection.request("POST", "/ingest/preview?filename=rows.csv", head, headers)
    response = connection.getresponse()
    answer = json.load(response)
    seconds = time.perf_counter() - started
    if response.status != http.HTTPStatus.OK or not answer["previewable"]:
        raise SystemExit(f"no preview: {answer}")
    return seconds
