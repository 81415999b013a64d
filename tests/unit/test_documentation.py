"""The reference says what the code does."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from unittest.mock import Mock

import pluggy

from docs.reference.make_commands import BEGIN, made
from headrace.config import IngestSettings, ServeSettings, UpSettings
from headrace.converter_command import PLACEHOLDERS, ConverterCommand
from headrace.errors import REFUSALS
from headrace.options import FIELDS
from headrace.settings import names_of
from headrace.store_costs import Prices
from headrace.store_counts import StoreCounts
from ingest import hookspecs
from ingest.metrics import IngestMetrics
from ingest.plugins import Converter
from serve.metrics import ReaderMetrics

DOCS = Path(__file__).parents[2] / "docs"


def test_every_error_code_is_documented_with_its_status() -> None:
    """The table of errors lists every code, and no other, with its status."""
    text = (DOCS / "reference" / "errors.md").read_text()
    documented = dict(re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", text, re.MULTILINE))
    assert documented == {code: str(status.value) for code, (status, _title) in REFUSALS.items()}


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


def test_every_setting_is_documented() -> None:
    """The table of settings lists every variable, and no other."""
    text = (DOCS / "reference" / "configuration.md").read_text()
    documented = set(re.findall(r"^\| .* \| `(HEADRACE_[A-Z_]+)` \|", text, re.MULTILINE))
    settings = {
        f"HEADRACE_{name.upper()}" for name in names_of(UpSettings, IngestSettings, ServeSettings)
    }
    assert documented == settings


def test_every_metric_is_documented_with_its_kind() -> None:
    """The tables of metrics list what the nodes show, and nothing else."""
    text = (DOCS / "reference" / "metrics.md").read_text()
    own = text.partition("## Litestream's own")[0]
    documented = set(re.findall(r"^\| `(\w+)` \| (\w+) \|", own, re.MULTILINE))
    suffixes = {"counter": "_total", "info": "_info"}
    shown = set()
    ingest, reader = IngestMetrics(), ReaderMetrics("a")
    reader.watch_workers(Mock(current=None), Mock(count=1, memory_bytes=1))
    for metrics in (ingest, reader):
        metrics.watch_store(StoreCounts(), Prices())
        for family in metrics.registry.collect():
            shown.add((family.name + suffixes.get(family.type, ""), family.type))
    assert documented == shown


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


def test_every_command_is_documented_with_its_options() -> None:
    """The reference has the help and the exit codes as they are: `make docs` writes them."""
    text = (DOCS / "reference" / "commands.md").read_text()
    assert text.partition(BEGIN)[2].strip() == made().strip()
