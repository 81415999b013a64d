"""Tell a container engine whether the node beside it is well: ``python -m headrace.healthcheck``.

It does not know which node that is, nor its flags: it asks where the variables say, or else the
defaults. A reader is well when it is ready, a primary when it takes uploads, a standby when it is
there.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ANSWER_S = 4.0
_QUESTIONS = (
    ("HEADRACE_PORT", 8000, "/-/readyz"),
    ("HEADRACE_PORT", 8100, "/-/healthz"),
    ("HEADRACE_METRICS_PORT", 8200, "/-/healthz"),
)
_OK, _NOT_FOUND = 200, 404


def find_fault(env: Mapping[str, str]) -> str | None:
    """Ask the node that is there; None if it is well, else what is wrong."""
    host = env.get("HEADRACE_HOST", "127.0.0.1")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - only compared
    fault = "nobody answers"
    for variable, default, path in _QUESTIONS:
        asked = HTTPConnection(host, int(env.get(variable, default)), timeout=ANSWER_S)
        try:
            asked.request("GET", path)
            answer = asked.getresponse()
            said = answer.read().decode(errors="replace")
        except (OSError, HTTPException) as exc:
            fault = f"{path}: {exc}"
            continue
        finally:
            asked.close()
        if answer.status != _NOT_FOUND:
            return None if answer.status == _OK else f"{path}: {answer.status} {said}"
    return fault


if __name__ == "__main__":
    sys.exit(find_fault(os.environ))
