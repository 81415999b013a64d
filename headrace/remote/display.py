"""What a person sees of a push: bars on a terminal, else plain lines; and what a script reads."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
)
from rich.text import Text

from headrace.receipt import NOTHING_CHANGED
from headrace.remote import wording

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, TextIO

    from rich.progress import Task

    from headrace.errors import RemoteError
    from headrace.remote.files import Item

_SEND = "send"  # the step before those of the server
_FINISHED = frozenset({"published", "failed"})
_READ_WHOLE = frozenset(
    {"merge", "published", "live"}
)  # the last count of bytes was a moment before


class Screen:
    """Shows how far files are.

    Args:
        url: Of the server, before the paths that are shown.
        as_json: One line of JSON for each file on standard output, and nothing else there.
    """

    def __init__(self, url: str, *, as_json: bool) -> None:
        self._url = url.rstrip("/")
        self._json = as_json
        self._console = Console(
            stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False
        )
        self._bars = _Bars(self._console) if self._console.is_terminal else None
        self._said: dict[str, str] = {}
        self._sent: dict[str, int] = {}

    def __enter__(self) -> Self:
        """Begin to show bars, on a terminal."""
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave what is shown as it is."""
        if self._bars is not None:
            self._bars.stop()

    def begun(self, item: Item) -> None:
        """Show that a file is on its way."""
        if self._bars is not None:
            self._bars.add(item)

    def sent(self, item: Item, count: int) -> None:
        """Show that so many bytes were sent."""
        before = self._sent.get(item.shown)
        self._sent[item.shown] = count
        if self._bars is not None:
            self._bars.sent(item, count)
        elif count == item.size and count and count != before:
            self._line(item, f"sent, {wording.size(count)}")

    def trouble(self, item: Item, exc: RemoteError) -> None:
        """Show that something is tried again."""
        if self._bars is not None:
            self._bars.step(item, f"trying again: {exc}", None)
        else:
            self._line(item, f"trying again: {exc}")

    def step(self, item: Item, name: str, progress: dict[str, Any] | None) -> None:
        """Show what the server does with a file."""
        if self._bars is not None:
            self._bars.step(item, wording.step(name, progress), progress)
            if name in _READ_WHOLE:
                self._bars.fill(item)
        elif name not in _FINISHED:
            self._line(item, name if name != "live" else wording.step(name, progress))

    def done(self, item: Item, receipt: dict[str, Any]) -> None:
        """Show what became of a file."""
        failed = receipt["state"] == "failed"
        if failed:
            self._failed(item, wording.problem(receipt["error"] or {}))
        if self._json:
            self._print(sys.stdout, json.dumps({"path": item.shown, **receipt}))
        elif not failed:
            self._print(sys.stdout, f"{item.said}: {wording.outcome(receipt, self._url)}")
        for warning in receipt.get("warnings") or ():
            if warning == NOTHING_CHANGED and not self._json:
                continue  # the line above says so
            self._print(sys.stderr, f"{item.said}: note: {warning}")
        self._end(item)

    def failed(self, item: Item, exc: RemoteError) -> None:
        """Show that there is no receipt of a file, or not in time."""
        self._failed(item, wording.failure(exc))
        if self._json:
            error = exc.document if "code" in exc.document else {"code": exc.code}
            document = {
                "path": item.shown,
                "id": exc.document.get("receipt"),
                "state": "received" if exc.document.get("receipt") else "failed",
                "error": {"detail": str(exc), **error},
            }
            self._print(sys.stdout, json.dumps(document))
        self._end(item)

    def interrupted(self, item: Item) -> None:
        """Show where a file is that is left alone: Ctrl-C."""
        self._failed(item, wording.interruption(item, self._sent.get(item.shown, 0)))
        self._end(item)

    def say(self, line: str) -> None:
        """Print a line that is about no upload."""
        self._print(sys.stderr, line)

    def _failed(self, item: Item, said: str) -> None:
        self._print(sys.stderr, f"headrace: {item.said}: {said}")

    def _end(self, item: Item) -> None:
        self._said.pop(item.shown, None)
        self._sent.pop(item.shown, None)
        if self._bars is not None:
            self._bars.remove(item)

    def _line(self, item: Item, said: str) -> None:
        """Print a line that is not what was said last."""
        if self._said.get(item.shown) != said:
            self._said[item.shown] = said
            self._print(sys.stderr, f"{item.said}: {said}")

    def _print(self, stream: TextIO, line: str) -> None:
        """Print a line; above the bars, if it goes to the terminal that they are on."""
        line = wording.printable(line)
        if self._bars is not None and stream.isatty():
            self._console.print(line)
        else:
            print(line, file=stream, flush=True)


class _Bars:
    """A bar for each file on its way: its bytes, then those of each step at the server."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            _Amount(),
            TextColumn("{task.fields[step]}", markup=False),
            _Elapsed(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def add(self, item: Item) -> None:
        self._tasks[item.shown] = self._progress.add_task(
            item.said, total=item.size, step=_SEND, begun_s=self._progress.get_time()
        )

    def sent(self, item: Item, count: int) -> None:
        # What the server had before is the first of them: rich counts no speed from that one.
        self._progress.update(self._tasks[item.shown], completed=count, total=item.size, step=_SEND)

    def step(self, item: Item, said: str, progress: dict[str, Any] | None) -> None:
        task = self._tasks[item.shown]
        self._progress.update(task, step=said)
        if progress is not None and progress.get("of_bytes"):
            self._progress.update(task, completed=progress["bytes"], total=progress["of_bytes"])

    def fill(self, item: Item) -> None:
        task = self._tasks[item.shown]
        size = self._progress.tasks[self._progress.task_ids.index(task)].total
        if size is not None:
            self._progress.update(task, completed=size)

    def remove(self, item: Item) -> None:
        self._progress.remove_task(self._tasks.pop(item.shown))


class _Elapsed(ProgressColumn):
    """How long a file takes; rich's own column stands still when all is sent."""

    def render(self, task: Task) -> Text:
        """Give the text of a bar."""
        return Text(f"{task.get_time() - task.fields['begun_s']:.1f} s")


class _Amount(ProgressColumn):
    """How many bytes of how many, and how fast."""

    def render(self, task: Task) -> Text:
        """Give the text of a bar."""
        total = "?" if task.total is None else wording.size(task.total)
        sending = task.fields["step"] == _SEND
        speed = f" {wording.size(task.speed)}/s" if task.speed and sending else ""
        return Text(f"{wording.size(task.completed)} of {total}{speed}")
