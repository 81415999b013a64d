"""How settings are declared and read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner

from headrace.config import ServeSettings, load_settings
from headrace.errors import ConfigError
from headrace.settings import as_flags, decode_settings, options_of, setting


@dataclass(frozen=True, kw_only=True)
class Switched:
    """Settings with a switch and a secret."""

    quiet: bool = setting(False, description="Say nothing.")
    key: str | None = setting(None, secret=True, description="A secret.")


def test_switch_is_a_flag_without_a_value_and_is_handed_on_as_one() -> None:
    """What is on or off is written as one word, and as a word in the environment."""
    said: dict[str, Any] = {}

    @click.command()
    @options_of(Switched)
    def command(**flags: Any) -> None:
        said.update(flags)

    CliRunner().invoke(command, ["--quiet"], catch_exceptions=False)
    assert said == {"quiet": True}
    assert as_flags(decode_settings(Switched, said), ["quiet"]) == ["--quiet"]
    assert as_flags(decode_settings(Switched, {"quiet": "no"}), ["quiet"]) == []


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
