"""What Datasette is told about a generation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.errors import WorkerError
from headrace.generation import Cut, Source, State
from serve.metadata import assemble_metadata, describe_database


def build_metadata(state: State, user: Any) -> dict[str, Any]:
    """Give the metadata of a whole generation."""
    sections = assemble_metadata(user, state, {})["databases"]
    described = {
        name: describe_database(sections.get(name) or {}, name, cut)
        for name, cut in state.databases.items()
    }
    return assemble_metadata(user, state, described)


def make_state(filename: str | None = "orders.csv") -> State:
    """Give generation 42 with the database `sales`."""
    cut = Cut(
        lineage="00000000000000aa",
        txid=10,
        page_size=4096,
        pages=3,
        tables={"orders": 2},
        updated_at=datetime(2026, 11, 22, 1, 33, 39, tzinfo=UTC),
        source=Source(filename=filename, sha256="ab12" * 16) if filename else None,
    )
    return State(
        number=42,
        epoch=1,
        created_at=datetime(2026, 11, 22, 1, 33, 40, tzinfo=UTC),
        databases={"sales": cut},
    )


def test_metadata_of_a_database_says_where_it_came_from_and_when() -> None:
    """A reader of a page learns which file it shows, which bytes, and how fresh they are."""
    sales = build_metadata(make_state(), {})["databases"]["sales"]

    assert sales["source"] == "orders.csv"
    assert sales["description"] == (
        "Updated 2026-11-22 01:33:39 UTC from orders.csv (SHA-256 ab12ab12ab12…)."
    )


def test_metadata_of_a_database_without_source_says_when() -> None:
    """A database whose table was deleted has no file to name, and says so by naming none."""
    sales = build_metadata(make_state(filename=None), {})["databases"]["sales"]

    assert "source" not in sales
    assert sales["description"] == "Updated 2026-11-22 01:33:39 UTC."


def test_metadata_of_the_instance_says_when_it_was_published() -> None:
    """The first page says how fresh all of it is."""
    metadata = build_metadata(make_state(), {})

    assert metadata["description"] == "Generation 42, published 2026-11-22 01:33:40 UTC."


def test_metadata_of_the_empty_generation_says_that_nothing_is_published() -> None:
    """An empty reader is told from a broken one."""
    assert build_metadata(State(), {})["description"] == "Nothing has been published yet."


@pytest.mark.parametrize("key", ["description", "description_html"])
def test_metadata_the_user_wrote_wins(key: str) -> None:
    """What the user says about the instance or a database is not overwritten."""
    user = {"title": "Ours", key: "mine", "databases": {"sales": {key: "my own"}}}

    metadata = build_metadata(make_state(), user)

    assert metadata["title"] == "Ours"
    assert metadata[key] == "mine"
    assert metadata["databases"]["sales"][key] == "my own"
    others = {"description", "description_html"} - {key}
    assert not others & (metadata.keys() | metadata["databases"]["sales"].keys())


def test_metadata_the_user_wrote_about_other_things_stays() -> None:
    """Other databases, tables and plugins are kept, and the document is not changed."""
    user: dict[str, Any] = {
        "plugins": {"p": {"a": 1}},
        "databases": {
            "own": {"title": "x"},
            "sales": {"source_url": "https://example.com", "tables": {"orders": {"size": 5}}},
        },
    }

    metadata = build_metadata(make_state(), user)

    assert metadata["plugins"] == {"p": {"a": 1}}
    assert metadata["databases"]["own"] == {"title": "x"}
    assert metadata["databases"]["sales"]["tables"]["orders"] == {"size": 5}
    assert "source" not in metadata["databases"]["sales"]
    assert "description" not in user
    assert user["databases"]["sales"].keys() == {"source_url", "tables"}


def test_metadata_hides_internal_tables() -> None:
    """Litestream's and Headrace's own tables are not shown, unless the user wants to."""
    user = {"databases": {"sales": {"tables": {"_headrace_merges": {"hidden": False}}}}}

    tables = build_metadata(make_state(), user)["databases"]["sales"]["tables"]

    assert tables["_litestream_seq"] == {"hidden": True}
    assert tables["_litestream_lock"] == {"hidden": True}
    assert tables["_headrace_merges"] == {"hidden": False}


def test_metadata_of_a_hostile_file_name_is_text_on_one_line() -> None:
    """A file name cannot break out of its sentence, nor turn the direction of the text."""
    sales = build_metadata(make_state("<b>x</b>\r\n\u202egnp.csv"), {})["databases"]["sales"]

    assert sales["source"] == "<b>x</b>\ufffd\ufffd\ufffdgnp.csv"
    assert not any(key.endswith("_html") for key in sales)


@pytest.mark.parametrize(
    "user",
    [
        [],
        "text",
        {"databases": [1]},
        {"databases": {"sales": 1}},
        {"databases": {"sales": {"tables": [1]}}},
    ],
)
def test_metadata_of_another_shape_is_refused(user: Any) -> None:
    """A metadata file that Datasette could not use is named as the reason."""
    with pytest.raises(WorkerError, match="is not an object"):
        build_metadata(make_state(), user)
