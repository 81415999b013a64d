"""What goes of the generation log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from headrace.config import UpSettings, load_settings
from headrace.errors import ConfigError
from headrace.keys import LAST_CHECKPOINT, checkpoint_key, generation_key, parse_log_key
from headrace.log import SURELY_KEPT_S
from ingest.prune import LogObject, choose_base

DAY = timedelta(days=1)
AT = datetime(2026, 11, 22, tzinfo=UTC)

# One checkpoint every ten days.
CHECKPOINTS = {50: AT, 100: AT + 10 * DAY, 150: AT + 20 * DAY, 200: AT + 30 * DAY}


@pytest.mark.parametrize(
    ("days", "base"), [(1, 150), (10, 150), (10.1, 100), (20, 100), (29, 50), (30, 50), (30.1, 0)]
)
def test_base_is_the_newest_checkpoint_that_is_old_enough(days: float, base: int) -> None:
    """Whatever came after the base may be younger than the retention; nothing before it is."""
    assert choose_base(CHECKPOINTS, last=200, retention=days * DAY) == base


def test_base_is_never_the_last_checkpoint_nor_above_it() -> None:
    """Readers start at the one that the hint names: it has a run before it, whatever the times."""
    upside_down = {50: AT, 100: AT - 90 * DAY, 150: AT - 99 * DAY}
    assert choose_base(upside_down, last=50, retention=DAY) == 0
    assert choose_base(upside_down, last=100, retention=DAY) == 0


@pytest.mark.parametrize("checkpoints", [{}, {50: AT - 99 * DAY}])
def test_base_without_the_last_checkpoint_in_the_listing_is_none(
    checkpoints: dict[int, datetime],
) -> None:
    """A listing that lacks what readers start at is not to be believed: nothing goes."""
    assert choose_base(checkpoints, last=100, retention=DAY) == 0
    assert choose_base(checkpoints, last=0, retention=DAY) == 0


def test_order_keeps_every_entry_after_a_checkpoint_that_is_there() -> None:
    """Entry N goes before checkpoint N, which goes before entry N+1."""
    log = [LogObject(number=number, is_checkpoint=False) for number in range(1, 13)]
    log += [LogObject(number=number, is_checkpoint=True) for number in (4, 8, 12)]

    doomed = sorted(each for each in log if each.is_below(8))

    assert [(each.number, each.is_checkpoint) for each in doomed] == [
        *((number, False) for number in (1, 2, 3, 4)),
        (4, True),
        *((number, False) for number in (5, 6, 7, 8)),
    ]


def test_keys_of_the_log_are_read_back_and_others_are_none() -> None:
    """The hint, and whatever else may lie there, is neither an entry nor a checkpoint."""
    for number in (1, 42, 10**15):
        for is_checkpoint in (False, True):
            each = LogObject(number=number, is_checkpoint=is_checkpoint)
            assert parse_log_key(each.key) == (number, is_checkpoint)
    assert parse_log_key(generation_key(7)) == (7, False)
    assert parse_log_key(checkpoint_key(7)) == (7, True)
    for other in (LAST_CHECKPOINT, "generations/7.json", generation_key(7) + "#1", "x"):
        assert parse_log_key(other) is None


def test_retention_below_a_day_is_refused() -> None:
    """What a primary missed that slept for less than `SURELY_KEPT_S` is surely there."""
    assert timedelta(days=load_settings(UpSettings, {"log_retention": "1"}).log_retention) == DAY
    assert timedelta(seconds=SURELY_KEPT_S) < DAY
    for days in ("0.9", "0", "-1", "nan", "inf"):
        with pytest.raises(ConfigError, match="--log-retention"):
            load_settings(UpSettings, {"log_retention": days})
