"""What is said about a database, from an uploader to the pages of Datasette."""

from __future__ import annotations

import io
import sqlite3
import zipfile
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import wait_for
from tests.datasette_line import IS_1
from tests.e2e.conftest import System, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

FINDS = b"id,city,weight\n1,Ur,12.5\n2,Rome,3.0\n"
SAID: dict[str, Any] = {
    "title": "What was found",
    "description": "By <b>us</b>",
    "license": "CC BY 4.0",
    "license_url": "https://creativecommons.org/licenses/by/4.0/",
    "source": "The museum",
    "source_url": "https://museum.example/finds",
    "tables": {
        "finds": {
            "title": "Every find",
            "columns": {"weight": "as it came out of the ground"},
            "units": {"weight": "kg"},
            "sort": "city",
            "facets": ["city"],
        }
    },
    "queries": {
        "heavy": {
            "sql": "SELECT city FROM finds WHERE weight > :least",
            "title": "Heavy finds",
        }
    },
}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give one system whose operator has metadata of his own."""
    root = tmp_path_factory.mktemp("system")
    (root / "datasette").mkdir()
    (root / "datasette" / "metadata.json").write_text(
        '{"databases": {"governed": {"title": "By the operator"}}}'
    )
    flags = ("--workers", "1", "--datasette-dir", str(root / "datasette"))
    with running(root / "data", *flags) as system:
        yield system


def say(system: System, database: str, document: Any, method: str = "PATCH") -> httpx.Response:
    """Say something about a database."""
    path = f"/ingest/databases/{database}/metadata"
    return system.client.request(method, path, json=document, headers=system.auth)


def page(system: System, path: str, generation: int) -> str:
    """Read a page of a generation, or of a newer one."""
    wait_for(
        lambda: system.client.get("/-/headrace.json").json()["generation"] >= generation,
        timeout_s=20,
    )
    response = system.client.get(path, headers={"Accept": "text/html"})
    assert response.status_code == 200, response.text[:2000]
    return response.text


def read(system: System, database: str) -> Any:
    """Read what is said about a database."""
    path = f"/ingest/databases/{database}/metadata"
    return system.client.get(path, headers=system.auth).json()["metadata"]


def test_what_is_said_is_on_the_pages_and_a_rollback_takes_it_back(system: System) -> None:
    """Datasette shows it after the next switch; the generation before is there again at will."""
    first = system.upload(FINDS, "finds.csv")["generation"]
    answer = say(system, "finds", SAID)
    assert answer.status_code == 200, answer.text
    second = answer.json()["generation"]
    assert (first, second) == (1, 2)
    assert (second, answer.json()["warnings"]) == (first + 1, [])

    database = page(system, "/finds", second)
    assert "<h1>What was found" in " ".join(database.split()).replace("<h1> ", "<h1>")
    assert "By &lt;b&gt;us&lt;/b&gt;" in database
    assert 'href="https://creativecommons.org/licenses/by/4.0/">CC BY 4.0<' in database
    assert 'href="https://museum.example/finds"' in database
    assert "Heavy finds" in database
    table = page(system, "/finds/finds", second)
    assert "Every find" in table
    assert "as it came out of the ground" in table
    assert IS_1 or "12.5&nbsp;kg" in table  # 1.0 has no units
    assert table.index(">3.0") < table.index(">12.5")  # Rome, then Ur
    heavy = system.client.get("/finds/heavy.json", params={"least": 10, "_shape": "array"})
    assert heavy.json() == [{"city": "Ur"}]

    again = say(system, "finds", {"title": "What was found"}).json()
    assert (again["generation"], again["warnings"]) == (
        second,
        ["nothing changed: no new generation was published"],
    )
    third = say(system, "finds", {"title": None, "tables": {"finds": {"units": None}}}).json()
    assert "title" not in third["metadata"]
    assert third["metadata"]["tables"]["finds"]["columns"] == SAID["tables"]["finds"]["columns"]

    lineage = system.client.get("/-/headrace.json").json()["databases"]["finds"]
    back = system.client.post(f"/ingest/generations/{second}/rollback", headers=system.auth)
    assert back.json()["generation"] == third["generation"] + 1
    assert read(system, "finds") == SAID
    assert "What was found" in page(system, "/finds", back.json()["generation"])
    now = system.client.get("/-/headrace.json").json()["databases"]["finds"]
    assert now["txid"] == lineage["txid"]  # no row was copied for that
    system.client.post(f"/ingest/generations/{first}/rollback", headers=system.auth)
    assert read(system, "finds") == {}


def test_uploads_leave_what_is_said_and_a_deleted_table_takes_its_part(system: System) -> None:
    """New rows do not silence anybody; what was said about a table goes with the table."""
    system.upload(b"a\n1\n", "kept.csv")
    system.upload(b"b\n1\n", "more.csv", database="kept")
    said = {"title": "Kept", "tables": {"kept": {"size": 7}, "more": {"size": 8}}}
    assert say(system, "kept", said).status_code == 200
    system.upload(b"a\n1\n2\n", "kept.csv")
    assert read(system, "kept") == said
    rows = system.client.post("/kept/kept/-/insert", json={"row": {"a": 3}}, headers=system.auth)
    assert rows.status_code == 201, rows.text
    assert read(system, "kept") == said
    gone = system.client.delete("/ingest/databases/kept/more", headers=system.auth)
    assert gone.status_code == 200
    assert read(system, "kept") == {"title": "Kept", "tables": {"kept": {"size": 7}}}


def test_table_whose_sorted_column_is_gone_is_still_shown(system: System) -> None:
    """What was right when it was said never breaks a page later."""
    system.upload(b"a,b\n1,2\n", "later.csv")
    said = {"tables": {"later": {"sort": "b", "units": {"b": "m"}, "facets": ["b"]}}}
    assert say(system, "later", said).json()["warnings"] == []
    receipt = system.upload(b"a\nx\n", "later.csv", columns="a")
    assert "no such column" not in page(system, "/later/later", receipt["generation"])


def test_operator_has_the_last_word(system: System) -> None:
    """What stands in the operator's metadata file is shown, and the rest of what is said."""
    system.upload(FINDS, "governed.csv")
    said = {"title": "By the uploader", "license": "CC0"}
    shown = page(system, "/governed", say(system, "governed", said).json()["generation"])
    assert "By the operator" in shown
    assert "CC0" in shown
    assert "By the uploader" not in shown


UNSHOWABLE: list[tuple[Any, str]] = [
    ({"description_html": "<script>alert(1)</script>"}, "/description_html"),
    ({"queries": {"q": "SELECT nothing FROM finds"}}, "/queries/q"),
    ({"queries": {"finds": "SELECT 1"}}, "/queries/finds"),
]
if not IS_1:
    unit = {"tables": {"finds": {"units": {"weight": "blorps"}}}}
    UNSHOWABLE.append((unit, "/tables/finds/units/weight"))


@pytest.mark.parametrize(("document", "pointer"), UNSHOWABLE)
def test_what_cannot_be_shown_is_refused_and_nothing_changes(
    system: System, document: Any, pointer: str
) -> None:
    """A refusal points at what is wrong, and no generation is published."""
    system.upload(FINDS, "finds.csv")
    before = system.client.get("/ingest/generations", headers=system.auth).json()["generations"][0]
    answer = say(system, "finds", document)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-metadata")
    assert answer.json()["pointer"] == pointer
    after = system.client.get("/ingest/generations", headers=system.auth).json()["generations"][0]
    assert after["generation"] == before["generation"]


def test_change_of_metadata_needs_a_token_a_database_and_an_object(system: System) -> None:
    """Nobody without a right, and nothing that is no metadata, changes anything."""
    path = "/ingest/databases/finds/metadata"
    for method in ("PATCH", "PUT", "GET"):
        assert system.client.request(method, path, json={}).status_code == 401
    assert say(system, "nowhere", {}).json()["code"] == "not-found"
    scopes = {"scopes": ["ingest:other"]}
    made = system.client.post("/ingest/tokens", json=scopes, headers=system.auth).json()
    other = {"Authorization": f"Bearer {made['token']}"}
    for method in ("PATCH", "PUT", "GET"):
        answer = system.client.request(method, path, json={}, headers=other)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert say(system, "finds", ["title"]).json()["code"] == "invalid-metadata"
    headers = {**system.auth, "Content-Type": "text/csv"}
    assert system.client.patch(path, content="x", headers=headers).json()["code"] == "bad-request"
    large = system.client.patch(
        path, content=b" " * 300_000, headers={**system.auth, "Content-Type": "application/json"}
    )
    assert large.json()["code"] == "too-large"


def test_missing_columns_are_warnings(system: System) -> None:
    """What Datasette only does not show is said, and not refused."""
    system.upload(FINDS, "finds.csv")
    document = {
        "tables": {"finds": {"columns": {"colour": "x"}}, "other": {}},
        "queries": {"q": "SELECT jellyfish(city) FROM finds"},
    }
    warnings = say(system, "finds", document, "PUT").json()["warnings"]
    assert ["colour" in warnings[0], "other" in warnings[1], "plugin" in warnings[2]] == [True] * 3


def test_put_takes_the_file_that_datasette_takes(system: System) -> None:
    """A metadata.yaml of a whole instance is put as it is."""
    system.upload(FINDS, "finds.csv")
    text = "title: Server\ndatabases:\n  finds:\n    title: From a file\n"
    answer = system.client.put(
        "/ingest/databases/finds/metadata",
        content=text,
        headers={**system.auth, "Content-Type": "application/yaml"},
    )
    assert answer.json()["metadata"] == {"title": "From a file"}


def make_database(path: Path) -> bytes:
    """Make a SQLite file."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE birds (name TEXT)")
        db.execute("INSERT INTO birds VALUES ('heron')")
        db.commit()
    return path.read_bytes()


METADATA = """databases:
  birds:
    title: All birds
    queries:
      names: select name from birds
"""


def test_metadata_comes_with_a_sqlite_file_in_one_generation(
    system: System, tmp_path: Path
) -> None:
    """Rows and what is said about them are published together, and a wrong one stops both."""
    body = make_database(tmp_path / "birds.db")
    wrong = METADATA.replace("name from", "colour from")
    files: dict[str, Any] = {"file": ("birds.db", body), "metadata": ("metadata.yaml", wrong)}
    refused = system.client.post("/ingest", files=files, headers=system.auth)
    assert refused.json()["code"] == "invalid-metadata", refused.text
    assert "birds" not in system.client.get("/ingest").json()["databases"]

    files["metadata"] = ("metadata.yaml", METADATA)
    receipt = system.client.post("/ingest", files=files, headers=system.auth).json()
    assert receipt["metadata"]["title"] == "All birds"
    assert "All birds" in page(system, "/birds", receipt["generation"])
    again = system.client.post("/ingest", files=files, headers=system.auth).json()
    assert again["generation"] == receipt["generation"]
    files["metadata"] = ("metadata.yaml", "title: Other birds")
    changed = system.client.post("/ingest", files=files, headers=system.auth).json()
    assert changed["generation"] == receipt["generation"] + 1
    assert changed["txid"] == receipt["txid"]
    assert read(system, "birds") == {"title": "Other birds"}


def test_metadata_in_an_archive_is_about_what_lies_beside_it(system: System) -> None:
    """A zip with a metadata.yaml makes a database that is described, and no table of it."""

    def zipped(metadata: str) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            archive.writestr("shop/orders.csv", "a\n1\n")
            archive.writestr("shop/metadata.json", metadata)
        return made.getvalue()

    wrong = system.post(zipped('{"title": "Shop", "allow": false}'), "shop.zip")
    assert wrong.json()["code"] == "invalid-metadata"
    assert wrong.json()["pointer"] == "/allow"
    receipt = system.upload(zipped('{"title": "Our shop"}'), "shop.zip")
    assert [table["name"] for table in receipt["tables"]] == ["orders"]
    assert "Our shop" in page(system, "/shop", receipt["generation"])
    rows = system.upload(zipped('[{"n": 1}]'), "shop2.zip")
    assert [table["name"] for table in rows["tables"]] == ["orders", "metadata"]
