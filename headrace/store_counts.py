"""What was asked of an object store: requests, errors and bytes, by operation. Pure.

Counted are requests as a store bills them, but for tries that obstore repeats by itself.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Operation(StrEnum):
    """What a request does."""

    GET = "get"
    HEAD = "head"
    LIST = "list"
    PUT = "put"
    CREATE = "create"  # a put that fails if there is such an object
    MULTIPART = "multipart"  # beginning, each part, and the end
    DELETE = "delete"


class StoreCounts:
    """Counts of one program.

    Attributes:
        requests: How many were sent.
        errors: How many were not answered as the store should; that there is no such object, or
            that there is one already, is an answer.
        transferred_bytes: Of the bodies, read or written.
        seconds: How long was waited for answers; nothing of who does not tell.
    """

    def __init__(self) -> None:
        self.requests = Counter[Operation]()
        self.errors = Counter[Operation]()
        self.transferred_bytes = Counter[Operation]()
        self.seconds: dict[Operation, float] = {}

    def wait(self, operation: Operation, seconds: float) -> None:
        """Count time that was waited."""
        self.seconds[operation] = self.seconds.get(operation, 0.0) + seconds

    def encode(self) -> dict[str, dict[str, float]]:
        """Give them as JSON has them."""
        counted: dict[str, Mapping[Operation, float]] = {
            "requests": self.requests,
            "errors": self.errors,
            "transferred_bytes": self.transferred_bytes,
            "seconds": self.seconds,
        }
        return {
            name: {str(operation): count for operation, count in counter.items()}
            for name, counter in counted.items()
        }

    def add(self, document: Mapping[str, Mapping[str, Any]]) -> None:
        """Add what another process counted, as ``encode`` gives it."""
        for operation, seconds in document.get("seconds", {}).items():
            self.wait(Operation(operation), seconds)
        for name, counted in document.items():
            if name == "seconds":
                continue
            counter: Counter[Operation] = getattr(self, name)
            counter.update({Operation(operation): count for operation, count in counted.items()})
