"""Uploads that were heard of: how long each takes from its arrival until it is shown here.

The log's entries say when what they publish had arrived, by the primary's clock; the end is by this
reader's. Time in which this machine slept, or this process was not there, is nobody's: then it
counts from the waking.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headrace.generation import parse_time
from headrace.tracing import TRACEPARENT, record, trace_id_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.generation import State
    from serve.clock import Clock
    from serve.metrics import ReaderMetrics
    from serve.states import Step

MOST_WAITING = 1000  # uploads between two switches
# What goes into metrics as it is. Source: OpenMetrics 1.0, an exemplar has 128 characters at most.
_ID = re.compile(r"[!-~]{0,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upload:
    """What one generation publishes.

    Attributes:
        generation: Its number.
        receipt: Id of its receipt.
        since: From when on it could have been shown here.
        heard_at: When it was heard of.
        traceparent: The span that published it; None if it is not traced.
    """

    generation: int
    receipt: str
    since: datetime
    heard_at: datetime
    traceparent: str | None


class Heard:
    """What was heard of, and is not in service yet.

    Args:
        metrics: Shows how long it took, and takes.
        clock: Notices when this machine slept.
    """

    def __init__(self, metrics: ReaderMetrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._naps = clock.naps
        self._awake_since = datetime.now(UTC)
        self._uploads: deque[_Upload] = deque(maxlen=MOST_WAITING)
        self._newest = -1
        metrics.lag.set_function(self._lag_s)

    def note(self, state: State) -> None:
        """Take note of a generation that was heard of; each counts once."""
        if self._naps != self._clock.naps:
            self._naps, self._awake_since = self._clock.naps, datetime.now(UTC)
        if state.number <= self._newest:
            return
        self._newest = state.number
        arrived_at = _find_arrival(state.cause)
        receipt, traceparent = state.cause.get("receipt", ""), state.cause.get(TRACEPARENT)
        if arrived_at is None or not _ID.fullmatch(receipt) or not _ID.fullmatch(traceparent or ""):
            return  # it is no upload's, or nonsense: this is in nobody's way
        self._uploads.append(
            _Upload(
                generation=state.number,
                receipt=receipt,
                since=max(arrived_at, self._awake_since),
                heard_at=datetime.now(UTC),
                traceparent=traceparent,
            )
        )

    def note_served(self, number: int, steps: Mapping[Step, float], *, first: bool) -> None:
        """Take note that a generation is in service.

        Args:
            number: The generation.
            steps: Seconds of each step that led there.
            first: Whether none was before it: then nothing was waited for.
        """
        while self._uploads and self._uploads[0].generation <= number:
            upload = self._uploads.popleft()
            if first:
                continue
            exemplar = {"receipt": upload.receipt}
            if upload.traceparent is not None:
                exemplar["trace_id"] = trace_id_of(upload.traceparent)
                record(
                    "bring up",
                    upload.traceparent,
                    begun_at=upload.heard_at,
                    ended_at=datetime.now(UTC),
                    parts={step.value: took_s for step, took_s in steps.items()},
                    receipt=upload.receipt,
                    generation=str(number),
                )
            self._metrics.live_seconds.observe(_age_s(upload.since), exemplar)

    def _lag_s(self) -> float:
        return _age_s(self._uploads[0].since) if self._uploads else 0.0


def _find_arrival(cause: Mapping[str, str]) -> datetime | None:
    """Find when an upload had arrived; None if a generation is of none."""
    try:
        return parse_time(cause["arrived_at"])
    except (KeyError, ValueError, OverflowError):
        return None


def _age_s(since: datetime) -> float:
    return max((datetime.now(UTC) - since).total_seconds(), 0.0)
