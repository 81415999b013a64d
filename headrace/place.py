"""Where a node runs, as it tells others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.config import PlaceSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A region, and the machine in it.

    Attributes:
        region: Its name.
        machine: The machine's name; None: nobody said it.
        address: Of the machine in the private network; None: nobody said it.
    """

    region: str
    machine: str | None = None
    address: str | None = None

    @classmethod
    def of(cls, settings: PlaceSettings) -> Place:
        """Take what the settings say."""
        return cls(region=settings.region, machine=settings.machine, address=settings.address)
