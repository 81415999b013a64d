"""Conversions by a nursery of their own."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ingest.convert import convert
from ingest.nursery import Nursery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ingest.converters import Conversion, Converted, Limits


@asynccontextmanager
async def nursery_in(scratch: Path) -> AsyncIterator[Nursery]:
    """Give a nursery, and end it."""
    nursery = Nursery(scratch)
    try:
        yield nursery
    finally:
        await nursery.close()


async def convert_alone(conversion: Conversion, *, limits: Limits, scratch: Path) -> Converted:
    """Convert one file."""
    async with nursery_in(scratch) as nursery:
        return await convert(conversion, limits=limits, nursery=nursery)
