from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from headrace.errors import ConfigError, Refusal
from ingest.converters import (
    BUILT_IN,
    Conversion,
    Converted,
    Limits,
    TableRows,
    decode_request,
    encode_request,
    run_converter,
)
from ingest.converters.registry import Converter
from ingest.detect import detect
from ingest.plugins import load_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HEAD = "from ingest.plugins import *\nimport sqlite3\n"
GOOD = """
@hookimpl
def register_converters():
    return [Converter(name="{0}", convert="{0}_plugin:convert", match=("*.{0}",))]
"""
RECOGNISING = """
@hookimpl
def register_converters():
    return [Converter(name="{0}", convert="{0}_plugin:convert", match=("*.{0}",),
                      recognise="{0}_plugin:recognise")]
"""


@pytest.fixture
def install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str], None]]:
    """Give a function that installs a plugin of a name: a module, and what describes it."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def put(name: str, script: str) -> None:
        (folder / f"{name}_plugin.py").write_text(HEAD + script)
        described = folder / f"{name}_plugin-1.dist-info"
        described.mkdir()
        (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (described / "entry_points.txt").write_text(f"[headrace]\n{name} = {name}_plugin\n")

    yield put
    for name in [name for name in sys.modules if name.endswith("_plugin")]:
        del sys.modules[name]


def _load(*configured: Converter) -> tuple[tuple[str, ...], dict[str, str]]:
    """Load the registry; give the names of what was added, and what failed."""
    failures: dict[str, str] = {}
    registry = load_registry(configured, lambda name, exc: failures.update({name: str(exc)}))
    return tuple(converter.name for converter in registry.added), failures


def test_plugins_are_found_by_their_entry_points(install: Callable[[str, str], None]) -> None:
    """Commands come first, then plugins in the order of their names."""
    install("two", GOOD.format("two"))
    install("one", GOOD.format("one"))
    command = Converter(name="tool", convert="ingest.converters.command:convert", match=("*.t",))
    assert _load(command) == (("tool", "one", "two"), {})


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("raise RuntimeError('on import')", "on import"),
        ("raise SystemExit('on import')", "on import"),
        ("import no_such_module", "no_such_module"),
        ("def convert(", "never closed"),
        ("@hookimpl\ndef register_converters(): 1 / 0", "division"),
        ("@hookimpl\ndef register_converters(datasette): return []", "datasette"),
        ("@hookimpl\ndef register_outputs(): return []", "register_outputs"),
        ("@hookimpl\ndef register_converters(): return [{}]", "no Converter"),
        ("@hookimpl\ndef register_converters(): return 1", "iterable"),
        (GOOD.format("csv").replace("csv_plugin", "bad_plugin"), "there is one of that name"),
        (GOOD.format("bad").replace("bad_plugin", "nowhere"), "nowhere"),
        (RECOGNISING.format("bad"), "bad_plugin:recognise"),
    ],
)
def test_plugin_that_is_broken_is_left_out(
    install: Callable[[str, str], None], script: str, words: str
) -> None:
    """One broken plugin is told of by its name, and the others are there."""
    install("bad", script)
    install("good", GOOD.format("good"))
    install("last", GOOD.format("last"))
    added, failures = _load()
    assert added == ("good", "last")
    assert failures.keys() == {"bad"}
    assert words in failures["bad"]


def test_plugin_adds_all_of_its_converters_or_none(install: Callable[[str, str], None]) -> None:
    """Nobody has to guess which half of a plugin works."""
    install(
        "half",
        """
@hookimpl
def register_converters():
    return [Converter(name=name, convert="half_plugin:convert", match=("*",))
            for name in ("fine", "Not fine")]
""",
    )
    assert _load()[0] == ()


def test_command_with_a_name_that_is_taken_stops_the_start() -> None:
    """The configuration is ours to get right: it is not passed over."""
    command = Converter(name="csv", convert="ingest.converters.command:convert", match=("*.t",))
    with pytest.raises(ConfigError, match="there is one of that name"):
        _load(command)


def test_file_goes_to_who_recognises_it_before_who_is_promised_it(
    install: Callable[[str, str], None], tmp_path: Path
) -> None:
    """Content goes before names, what was added before what is built in."""
    install("named", GOOD.format("named"))
    install("seen", RECOGNISING.format("seen") + "def recognise(head, text): return 'see' in text")
    install("torn", RECOGNISING.format("torn") + "def recognise(head, text): return 1 / 0")
    registry = load_registry((), lambda _name, _exc: None)
    failed: list[str] = []

    def found(text: str, filename: str) -> str:
        path = tmp_path / "sent"
        path.write_text(text)
        return detect(
            path,
            filename=filename,
            media_type=None,
            registry=registry,
            on_failure=lambda converter, _exc: failed.append(converter.name),
        )

    assert found("a,see\n1,2\n", "x.named") == "seen"
    assert failed == []  # in the order of names: it was not asked
    assert found("[1, 2]", "x.named") == "named"
    assert failed == ["torn"]
    assert found("a,b\n1,2\n", "x.csv") == "csv"
    assert found("nothing to be known", "x.SEEN") == "seen"
    with pytest.raises(Refusal) as caught:
        found("nothing to be known", "x.txt")
    assert caught.value.extra["known"][-3:] == ["named", "seen", "torn"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("return None", "returned a NoneType"),
        ("return Converted(tables=(TableRows(name='t', rows=1),))", "made no database"),
        (
            "conversion.output.write_text('no database' * 999); return Converted(tables=())",
            "no database",
        ),
        (
            "conversion.output.touch(); return Converted(tables=(TableRows(name='t', rows=1),))",
            "did not make the table 't'",
        ),
    ],
)
def test_converter_that_says_what_is_not_so_is_refused(
    install: Callable[[str, str], None], tmp_path: Path, script: str, words: str
) -> None:
    """What a plugin made is looked at before it is merged."""
    install("lies", GOOD.format("lies") + f"def convert(conversion):\n    {script}")
    registry = load_registry((), lambda _name, _exc: None)
    conversion = Conversion(
        input=tmp_path, output=tmp_path / "o.db", format="lies", table="t", registry=registry
    )
    with pytest.raises(Refusal) as caught:
        run_converter(conversion)
    assert caught.value.code == "converter-failed"
    assert words in caught.value.detail


def test_converter_of_plugin_gets_its_settings(
    install: Callable[[str, str], None], tmp_path: Path
) -> None:
    """What was registered reaches the function, through the request that its process reads."""
    install(
        "set",
        GOOD.format("set")
        + """
def convert(conversion):
    with sqlite3.connect(conversion.output) as db:
        db.execute("CREATE TABLE t (a)")
    db.close()
    rows = TableRows(name="t", rows=conversion.settings["rows"])
    return Converted(tables=(rows,))
""",
    )
    added = replace(load_registry((), print).added[0], settings={"rows": 7})
    conversion = Conversion(
        input=tmp_path / "i",
        output=tmp_path / "o",
        format="set",
        table="t",
        registry=replace(BUILT_IN, added=(added,)),
    )
    read, _limits = decode_request(encode_request(conversion, Limits()))
    assert read == conversion
    assert run_converter(read) == Converted(tables=(TableRows(name="t", rows=7),))
