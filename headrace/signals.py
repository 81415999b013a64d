"""SIGINT and SIGTERM set an event; what they mean is decided where it is waited for."""

from __future__ import annotations

import asyncio
import signal


def stop_signals() -> asyncio.Event:
    """Give an event that is set by the first SIGINT or SIGTERM to this process."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, event.set)
    return event
