"""Answers of the write API."""

from __future__ import annotations

import json

from headrace.errors import Refusal
from headrace.row_answers import answer_refusal


def test_refusal_for_a_while_says_when_to_come_again() -> None:
    """429 and 503 have Retry-After; how long it is stands in the document as well."""
    busy = Refusal("too-many-requests", "too often", extra={"retry_after": 7})
    answer = answer_refusal(busy)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    assert json.loads(answer.text or "")["retry_after"] == 7
    assert answer_refusal(Refusal("stopping", "later")).headers["Retry-After"] == "1"
    assert "Retry-After" not in answer_refusal(Refusal("not-found", "nothing")).headers
