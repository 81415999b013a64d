"""Logging: structlog, JSON lines on standard error, or colours on a terminal.

Events are fixed phrases; facts stand in their own keys. Never row contents, tokens or signed URLs.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs(node: str) -> None:
    """Set up logging of this process; every line carries the node's name."""
    renderer: list[structlog.typing.Processor]
    if sys.stderr.isatty():
        plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        renderer = [plain]
    else:
        # Not `dict_tracebacks`: that shows the local variables of each frame, tokens among them.
        frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        exceptions = structlog.processors.ExceptionRenderer(frames)
        renderer = [exceptions, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(node=node)
