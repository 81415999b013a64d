"""Rows of the write API, answered as Datasette answered the same requests."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import RowsError
from headrace.row_answers import answer_rows, error_document
from headrace.row_paths import find_row_path
from ingest.merge import count_tables
from ingest.rows.batch import apply_batch
from ingest.rows.parse import parse

RECORDED = json.loads(
    (Path(__file__).parents[1] / "data" / "datasette" / "answers.json").read_text()
)
URL = "http://localhost"


class Database:
    """A database that requests are applied to one by one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tables: dict[str, int] = {}

    def post(self, target: str, body: Any, query: dict[str, str] | None = None) -> tuple[int, Any]:
        """Apply a request in a batch of its own; give the status and the JSON of its answer."""
        path = find_row_path(target)
        assert path is not None
        text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
        try:
            write = parse(path, text.encode(), query=query or {}, url=URL, max_rows=1000)
        except RowsError as exc:
            return exc.status, error_document(exc.errors, exc.status)
        opened = apply_batch(self.path, [write], self.tables)
        with closing(opened):
            if opened.batch.written:
                opened.commit("receipt")
        self.tables = dict(opened.batch.tables)
        answer = opened.batch.answers[0]
        written = answer_rows(answer.document, status=answer.status)
        assert written.text is not None
        return answer.status, json.loads(written.text)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Give an empty database to the tests of a module, in their order."""
    return Database(tmp_path_factory.mktemp("rows") / "data.db")


CASES = [
    pytest.param(target, body, status, document, id=f"{number}-{target}")
    for number, (target, body, status, document) in enumerate(RECORDED["answers"])
    if not target.startswith("/elsewhere/")
]


@pytest.mark.parametrize(("target", "body", "status", "document"), CASES)
def test_request_is_answered_as_by_datasette(
    database: Database, target: str, body: Any, status: int, document: Any
) -> None:
    """Each documented option and error has Datasette's status and JSON, one after the other."""
    answered = database.post(target, body)
    assert answered[0] == status
    if document is not None:  # else it failed without JSON
        assert answered[1] == document
    if database.path.exists():
        assert count_tables(database.path) == database.tables


def test_rows_are_those_that_datasette_wrote(database: Database) -> None:
    """After all of these requests the tables hold the same."""
    for table, expected in RECORDED["tables"].items():
        with closing(sqlite3.connect(database.path)) as db:
            rows = db.execute(f'SELECT rowid, * FROM "{table}"').fetchall()
        found = [[each.hex() if isinstance(each, bytes) else each for each in row] for row in rows]
        assert _without_dates(found) == _without_dates(expected)


def _without_dates(rows: list[list[Any]]) -> list[list[Any]]:
    """Leave out the day on which the default of a column was worked out."""
    return [[each for each in row if not str(each).startswith("20")] for row in rows]
