"""How settings are declared and read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner

from headrace.config import ServeSettings, load_settings
from headrace.errors import ConfigError
from headrace.settings import Texts, as_flags, decode_settings, options_of, setting


@dataclass(frozen=True, kw_only=True)
class Switched:
    """Settings with a switch and a secret."""

    quiet: bool = setting(False, description="Say nothing.")
    key: str | None = setting(None, secret=True, description="A secret.")


@dataclass(frozen=True, kw_only=True)
class Several:
    """A setting with several values."""

    place: Texts = setting((), description="Places.")


def test_switch_is_on_or_off_and_is_handed_on_as_such() -> None:
    """A switch that is on by default can be turned off: by flag, variable and file alike."""
    said: dict[str, Any] = {}

    @click.command()
    @options_of(Switched)
    def command(**flags: Any) -> None:
        said.update(flags)

    CliRunner().invoke(command, ["--quiet", "on"], catch_exceptions=False)
    assert decode_settings(Switched, said).quiet
    assert as_flags(decode_settings(Switched, said), ["quiet"]) == ["--quiet", "on"]
    for off in ("off", "no", False):
        assert as_flags(decode_settings(Switched, {"quiet": off}), ["quiet"]) == ["--quiet", "off"]


def test_setting_with_several_values_is_given_several_times() -> None:
    """As flags, in a variable with spaces between, or as a list of the file; and handed on so."""
    said: dict[str, Any] = {}

    @click.command()
    @options_of(Several)
    def command(**flags: Any) -> None:
        said.update(flags)

    CliRunner().invoke(command, ["--place", "a", "--place", "b c"], catch_exceptions=False)
    assert decode_settings(Several, said).place == ("a", "b c")
    assert decode_settings(Several, {"place": "a  b\n"}).place == ("a", "b")
    assert decode_settings(Several, {"place": ["a"]}).place == ("a",)
    assert as_flags(Several(place=("a", "b")), ["place"]) == ["--place", "a", "--place", "b"]
    assert as_flags(Several(), ["place"]) == []
    for wrong in (7, ["a", 7], {"a": "b"}):
        with pytest.raises(ConfigError, match="--place"):
            decode_settings(Several, {"place": wrong})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cache_size": "5 XB"}, "--cache-size"),
        ({"cache_size": "-1"}, "--cache-size"),
        ({"request_timeout": "nan"}, "--request-timeout"),
        ({"request_timeout": "0"}, "--request-timeout"),
        ({"port": "65536"}, "--port"),
        ({"port": 1.5}, "--port"),
        ({"workers": ""}, "--workers"),
        ({"trusted_proxies": ["10.0.0.0/8"]}, "--trusted-proxies .*not one value"),
    ],
)
def test_value_that_is_out_of_range_or_of_another_kind_is_refused(
    values: dict[str, Any], words: str
) -> None:
    """A value is never bent until it fits."""
    with pytest.raises(ConfigError, match=words):
        load_settings(ServeSettings, values)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MiB", 512 * 1024**2), ("1.5 kb", 1500), ("2G", 2 * 10**9), ("7", 7), ("8 b", 8)],
)
def test_size_of_a_reader_takes_a_unit(text: str, size: int) -> None:
    """All sizes may be written as people say them."""
    assert load_settings(ServeSettings, {"cache_size": text}).cache_size == size
