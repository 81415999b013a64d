"""Sends what the document allows, and what it does not, and compares the answers with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.engine.events import ScenarioFinished

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemathesis.engine.recorder import ScenarioRecorder

    from tests.e2e.conftest import System

# What tus 1.0 says where others say 400: Tus-Resumable, and a method that is none.
_REJECTED = ["400", "401", "403", "404", "405", "406", "409", "412", "413", "415", "422", "429"]
_OTHER_METHODS = ["DELETE", "PATCH", "PUT", "TRACE"]


@schemathesis.serializer("application/offset+octet-stream")
def _serialize(_context: Any, value: Any) -> bytes:
    """Send a piece of a resumable upload as it is."""
    return value if isinstance(value, bytes) else str(value).encode()


def compare(system: System, *, examples: int, seed: int) -> tuple[set[str], list[str]]:
    """Ask for every operation; give the operations that were, and what was not as it is declared.

    Args:
        system: A system that may be broken.
        examples: Random ones of each operation, besides those that the document calls for.
        seed: Of the random ones.
    """
    schema = schemathesis.openapi.from_url(
        f"{system.url}/ingest/openapi.json", config=_configure(system, examples, seed)
    )
    asked: set[str] = set()
    found: list[str] = []
    for event in from_schema(schema).execute():
        if isinstance(event, ScenarioFinished):
            if event.recorder.interactions:
                asked.add(event.recorder.label)
            found += _failures(event.recorder)
        elif isinstance(event, events.NonFatalError):
            found.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            found.append(repr(event.exception))
    return asked, found


def _configure(system: System, examples: int, seed: int) -> SchemathesisConfig:
    rejection = {"expected-statuses": _REJECTED}
    return SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "cache": {"enabled": False},
            "continue-on-failure": True,
            "headers": system.auth,
            "request-timeout": 30,
            "generation": {
                "max-examples": examples,
                "deterministic": True,
                "database": "none",
                "no-shrink": True,
            },
            "checks": {
                # Most texts are no file, name or option.
                "positive_data_acceptance": {"enabled": False},
                "negative_data_rejection": rejection,
                "missing_required_header": rejection,
            },
            "phases": {
                "coverage": {"unexpected-methods": _OTHER_METHODS},
                "stateful": {"enabled": False},
            },
        }
    )


def _failures(recorder: ScenarioRecorder) -> Iterator[str]:
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                failure = check.failure_info.failure
                response = recorder.interactions[case_id].response
                said = (response.status_code, response.content[:300]) if response else None
                yield (
                    f"{recorder.label}: {failure.title}: {failure.message}\n"
                    f"  {check.failure_info.code_sample}\n  {said}"
                )
