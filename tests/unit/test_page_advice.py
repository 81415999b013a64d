"""What a page says of a problem: for people, and once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.errors import REFUSALS, Refusal
from serve.upload_page.advice import BY_CODE, HOPELESS, LABELS, PHRASES, UNTITLED, of_person

ROOT = Path(__file__).parents[2]
INVALID = REFUSALS["invalid-file"].title
FIELDS = ROOT / "serve" / "upload_page" / "templates" / "_headrace_fields.html"
SIDES = ("headrace", "ingest")


@pytest.mark.parametrize(
    ("refusal", "title", "detail", "where", "hint"),
    [
        (
            Refusal("unauthorized", "the token is not known", hint="send the header: …"),
            "",
            "The token is not known.",
            "",
            f"{BY_CODE['unauthorized']}.",
        ),
        (
            Refusal(
                "invalid-file", "line 3 has 3 fields; line 5 is wrong as well",
                hint="is a quote missing? on_bad_rows=quarantine loads the other rows",
                line=3, extra={"lines": [3, 5]},
            ),
            INVALID,
            "Line 3 has 3 fields; line 5 is wrong as well.",
            "",
            ("is a quote missing? “More options → Bad rows → go to a table of their own” "
            "loads the other rows."),
        ),
        (
            Refusal("invalid-file", "a.csv: 2 faults", line=7),
            INVALID,
            "a.csv: 2 faults.",
            "Line 7.",
            "",
        ),
        (
            Refusal("invalid-file", "'x' is no number", line=7, column=2),
            INVALID,
            "'x' is no number.",
            "Line 7, column 2.",
            "",
        ),
        (
            Refusal("invalid-option", "pk cannot be used: there is no column 'a'"),
            "",
            "“Key columns” cannot be used: there is no column 'a'.",
            "",
            "",
        ),
    ],
)  # fmt: skip
def test_problem_on_a_page_is_said_once_and_for_people(
    refusal: Refusal, title: str, detail: str, where: str, hint: str
) -> None:
    """A page names what stands on it, says each thing once, and changes no file's name."""
    said: dict[str, Any] = of_person(refusal.document())
    assert said == {"title": title, "detail": detail, "where": where, "hint": hint}


def test_problem_advice_is_of_codes_and_phrases_that_there_are() -> None:
    """No code of the table is unknown, some hint has each phrase, and no word is a parameter."""
    said = "".join(path.read_text() for side in SIDES for path in (ROOT / side).rglob("*.py"))
    assert [phrase for phrase in PHRASES if phrase not in said] == []
    assert {*BY_CODE, *HOPELESS, *UNTITLED} <= REFUSALS.keys()
    assert [label for label in LABELS.values() if label not in FIELDS.read_text()] == []
    assert not any("=" in words or "?" in words for words in PHRASES.values())
