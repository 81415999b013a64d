"""What happened, as Jepsen notes it: one operation after another, in memory and in a file.

An operation is noted when it has ended, with when it began, and with one of these outcomes:

========  ==========================================================================================
ok        It did what was asked for, and said so.
accepted  An upload was taken in (``202``): it will end as ok or fail.
fail      It was refused, for good: it changed nothing, and never will.
info      Nobody knows: no answer, or one that says to try again. It may have happened, or not.
========  ==========================================================================================

Operations by name (``f``), and what their value holds:

- ``upload``: ``key``, ``kind``, ``good`` (whether its files are), ``sha256`` (of each file),
  ``url``, ``status``, ``code``, and the ``receipts`` of the answer: ``id``, ``sha256``, ``state``,
  ``generation``.
- ``receipt``: the same, of one receipt.
- ``rows``: the ``number`` of a request of the write API, its ``database``, and the ``generation``
  of its answer; ``table``: the deletion or making of a table.
- ``read``: ``reader``, ``generation``, and ``tables`` (name: rows, batches, sum of the values) of
  one ``database``, the ``rows`` of every database, or the ``numbers`` that were written as rows.
- ``down`` and ``up`` of a ``reader``: in between its process is not there, or not ready since.
- ``settle``, after everything was healed: the ``newest`` generation, and what is ``shown``.
- ``verify``: ``volume``, ``said``.
- ``fault`` and ``heal`` of the nemesis, ``exit`` of a process.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

Outcome = Literal["ok", "accepted", "fail", "info"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation.

    Attributes:
        f: Its name.
        process: Who did it.
        began_s: When it began, in seconds since the history did.
        ended_s: When its outcome was known.
        outcome: How it ended.
        value: What was asked and answered.
    """

    f: str
    process: str
    began_s: float
    ended_s: float
    outcome: Outcome
    value: dict[str, Any] = field(default_factory=dict)


class History:
    """The operations so far; threads may note at once.

    Args:
        path: A file that gets one line of JSON for each.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._operations: list[Operation] = []
        self._lock = threading.Lock()
        self._file = path.open("a", buffering=1)
        self._zero_s = time.monotonic()

    def now_s(self) -> float:
        """Give the seconds since the history began."""
        return round(time.monotonic() - self._zero_s, 4)

    def note(
        self,
        f: str,
        process: str,
        outcome: Outcome = "ok",
        *,
        began_s: float | None = None,
        **value: Any,
    ) -> Operation:
        """Note an operation that ends now; without a begin it took no time."""
        with self._lock:
            ended_s = self.now_s()
            operation = Operation(
                f=f,
                process=process,
                began_s=ended_s if began_s is None else began_s,
                ended_s=ended_s,
                outcome=outcome,
                value=value,
            )
            self._operations.append(operation)
            self._file.write(json.dumps(asdict(operation)) + "\n")
        return operation

    def operations(self) -> list[Operation]:
        """Give what was noted so far, by the time of its end."""
        with self._lock:
            return list(self._operations)

    def count(self) -> Counter[str]:
        """Count the operations by name and outcome, and the faults by their names."""
        counted: Counter[str] = Counter()
        for each in self.operations():
            name = each.value["name"] if each.f == "fault" else each.outcome
            counted[f"{each.f} {name}"] += 1
        return counted

    def close(self) -> None:
        """Close the file."""
        self._file.close()
