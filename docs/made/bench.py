"""The newest results of ``make bench``, out of the runs that are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from docs.made.table import code, table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
FULL = 25  # rows of one table of all: more are of a run of every benchmark
_ROW = re.compile(r"^\| (.+) \|$", re.MULTILINE)
_FIGURES = re.compile(r"[-+]?[\d.,]+")
_TABLE = re.compile(r"(?:^\|.+\n)+", re.MULTILINE)
_HEADING = re.compile(r"^#", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run.

    Attributes:
        name: Of its file, without its ending: when it began.
        machine: What it ran on.
        rows: Of the table of all, by what was measured and against what.
        details: The tables of each benchmark, in Markdown.
    """

    name: str
    machine: str
    rows: dict[tuple[str, str], tuple[str, ...]]
    details: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read one that ``benchmarks.run`` has written."""
        _title, machine, summary, *details = path.read_text().split("\n\n")
        cells = [tuple(row.split(" | ")) for row in _ROW.findall(summary)[1:]]
        return cls(
            name=path.stem,
            machine=machine,
            rows={(row[0], _FIGURES.sub("", row[2])): row for row in cells},
            details="\n\n".join(details).strip(),
        )


def summary() -> str:
    """Give the table of all, of the newest run of everything.

    What that run did not measure is from the newest run since the one of everything before it,
    which the last column names.
    """
    full, others = _newest()
    rows = {key: (*row, "") for key, row in full.rows.items()}
    for run in others:
        for key, row in run.rows.items():
            rows.setdefault(key, (*row, code(run.name)))
    return table(("what", "Headrace", "against", "goal", "reached", "of"), rows.values())


def of_run() -> str:
    """Say when the newest run of everything began, and what it ran on."""
    run = _newest()[0]
    return f"Of `benchmarks/results/{run.name}.md`, on {run.machine}:"


def table_of(heading: str) -> str:
    """Give the first table below a heading of the newest run of everything."""
    _, _, section = _newest()[0].details.partition(heading)
    found = _TABLE.search(section)
    if found is None:
        raise ValueError(f"there is no table below {heading!r}")
    return found[0].strip()


def details() -> str:
    """Give the tables of each benchmark of the newest run of everything, one heading deeper."""
    return _HEADING.sub("##", _newest()[0].details)


def _newest() -> tuple[Run, list[Run]]:
    """Give the newest run of everything, and the others since the one before it, newest first."""
    runs = [Run.read(path) for path in sorted(RESULTS.glob("*.md"), reverse=True)]
    full = [index for index, run in enumerate(runs) if len(run.rows) >= FULL]
    first, second = (*full, len(runs))[:2]
    return runs[first], runs[:first] + runs[first + 1 : second]
