"""The reference says what the code does."""

from __future__ import annotations

import ast
import configparser
import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy
import pytest
import yaml
from cogapp import Cog

from headrace.converter_command import PLACEHOLDERS, ConverterCommand
from headrace.options import FIELDS
from ingest import hookspecs
from ingest.plugins import Converter
from tests.guide_kit import DOCS, FOR_PEOPLE, HOWTO, ROOT, TERMINAL, TUTORIAL, blocks_of, pages

if TYPE_CHECKING:
    from collections.abc import Iterator

MADE = [page for page in pages() if "[[[cog" in page.read_text()]
RUN = frozenset({"sh", "console", "text", "json"})
READ: dict[str, Any] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "ini": configparser.ConfigParser(strict=False).read_string,
    "python": ast.parse,
}
# The folders in which `run` looks for a page, by the name that tests give them.
FOLDERS = {
    "HOWTO": HOWTO,
    "TUTORIAL": TUTORIAL,
    "ROOT": ROOT,
    "REFERENCE": DOCS / "reference",
    "EXPLANATION": DOCS / "explanation",
}
TEST = re.compile(r"\b(?:unit|integration|e2e|faults|property|fuzz)/test_\w+\.py")


def test_every_limit_is_documented() -> None:
    """The table of limits lists what ``limit`` can be in an answer, and nothing else."""
    text = (DOCS / "reference" / "errors.md").read_text().partition("## Limits")[2]
    rows = re.findall(r"^\| (`[a-z`, ]+`) \|", text, re.MULTILINE)
    documented = {name for row in rows for name in re.findall("[a-z]+", row)}
    sources = [path.read_text() for path in (DOCS.parent / "ingest").rglob("*.py")]
    used = {name for source in sources for name in re.findall(r'"limit": "([a-z]+)"', source)}
    # Those of a process that was ended by a signal.
    assert documented - {"limit"} == used | {"cpu", "output"}
    assert not any(re.search(r'"limit-exceeded", "[^"]+"\)', source) for source in sources)


def test_every_hook_and_what_it_registers_is_documented() -> None:
    """The reference names every hook, member of a converter, and placeholder of a command."""
    text = (DOCS / "reference" / "plugins.md").read_text()
    plugins = pluggy.PluginManager(hookspecs.PROJECT)
    plugins.add_hookspecs(hookspecs)
    assert set(re.findall(r"^### (\w+)\(", text, re.MULTILINE)) == set(vars(plugins.hook))
    documented = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert documented >= {each.name for each in fields(Converter)}
    assert documented >= {each.name for each in fields(ConverterCommand)}
    assert all(f"`{{{name}}}`" in text for name in PLACEHOLDERS)


def test_every_option_of_an_upload_is_documented() -> None:
    """The tables of options list every field of a request, and no other."""
    text = (DOCS / "reference" / "http.md").read_text()
    start, end = text.index("## `POST /ingest`"), text.index("| request header |")
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", text[start:end], re.MULTILINE))
    assert documented == FIELDS


def test_every_file_that_was_not_made_here_says_where_it_is_from() -> None:
    """The index of the test data has a row for each file, and no other."""
    folder = Path(__file__).parents[1] / "data"
    listed = re.findall(r"^\| `([^`]+)`", (folder / "README.md").read_text(), re.MULTILINE)
    stored = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert sorted(listed) == sorted(stored - {"README.md"})


@pytest.mark.parametrize("page", MADE, ids=lambda page: page.name)
def test_what_is_made_of_the_code_is_current(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the code is missing on a page that shows all of a kind: else run `make docs`."""
    monkeypatch.chdir(ROOT)
    code = Cog().main(["cog", "--check", "--diff", "-I", ".", str(page)])
    assert code == 0, capsys.readouterr().out


def _find_pages_run() -> Iterator[Path]:
    """Give each page that an end-to-end test runs: it calls `run` with its name."""
    for module in (ROOT / "tests" / "e2e").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "run":
                folders = [each.value for each in node.keywords if each.arg == "of"]
                folder = FOLDERS[folders[0].id if folders else "HOWTO"]  # type: ignore[attr-defined]
                names = ast.literal_eval(node.args[0])
                yield from (folder / name for name in names.split())


@pytest.fixture(scope="module")
def pages_run() -> set[Path]:
    """Give the pages that end-to-end tests run."""
    return set(_find_pages_run())


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_code_is_run_or_says_why_not(page: Path, pages_run: set[Path]) -> None:
    """Whatever can be copied from a page has been run, and what it shows has been printed."""
    for block in blocks_of(page):
        assert block.language, f"{block} has no language"
        if block.language.startswith("{"):  # a directive of MyST
            continue
        assert block.language in {*RUN, *READ, "js"}, f"{block} has a language that nobody tests"
        assert not block.note or block.note.startswith((FOR_PEOPLE, TERMINAL)), block
        if block.language in RUN and not block.is_for_people:
            assert page in pages_run, (
                f"{block} is not run: no test of tests/e2e calls run() with its page"
            )
        if block.language in READ and "…" not in block.text:
            READ[block.language](block.text)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_code_begins_at_the_margin(page: Path) -> None:
    """No block escapes the tests because it is written in another way."""
    text = page.read_text()
    fences = re.findall(r"^ *(?:>|[-*\d.]+ )* *(?:```|~~~)", text, re.MULTILINE)
    assert set(fences) <= {"```"}
    assert len(fences) % 2 == 0


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_is_named_is_there(page: Path) -> None:
    """Whoever wants to see a promise shown finds the test that a page names."""
    named = set(TEST.findall(page.read_text()))
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []


def test_every_image_is_shown_and_every_screenshot_can_be_taken_again() -> None:
    """No image lies about that no page shows, and `make shots` makes each that is no drawing."""
    images = {path.name for path in (DOCS / "images").iterdir() if path.suffix in {".png", ".svg"}}
    texts = [page.read_text() for page in pages()]
    assert {name for name in images if not any(f"images/{name}" in text for text in texts)} == set()
    taken = {shot["output"] for shot in yaml.safe_load((DOCS / "shots.yml").read_text())}
    known = {name.replace("{-dark}", suffix) for name in taken for suffix in ("", "-dark")}
    assert {name for name in images if name.endswith(".png")} <= known
