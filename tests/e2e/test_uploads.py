"""Uploads end to end: POST a file, read it in Datasette."""

from __future__ import annotations

import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.conftest import wait_for
from tests.datasette_line import query_path

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import System


def sqlite_bytes(path: Path, *statements: str) -> bytes:
    """Make a SQLite file and give its bytes."""
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("filename", "body", "path", "expected"),
    [
        ("people.csv", b"id,name\n1,Ada\n2,Grace\n", "/people/people", [(1, "Ada"), (2, "Grace")]),
        ("tabs.tsv", b"id\tname\n1\tAda\n", "/tabs/tabs", [(1, "Ada")]),
        ("list.json", b'[{"id": 1, "name": "Ada"}]', "/list/list", [(1, "Ada")]),
        ("lines.ndjson", b'{"id": 1, "name": "Ada"}\n' * 2, "/lines/lines", [(1, "Ada")] * 2),
        ("rows.yaml", b"- id: 1\n  name: Ada\n", "/rows/rows", [(1, "Ada")]),
    ],
)
def test_upload_of_a_text_format_is_read_back(
    system: System, filename: str, body: bytes, path: str, expected: list[tuple[int, str]]
) -> None:
    """Each text format goes in by one POST and comes out over Datasette's JSON API."""
    receipt = system.upload(body, filename)
    assert receipt["state"] == "published"
    assert receipt["url"] == path
    system.wait_until_live(receipt)
    assert [(row["id"], row["name"]) for row in system.rows(path)] == expected


def test_upload_of_markdown_is_read_back(system: System) -> None:
    """A Markdown file becomes a row: its front matter as columns, and its text."""
    receipt = system.upload(b"---\ntitle: Hello\ndate: 2026-01-02\n---\n# Hi\n", "post.md")
    system.wait_until_live(receipt)
    (row,) = system.rows("/post/post")
    assert row["title"] == "Hello"
    assert row["date"] == "2026-01-02"
    assert "# Hi" in json.dumps(row)


def test_upload_of_sqlite_keeps_every_table(system: System, tmp_path: Path) -> None:
    """A SQLite file is published whole: tables, views and all."""
    body = sqlite_bytes(
        tmp_path / "shop.db",
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, total REAL)",
        "CREATE TABLE items (name TEXT)",
        "CREATE VIEW big AS SELECT * FROM orders WHERE total > 10",
        "INSERT INTO orders VALUES (1, 9.5), (2, 12.25)",
        "INSERT INTO items VALUES ('tea')",
    )
    receipt = system.upload(body, "shop.db")
    assert {table["name"]: table["rows"] for table in receipt["tables"]} == {
        "orders": 2,
        "items": 1,
    }
    system.wait_until_live(receipt)
    assert [row["total"] for row in system.rows("/shop/orders")] == [9.5, 12.25]
    assert [row["id"] for row in system.rows("/shop/big")] == [2]


def test_text_that_looks_like_a_number_is_read_as_it_was_written(system: System) -> None:
    """Also of a file that was on its way before there was a column of texts for it."""
    first, *others = (
        system.post(
            body,
            "texts.csv",
            mode="append",
            table="versions",
            headers={"Prefer": "respond-async"},
        )
        for body in (b"v\n1.2.3\n", b"v\n1.10\n", b"v\n2.50\n")
    )
    assert first.status_code == 202
    last = others[-1].headers["Location"]  # merges keep the order of arrival
    receipt = wait_for(
        lambda: (
            (found := system.client.get(last, headers=system.auth).json())["state"] == "published"
            and found
        )
    )
    system.wait_until_live(receipt)
    assert [row["v"] for row in system.rows("/texts/versions")] == ["1.2.3", "1.10", "2.50"]


def test_second_upload_of_a_table_shows_new_rows_and_fails_no_read(system: System) -> None:
    """A table is replaced under a loop of reads; each read gets the old or the new rows, whole."""
    receipt = system.upload(b"n\n" + b"0\n" * 50, "loop.csv")
    system.wait_until_live(receipt)
    answers: list[tuple[int, str]] = []
    done = threading.Event()

    def read() -> None:
        with httpx.Client(base_url=system.url) as client:
            while not done.is_set():
                response = client.get("/loop/loop.json?_shape=array&_size=max")
                answers.append((response.status_code, response.text))

    readers = [threading.Thread(target=read) for _number in range(4)]
    for reader in readers:
        reader.start()
    try:
        for value in range(1, 6):
            receipt = system.upload(b"n\n" + b"%d\n" % value * 50, "loop.csv")
            system.wait_until_live(receipt)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert {status for status, _text in answers} == {200}
    seen = [tuple({row["n"] for row in json.loads(text)}) for _status, text in answers]
    assert all(len(values) == 1 for values in seen), "a read saw half of a file"
    assert {values[0] for values in seen} == set(range(6))
    assert {row["n"] for row in system.rows("/loop/loop")} == {5}


def test_append_adds_rows_and_columns(system: System) -> None:
    """mode=append adds rows by column name, and columns that are new."""
    system.upload(b"id,name\n1,Ada\n", "grow.csv")
    receipt = system.upload(b"name,id,born\nGrace,2,1906\n", "grow.csv", mode="append")
    assert any("born" in warning for warning in receipt["warnings"])
    system.wait_until_live(receipt)
    rows = [(row["id"], row["name"], row["born"]) for row in system.rows("/grow/grow")]
    assert rows == [(1, "Ada", None), (2, "Grace", 1906)]


def test_append_of_text_to_numbers_widens_the_column(system: System) -> None:
    """Text would be changed in silence in a numeric column: it becomes text, and that is said."""
    system.upload(b"zip\n1\n2\n", "zips.csv")
    receipt = system.upload(b"zip\n007\n", "zips.csv", mode="append")
    assert any("'zip' was INTEGER and is TEXT now" in each for each in receipt["warnings"])
    system.wait_until_live(receipt)
    assert [row["zip"] for row in system.rows("/zips/zips")] == ["1", "2", "007"]


def test_reupload_is_merged_as_the_rows_that_differ(system: System) -> None:
    """The receipt counts what was added, changed and removed; an upsert needs a key."""
    system.upload(b"id,name\n1,Ada\n2,Grace\n", "people.csv")
    receipt = system.upload(b"id,name\n1,Ada\n2,Hopper\n3,Jean\n", "people.csv")
    assert receipt["tables"] == [
        {"name": "people", "rows": 3, "added": 1, "changed": 1, "removed": 0, "unchanged": 1}
    ]
    refused = system.post(b"id,name\n3,Joan\n", "people.csv", mode="upsert")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid-option")
    receipt = system.upload(b"id,name\n3,Joan\n4,Mary\n", "people.csv", mode="upsert", pk="id")
    assert receipt["tables"] == [
        {"name": "people", "rows": 2, "added": 1, "changed": 1, "removed": 0, "unchanged": 2}
    ]
    system.wait_until_live(receipt)
    rows = [(row["id"], row["name"]) for row in system.rows("/people/people")]
    assert rows == [(1, "Ada"), (2, "Hopper"), (3, "Joan"), (4, "Mary")]


def test_column_that_a_file_lacks_is_null_until_the_columns_are_named(system: System) -> None:
    """A replaced table keeps the column, with a warning; ``columns`` says which there shall be."""
    system.upload(b"id,name,born\n1,Ada,1815\n", "lacks.csv")
    receipts = [system.upload(b"id,born\n1,1815\n", "lacks.csv") for _ in range(2)]
    assert [len(set(each["warnings"])) for each in receipts] == [1, 2]
    assert all("no column 'name': NULL there" in each["warnings"][0] for each in receipts)
    assert receipts[0]["generation"] == receipts[1]["generation"]
    system.wait_until_live(receipts[1])
    assert [row["name"] for row in system.rows("/lacks/lacks")] == [None]
    receipt = system.upload(b"id,born\n1,1815\n", "lacks.csv", columns="id,born")
    system.wait_until_live(receipt)
    assert "name" not in system.rows("/lacks/lacks")[0]


@pytest.mark.parametrize("kind", ["csv", "db"])
def test_identical_file_makes_no_new_generation(system: System, tmp_path: Path, kind: str) -> None:
    """Nothing is written and nothing published; the receipt names the generation that shows it."""
    body = b"a,b\n1,x\n2,y\n"
    if kind == "db":
        body = sqlite_bytes(
            tmp_path / "s.db", "CREATE TABLE s (a)", "INSERT INTO s VALUES (1), (2)"
        )
    first = system.upload(body, f"same_{kind}.{kind}")
    again = system.upload(body, f"same_{kind}.{kind}", wait_for="regions")
    assert again["state"] == "published"
    for member in ("generation", "lineage", "txid", "url"):
        assert again[member] == first[member]
    assert [table["unchanged"] for table in again["tables"]] == [2]
    assert any("nothing changed" in warning for warning in again["warnings"])
    assert again["created_at"] <= again["published_at"]
    assert again["live"]


def test_create_of_a_table_that_exists_is_a_conflict(system: System) -> None:
    """mode=create never touches a table that is there."""
    system.upload(b"a\n1\n", "made.csv", mode="create")
    response = system.post(b"a\n2\n", "made.csv", mode="create")
    assert response.status_code == 409
    assert response.json()["code"] == "table-exists"


def test_form_with_two_files_gives_two_receipts(system: System) -> None:
    """A form takes several files, with its options before or after them."""
    files = [("file", ("one.csv", b"a\n1\n")), ("file", ("two.csv", b"a\n2\n"))]
    response = system.client.post(
        "/ingest", files=files, data={"database": "both"}, headers=system.auth
    )
    assert response.status_code == 201, response.text
    receipts = response.json()["receipts"]
    assert [receipt["url"] for receipt in receipts] == ["/both/one", "/both/two"]
    system.wait_until_live(receipts[1])
    assert system.rows("/both/one")[0]["a"] == 1
    assert system.rows("/both/two")[0]["a"] == 2


def test_respond_async_answers_202_and_a_receipt_to_follow(system: System) -> None:
    """Prefer: respond-async answers at once; the receipt tells how it went on."""
    response = system.post(b"a\n1\n", "later.csv", headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    location = response.headers["Location"]
    receipt = wait_for(
        lambda: next(
            (r for r in [system.client.get(location).json()] if r["state"] == "published"), None
        )
    )
    assert receipt["url"] == "/later/later"
    listed = system.client.get("/ingest/receipts", headers=system.auth).json()["receipts"]
    assert receipt["id"] in [each["id"] for each in listed]


def test_uploads_at_once_to_one_table_all_count(system: System) -> None:
    """Uploads for one table at the same time are merged one after another; none is lost."""
    system.upload(b"n\n0\n", "busy.csv")

    def append(number: int) -> dict[str, Any]:
        return system.upload(b"n\n%d\n" % number, "busy.csv", mode="append")

    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(append, range(1, 17)))
    newest = max(receipts, key=lambda receipt: receipt["generation"])
    assert len({receipt["generation"] for receipt in receipts}) == 16
    system.wait_until_live(newest)
    assert sorted(row["n"] for row in system.rows("/busy/busy")) == list(range(17))


def test_delete_of_a_table_and_of_a_database_unpublishes_them(system: System) -> None:
    """Deleting publishes a generation without the table, then without the database."""
    system.upload(b"a\n1\n", "gone.csv")
    system.upload(b"a\n1\n", "kept.csv", database="gone")
    answer = system.client.delete("/ingest/databases/gone/gone", headers=system.auth)
    assert answer.status_code == 200
    system.wait_until_live(answer.json())
    assert system.client.get("/gone/gone.json").status_code == 404
    assert system.rows("/gone/kept")[0]["a"] == 1
    answer = system.client.delete("/ingest/databases/gone", headers=system.auth)
    system.wait_until_live(answer.json())
    assert system.client.get("/gone.json").status_code == 404
    again = system.client.delete("/ingest/databases/gone", headers=system.auth)
    assert again.status_code == 404


def test_deleted_database_can_be_uploaded_again(system: System) -> None:
    """A name that was deleted is free for a new lineage."""
    first = system.upload(b"a\n1\n", "again.csv")
    system.client.delete("/ingest/databases/again", headers=system.auth)
    second = system.upload(b"a\n2\n", "again.csv")
    assert second["lineage"] != first["lineage"]
    system.wait_until_live(second)
    assert system.rows("/again/again")[0]["a"] == 2


def test_strange_column_names_are_loaded(system: System) -> None:
    """Quotes, spaces and emoji stay; brackets, empty and double names are changed, and said."""
    header = 'a b,"q""x",[y],🚀,dup,dup,\n'.encode()
    receipt = system.upload(header + b"1,2,3,4,5,6,7\n", "strange.csv")
    assert len(receipt["warnings"]) == 3
    system.wait_until_live(receipt)
    (row,) = system.rows("/strange/strange")
    row.pop("rowid")
    assert list(row.values()) == [1, 2, 3, 4, 5, 6, 7]
    assert list(row)[:5] == ["a b", 'q"x', "(y)", "🚀", "dup"]


def test_brackets_in_table_names_harm_nobody(system: System, tmp_path: Path) -> None:
    """Datasette cannot name a table with a bracket, so it is renamed: asked for, or in a file."""
    receipt = system.upload(b"a\n1\n", "x.csv", database="brackets", table="a[b]c")
    assert receipt["url"] == "/brackets/a~28b~29c"
    body = sqlite_bytes(tmp_path / "b.db", 'CREATE TABLE "x]" (a)', 'INSERT INTO "x]" VALUES (5)')
    second = system.upload(body, "bracketfile.db")
    assert len(second["warnings"]) == 1
    system.wait_until_live(second)
    assert system.rows(receipt["url"])[0]["a"] == 1
    assert system.rows(second["url"])[0]["a"] == 5


def test_two_thousand_columns_are_loaded(system: System) -> None:
    """SQLite's own limit of columns is ours."""
    names = ",".join(f"c{n}" for n in range(2000)).encode()
    values = ",".join(str(n) for n in range(2000)).encode()
    receipt = system.upload(names + b"\n" + values + b"\n", "wide.csv")
    system.wait_until_live(receipt)
    params = {"sql": "SELECT c0, c1999 FROM wide", "_shape": "array"}
    response = system.client.get(query_path("wide"), params=params)
    assert response.json() == [{"c0": 0, "c1999": 1999}]


def test_metadata_says_where_a_database_came_from(system: System) -> None:
    """Datasette's own page of a database names the file and when it was updated."""
    receipt = system.upload(b"a\n1\n", "origin.csv")
    system.wait_until_live(receipt)
    page = system.client.get("/origin").text
    assert "origin.csv" in page
    assert receipt["sha256"][:8] in page
    assert "_litestream" not in page
    assert "_headrace" not in page
    assert "published" in system.client.get("/").text.lower()


def test_hostile_file_name_is_only_text(system: System) -> None:
    """HTML in a file name is shown as text."""
    receipt = system.upload(b"a\n1\n", "<script>alert(1)</script>.csv", database="html", table="t")
    system.wait_until_live(receipt)
    assert "<script>alert(1)" not in system.client.get("/html").text
