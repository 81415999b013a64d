"""structlog without rich, which it loads where that happens to be installed.

rich is 4 MB of each process, and would show the local variables of a failure on a terminal: rows
and tokens. structlog shows the plain traceback where there is no rich.

Source: structlog 25, ``structlog/dev.py``.
"""

from __future__ import annotations

import importlib
import sys


def load_structlog() -> None:
    """Load structlog without rich; to be called before anything else loads it."""
    hidden = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment] # an import fails as if it were not there
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]
        if hidden is not None:
            sys.modules["rich"] = hidden
