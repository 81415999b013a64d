"""What is handed on of a request."""

from __future__ import annotations

from serve.headers import without_session


def test_session_cookie_is_handed_on_in_no_header() -> None:
    """Datasette and its plugins never see it, also where a client sends two headers."""
    sent = ["ds_actor=a; headrace_session=x", "headrace_session =y;theme=dark"]
    assert without_session(sent) == "ds_actor=a; theme=dark"
