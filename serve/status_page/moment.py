"""Times on pages: as text, and for the script that makes an age of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.generation import format_time, parse_time
from serve.metadata import format_moment

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A time.

    Attributes:
        text: For people.
        iso: RFC 3339.
    """

    text: str
    iso: str

    @classmethod
    def of(cls, at: datetime) -> Moment:
        """Write a time."""
        return cls(text=format_moment(at), iso=format_time(at))

    @classmethod
    def read(cls, text: str | None) -> Moment | None:
        """Write a time that came as RFC 3339, if it is known."""
        return None if text is None else cls.of(parse_time(text))
