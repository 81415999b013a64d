"""The documentation's blocks of code: what each is, and running those of a page as one script.

How a block is tested follows from its language, and from a comment right above it:

::

    sh        a part of the page's script; a page is one shell, from its first block to its last
    console   the same, each command after a `$ `, and below it what it prints
    text      what the page's script prints, in this order; `…` stands for anything
    json      the same
    toml, ini, yaml, python, js       read by a parser

    <!-- terminal: ready: -->          runs in the background, until it has printed that
    <!-- not run: why -->             for people; an `sh` block is still read by bash
    <!-- no block is run: why -->     the same for all of a page, below its heading
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import wait_for
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HOWTO = DOCS / "howto"
TUTORIAL = DOCS / "tutorial"

OFFSETS = (0, 1, 2, 100, 101, 102, 103, 200, 201, 202, 203)  # of ports from 8000
SHOWN = frozenset({"text", "json"})
FOR_PEOPLE = "not run: "
TERMINAL = "terminal: "
_BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^\n]+) -->\n)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_NO_BLOCK = re.compile(r"^<!-- no block is run: (.+) -->$", re.MULTILINE)
_MADE = re.compile(r"^<!-- \[\[\[cog.*?\[\[\[end\]\]\] -->$", re.MULTILINE | re.DOTALL)
_PORT = re.compile(rf"\b8({'|'.join(f'{offset:03d}' for offset in OFFSETS)})\b")
_COMMAND = re.compile(
    r"^\$ (?P<command>(?:.*\\\n)*.*)\n(?P<printed>(?:(?!\$ ).*\n)*)", re.MULTILINE
)
# What is another one each time: ids, times, durations, and generations on a used system.
_CHANGING = re.compile(
    r"(?P<id>\b[0-9a-f]{16}(?:[0-9a-f]{16}(?:[0-9a-f]{32})?)?\b)"
    r"|(?P<time>\d{4}-\d\d-\d\dT[\d:.]+Z)|(?P<seconds>\b\d+\.\d+\b)"
    r"|(?P<generation>\bgeneration \d+\b)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of code.

    Attributes:
        page: Its file.
        line: Where it begins, from 1.
        language: Of its first line; empty if it names none.
        text: What is in it.
        note: What the comment above it says, or that of the page; empty if there is none.
    """

    page: Path
    line: int
    language: str
    text: str
    note: str

    def __str__(self) -> str:
        """Where it is, as tools write it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_for_people(self) -> bool:
        """Whether it is only shown."""
        return self.note.startswith(FOR_PEOPLE)


def pages() -> list[Path]:
    """List every page that has text of its own."""
    made = {DOCS / "_build"}
    found = [page for page in DOCS.rglob("*.md") if not made & set(page.parents)]
    return sorted([ROOT / "README.md", *(ROOT / "deploy").glob("*.md"), *found])


def blocks_of(page: Path) -> list[Block]:
    """List the blocks of a page, but for those that cog has made."""
    text = page.read_text()
    made = [match.span() for match in _MADE.finditer(text)]
    no_block = _NO_BLOCK.search(text)
    note = f"{FOR_PEOPLE}{no_block[1]}" if no_block else ""
    return [
        Block(
            page=page,
            line=text.count("\n", 0, match.start()) + 1 + bool(match["note"]),
            language=match["language"],
            text=match["text"],
            note=match["note"] or note,
        )
        for match in _BLOCK.finditer(text)
        if not any(start <= match.start() < end for start, end in made)
    ]


def run(
    names: str,
    folder: Path,
    *,
    before: str = "",
    after: str = "",
    of: Path = HOWTO,
    store: str | None = None,
    timeout_s: float = 110,
) -> str:
    """Run all blocks of a page as one script, and find in its output all that the page shows.

    Args:
        names: Of the page; or of several, which then share a system.
        folder: Where it is run.
        before: Shell commands before it.
        after: Shell commands after it.
        of: Folder of the pages.
        store: If it is on S3 it is used instead of the page's folder, or of the default.
        timeout_s: How long the script may take, seconds.

    Returns:
        What it printed. Ports are free ones, but 8000 and so on again here.
    """
    blocks = [block for name in names.split() for block in blocks_of(of / name)]
    script = "\n".join(["set -eux", before, *_script_of(blocks), after])
    port = free_ports(list(OFFSETS))
    script = _PORT.sub(lambda found: str(port + int(found[1])), script)
    env = {**os.environ, "HEADRACE_PORT": str(port)}
    env["HEADRACE_PRIMARY"] = f"http://127.0.0.1:{port + 100}"
    env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env |= {"HEADRACE_LEASE_DURATION": "5", "HEADRACE_LEASE_RENEWAL": "1"}
    if store is not None and store.startswith("s3:"):
        env["HEADRACE_STORE"] = store
        script = script.replace("data/store", f"'{store}'")
    output, errors = _run_script(script, folder, env, timeout_s)
    for offset in OFFSETS:
        output = output.replace(str(port + offset), f"8{offset:03d}")
        errors = errors.replace(str(port + offset), f"8{offset:03d}")
    for block in blocks:
        _find_shown(block, output, errors)
    return output


def transcript_of(block: Block) -> list[tuple[str, str]]:
    """Give the commands of a transcript, each with what it prints."""
    return [(found["command"], found["printed"]) for found in _COMMAND.finditer(block.text)]


def _find_shown(block: Block, *streams: str) -> None:
    """Find what a block shows, in this order, in one of two streams; else the test has failed."""
    if block.is_for_people or block.language not in {"console", *SHOWN}:
        return
    shown = block.text
    if block.language == "console":
        shown = "".join(printed for _command, printed in transcript_of(block))
    actual, at = [_same(stream) for stream in streams], [0 for _stream in streams]
    for piece in re.split("[\n…]+", shown):
        found = [text.find(_same(piece), start) for text, start in zip(actual, at, strict=True)]
        assert max(found) >= 0, f"{block} shows what was not printed: {piece!r}: {streams}"
        which = next(index for index, place in enumerate(found) if place >= 0)
        at[which] = found[which]


def _script_of(blocks: Iterable[Block]) -> Iterator[str]:
    """Give what is run of each block."""
    terminals = count(1)
    for block in blocks:
        if block.language == "console" and not block.is_for_people:
            yield from (command for command, _printed in transcript_of(block))
        elif block.language == "sh" and block.note.startswith(TERMINAL):
            yield _terminal(block, f"terminal-{next(terminals)}.log")
        elif block.language == "sh" and not block.is_for_people:
            yield block.text


def _terminal(block: Block, log: str) -> str:
    """Give what runs a block in the background, and waits for what it prints."""
    until = block.note.removeprefix(TERMINAL)
    return f"""
{{ {block.text} }} > {log} 2>&1 & TERMINAL=$!
until grep -q '{until}' {log}; do kill -0 $TERMINAL || {{ cat {log} >&2; exit 1; }}; sleep 0.1; done
cat {log}
"""


def _same(text: str) -> str:
    """Give a text without what differs each time, and without its line breaks."""
    return " ".join(_CHANGING.sub(lambda found: f"<{found.lastgroup}>", text).split())


def _run_script(
    script: str, folder: Path, env: dict[str, str], timeout_s: float
) -> tuple[str, str]:
    """Run a script; give what it printed on standard output and on standard error."""
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=timeout_s)
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):  # what a script left running
            if not _group_is_gone(process.pid):
                os.killpg(process.pid, number)
                wait_for(lambda: _group_is_gone(process.pid), timeout_s=30)
    assert process.returncode == 0, errors[-3000:]
    return output, errors


def _group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False
