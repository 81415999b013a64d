"""What a page depends on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from headrace.generation import Cut, Source, State
from serve.configuration import Configuration
from serve.depends import Dependencies

AT = datetime(2026, 11, 22, tzinfo=UTC)
CUT = Cut(
    lineage="aa" * 8,
    txid=1,
    page_size=4096,
    pages=2,
    tables={"orders": 1},
    updated_at=AT,
    source=Source(filename="a.csv", sha256="00"),
)
FIRST = State(number=1, epoch=1, created_at=AT, databases={"sales": CUT, "weather": CUT})
SECOND = replace(FIRST, number=2, databases={**FIRST.databases, "sales": replace(CUT, txid=2)})


def changes(path: str, before: State, after: State, base_url: str = "/") -> bool:
    """Tell whether a page is made again after a new generation."""
    configuration = Configuration(base_url=base_url)
    tokens = {Dependencies(state, configuration).find_token(path) for state in (before, after)}
    return len(tokens) == 2


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ("/sales", True),
        ("/sales.json", True),
        ("/sales.db", True),
        ("/sales/orders", True),
        ("/sales/orders/1.json", True),
        ("/weather", False),
        ("/weather/days.csv", False),
        ("/weather/sales", False),
        ("/", True),
        ("/.json", True),
        ("/-/databases.json", True),
        ("/none", True),
        ("/static/style.css", True),
        ("/~77eather", True),  # Datasette reads it as /weather: all of the generation is enough
        ("/weather~2F..", True),
        ("//weather", True),
    ],
)
def test_page_depends_on_what_it_shows(path: str, changed: bool) -> None:
    """Only what shows the changed database, or all of them, is made again."""
    assert changes(path, FIRST, SECOND) is changed


def test_page_of_a_database_changes_with_its_source() -> None:
    """Its page says from which file it comes, also where no row changed."""
    cut = replace(CUT, source=Source(filename="b.csv", sha256="11"))
    after = replace(FIRST, number=2, databases={**FIRST.databases, "sales": cut})

    assert changes("/sales", FIRST, after)
    assert not changes("/weather", FIRST, after)


def test_page_below_a_base_url_depends_on_its_database() -> None:
    """A database that is called like the base URL is not mistaken for it."""
    states = [
        replace(state, databases={**state.databases, "data": CUT}) for state in (FIRST, SECOND)
    ]
    assert changes("/data/sales", states[0], states[1], base_url="/data/")
    assert not changes("/data/weather", states[0], states[1], base_url="/data/")
    assert not changes("/data/data", states[0], states[1], base_url="/data/")


def test_databases_of_the_user_are_never_kept() -> None:
    """Nobody says when a file in the configuration directory changes; what is published is kept."""
    dependencies = Dependencies(FIRST, Configuration(live=frozenset({"own"})))

    assert dependencies.find_token("/own/table") is None
    assert dependencies.find_token("/") is None
    assert dependencies.find_token("/sales") is not None
