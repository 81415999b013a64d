"""Who watches uploads: a bounded number at once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.metrics import IngestMetrics

MAX_WATCHERS = 500  # each is an open connection


class Watchers:
    """Those who watch uploads now."""

    def __init__(self, metrics: IngestMetrics) -> None:
        self._count = 0
        metrics.watchers.set_function(lambda: self._count)
        metrics.headroom.watch("watchers", lambda: self._count / MAX_WATCHERS)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one more while the block runs.

        Raises:
            Refusal: ``overloaded``.
        """
        if self._count >= MAX_WATCHERS:
            raise Refusal(
                "overloaded",
                f"{MAX_WATCHERS} watch uploads already",
                hint="ask for the receipt without waiting, or again later",
            )
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
