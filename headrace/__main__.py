"""``headrace``, and ``python -m headrace``."""

from __future__ import annotations

import os
import sys
import traceback

from headrace.plain_logs import load_structlog

load_structlog()

from headrace.cli import main  # noqa: E402 - which loads structlog


def run() -> None:
    """Run the command line, and end without taking Python down piece by piece.

    obstore's threads are not ended with it: one that wakes up while Python is being finalized
    aborts the process, so a command that had done its work ended with SIGABRT (one in three that
    had just asked the store). Source: PyO3/pyo3-async-runtimes, issue 40.
    """
    code: object = 1
    try:
        main()
    except SystemExit as exc:
        code = exc.code or 0
    except BaseException:  # noqa: BLE001 - it is printed, as Python would
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    run()
