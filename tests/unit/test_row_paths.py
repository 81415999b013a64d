"""The paths of the write API."""

from __future__ import annotations

import pytest

from headrace.row_paths import RowPath, RowVerb, find_row_path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/db/t/-/insert", RowPath(verb=RowVerb.INSERT, database="db", table="t")),
        ("/db/a+b~2Fc~25/-/upsert", RowPath(verb=RowVerb.UPSERT, database="db", table="a b/c%")),
        ("/db/-/create", RowPath(verb=RowVerb.CREATE, database="db")),
        ("/db/t/-/drop", RowPath(verb=RowVerb.DROP, database="db", table="t")),
        (
            "/db/t/1,a~2Cb/-/update",
            RowPath(verb=RowVerb.UPDATE, database="db", table="t", pks=("1", "a,b")),
        ),
        (
            "/-/upsert/db/t",
            RowPath(verb=RowVerb.UPSERT, database="db", table="t", older=True),
        ),
    ],
)
def test_find_row_path_of_the_write_api_is_read(path: str, expected: RowPath) -> None:
    """Each form gives what it writes to, with names decoded."""
    assert find_row_path(path) == expected


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/db", "/db/t", "/db/query", "/-/insert", "/-/insert/db", "/-/insert/db/t/x"),
        *("/db/t/-/alter", "/db/-/insert", "/db/t/1/-/insert", "/db/t/-/update", "/-/-/create"),
        *("/db/t/-/insert/", "/db/t/-/insertx", "//t/-/insert", "/db/-/execute-write"),
    ],
)
def test_find_row_path_of_anything_else_is_none(path: str) -> None:
    """Other paths of Datasette go to Datasette, also those that look alike."""
    assert find_row_path(path) is None
