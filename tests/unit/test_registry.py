from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from headrace.errors import ConfigError
from ingest.converters import BUILT_IN, KNOWN_FORMATS
from ingest.converters.registry import Converter, check_converter, find_promised, load_function

GOOD = Converter(name="dbf", convert="ingest.converters.markdown:convert", match=("*.dbf",))

# What reads files: only the converter's process has it in memory.
HEAVY = {"adbc_driver_sqlite", "pyarrow", "sqlite_utils", "yaml"}


def test_service_imports_nothing_that_reads_files() -> None:
    """Finding formats, with every function that recognises one, loads no library of any format."""
    script = (
        "import sys, ingest.service, ingest.converters as c\n"
        "from ingest.converters.registry import load_function\n"
        "[load_function(each.recognise) for each in c.BUILT_IN.built_in if each.recognise]\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "ingest.detect" in loaded
    assert not HEAVY & set(loaded)


def test_registry_names_built_in_and_added_formats() -> None:
    """What was added is listed with the rest, and found by its name."""
    registry = replace(BUILT_IN, added=(GOOD,))
    assert registry.names == (*KNOWN_FORMATS, "dbf")
    assert registry.get("dbf") is GOOD


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Has Spaces"},
        {"name": "csv"},
        {"convert": "no function"},
        {"convert": "no_such_module:convert"},
        {"convert": "no_such_package.module:convert"},
        {"match": "*.dbf"},
        {"match": ()},
        {"recognise": "ingest.converters:no_such_function"},
        {"recognise": "no_such_module:recognise"},
    ],
    ids=str,
)
def test_converter_that_cannot_work_is_found_when_it_is_added(change: dict[str, object]) -> None:
    """A wrong name or reference is told at start, and not by the first file."""
    wrong = replace(GOOD, **change)  # type: ignore[arg-type]
    with pytest.raises((ConfigError, ImportError)):
        check_converter(wrong, KNOWN_FORMATS)
    assert check_converter(GOOD, KNOWN_FORMATS) is GOOD


def test_thing_that_is_no_converter_is_not_added() -> None:
    """A plugin that gives something else is told what it gave."""
    with pytest.raises(ConfigError, match="dict"):
        check_converter({"name": "dbf"}, KNOWN_FORMATS)


def test_function_that_is_not_there_is_named() -> None:
    """A reference leads to a function, or says itself what is wrong."""
    assert load_function("ingest.converters.markdown:convert").__name__ == "convert"
    for reference in ("ingest.converters.markdown", "ingest.converters.markdown:nothing", ""):
        with pytest.raises(ConfigError):
            load_function(reference)


def test_promise_of_name_goes_before_that_of_media_type() -> None:
    """Names are compared without their case, folders and media type's parameters do not count."""
    other = Converter(name="other", convert="a:b", match=("takeout-*.zip",), media_types=("a/b",))
    known = (GOOD, other)
    assert find_promised(known, "C:\\x\\Takeout-1.ZIP", None) is other
    assert find_promised(known, "x.dbf", "a/b") is GOOD
    assert find_promised(known, "x", "A/B; charset=utf-8") is other
    assert find_promised(known, "takeout-1.zip.csv", None) is None
