"""Which SQL gives another result each time."""

from __future__ import annotations

import pytest

from serve.restless import asks_restless, find_restless_views, is_restless


@pytest.mark.parametrize(
    "sql",
    [
        "select RANDOM()",
        "select hex(randomblob (8))",
        "select datetime('now')",
        "select date( 'NOW', '-1 day')",
        "select strftime('%s', \"now\")",
        "select strftime('%s')",
        "select datetime('subsec')",
        "select julianday()",
        "select current_date",
        "select Current_Timestamp",
        "select :_now_epoch",
        "select :_header_user_agent",
    ],
)
def test_sql_that_asks_for_chance_time_or_who_asks_is_restless(sql: str) -> None:
    """Its result may be kept by nobody."""
    assert is_restless(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "select known, updates from snow",
        "select now, random, current_price, [current_date_of] from orders",
        "select date(day) from days group by date(day)",
        "select strftime('%Y', day) from days",
        "select * from t where a = :p0 and time = 'nowhere'",
    ],
)
def test_sql_that_gives_the_same_each_time_is_not(sql: str) -> None:
    """Names and dates out of rows are as lasting as the rows."""
    assert not is_restless(sql)


def test_time_may_come_as_the_value_of_a_parameter() -> None:
    """It counts where something makes a time of it."""
    assert is_restless("select date(:day)", ["Now "])
    assert not is_restless("select date(:day)", ["2026-11-27", 5, None])
    assert not is_restless("select * from orders where state = :state", ["now"])


def test_request_is_told_by_its_parameters_however_they_are_written() -> None:
    """Whatever Datasette takes SQL from is looked at as Datasette reads it."""
    assert asks_restless("/a?sql=select%20RANDOM()")
    assert asks_restless("/a?x=1&%73ql=select+r%61ndom()")
    assert asks_restless("/a/b?_where=random()+%3E+0")
    assert asks_restless("/a/b?_where=x%3E1&_where=day+%3E+date(%27now%27)")
    assert asks_restless("/a?sql=select+date(:day)&day=now")
    assert not asks_restless("/a?sql=select+1")
    assert not asks_restless("/a/b?x=random()&_sort=now")
    assert not asks_restless("/a/random()")


def test_view_on_a_restless_view_is_one() -> None:
    """However deep it lies, and whatever the case of its name is."""
    views = {
        "Top": "CREATE VIEW Top AS SELECT * FROM MIDDLE",
        "middle": "CREATE VIEW middle AS SELECT * FROM ground",
        "ground": "CREATE VIEW ground AS SELECT random() AS n",
        "other": "CREATE VIEW other AS SELECT 1",
    }
    assert find_restless_views(views) == {"Top", "middle", "ground"}
    assert find_restless_views({}) == frozenset()
