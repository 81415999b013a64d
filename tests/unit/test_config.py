"""Settings."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from headrace.config import UpSettings, as_flags, find_or_make_secret, load_settings
from headrace.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_settings_flag_wins_over_environment_wins_over_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The nearest says what is in force."""
    assert load_settings(UpSettings, {}).port == 8000
    monkeypatch.setenv("HEADRACE_PORT", "8010")
    assert load_settings(UpSettings, {"port": None}).port == 8010
    assert load_settings(UpSettings, {"port": "8020"}).port == 8020


def test_settings_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the flag and the variable, whichever it came from."""
    monkeypatch.setenv("HEADRACE_READERS", "many")
    with pytest.raises(ConfigError, match=r"--readers \(HEADRACE_READERS\)"):
        load_settings(UpSettings, {})


def test_settings_take_sizes_with_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size may be written as people say it, and is handed on as bytes."""
    monkeypatch.setenv("HEADRACE_CONVERT_OUTPUT", "1.5 MiB")
    settings = load_settings(UpSettings, {"convert_memory": "2GiB"})
    assert (settings.convert_memory, settings.convert_output) == (2 * 1024**3, 3 * 1024**2 // 2)
    assert as_flags(settings, ["convert_memory"]) == ["--convert-memory", str(2 * 1024**3)]
    with pytest.raises(ConfigError, match="--convert-memory"):
        load_settings(UpSettings, {"convert_memory": "1KiB"})


def test_settings_never_print_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token does not show where settings are printed."""
    monkeypatch.setenv("HEADRACE_TOKEN", "very-secret")
    assert "very-secret" not in repr(load_settings(UpSettings, {}))


def test_as_flags_hands_on_what_is_set() -> None:
    """A child process gets the same settings as flags."""
    settings = load_settings(UpSettings, {"max_upload": "5", "datasette_dir": None})
    assert as_flags(settings, ["max_upload", "datasette_dir"]) == ["--max-upload", "5"]


def test_secret_is_made_once_and_only_for_us(tmp_path: Path) -> None:
    """A generated secret is kept, in a file that only its owner can read."""
    path = tmp_path / "data" / "token"
    secret = find_or_make_secret(path)
    assert find_or_make_secret(path) == secret
    assert len(secret) > 30
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
