"""How commands end."""

from __future__ import annotations

import pytest

from headrace.errors import LateError, NotAllowedError, RefusedError, UnreachableError
from headrace.exits import MEANINGS, Exit, exit_of


def test_every_exit_code_has_a_meaning() -> None:
    """The table says what each code means."""
    assert set(MEANINGS) == set(Exit)


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ([], 0),
        ([Exit.DONE, Exit.DONE], 0),
        ([Exit.DONE, Exit.FAILED], 1),
        ([Exit.FAILED, Exit.LATE, Exit.DONE], 5),
        ([Exit.LATE, Exit.UNREACHABLE], 3),
        ([Exit.UNREACHABLE, Exit.NOT_ALLOWED, Exit.FAILED], 4),
    ],
)
def test_several_ends_make_the_one_that_a_script_has_to_know_first(
    ends: list[Exit], code: int
) -> None:
    """A token that is wrong comes before a server that is away, and a bad file last."""
    assert exit_of(ends) == code


def test_every_error_of_a_server_has_its_own_code() -> None:
    """Scripts tell by the code alone why nothing was done."""
    kinds = (RefusedError, UnreachableError, NotAllowedError, LateError)
    assert [kind("x").exit_code for kind in kinds] == [1, 3, 4, 5]
