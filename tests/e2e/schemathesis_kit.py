"""Sends what the document allows, and what it does not, and compares the answers with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.engine.events import ScenarioFinished

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from schemathesis.engine.recorder import ScenarioRecorder

    from tests.e2e.conftest import System

# What tus 1.0 says where others say 400: Tus-Resumable, and a method that is none.
_REJECTED = [
    "400",
    "401",
    "403",
    "404",
    "405",
    "406",
    "409",
    "410",
    "412",
    "413",
    "415",
    "422",
    "429",
]
# They take what others take: options of an upload, headers of tus.
_LIKE_OTHERS = [
    "post_receipts_id_reprocess",
    "post_preview",
    "post_tus_id",
    "post_database_table_upsert",
    "post_upsert_database_table",
]
_OTHER_METHODS = ["DELETE", "PATCH", "PUT", "TRACE"]


@schemathesis.serializer("application/offset+octet-stream")
def _serialize(_context: Any, value: Any) -> bytes:
    """Send a piece of a resumable upload as it is."""
    return value if isinstance(value, bytes) else str(value).encode()


def compare(
    system: System, *, examples: int, seed: int, thorough: bool
) -> tuple[set[str], list[str]]:
    """Ask for every operation; give the operations that were, and what was not as it is declared.

    Args:
        system: A system that may be broken.
        examples: Random ones of each operation, besides those that the document calls for.
        seed: Of the random ones.
        thorough: Whether also to ask for all that the document calls for of operations that take
            what others take.
    """
    schema = schemathesis.openapi.from_url(
        f"{system.url}/ingest/openapi.json",
        config=_configure(system, examples, seed, thorough=thorough),
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


class Document:
    """The document of a system, to hold single answers to."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._document = system.client.get("/ingest/openapi.json").json()
        self._schema = schemathesis.openapi.from_dict(self._document)

    def ask(
        self,
        method: str,
        path: str,
        status: int,
        pieces: Mapping[str, str] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        json: Any = None,
        form: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send a request; give the JSON of its answer, which is as declared.

        Args:
            method: Of the operation.
            path: Its path, as the document has it.
            status: That is expected.
            pieces: What stands in the path.
            query: Its parameters.
            body: Bytes to send.
            json: JSON to send.
            form: Files to send.
        """
        answer = self._system.client.request(
            method,
            path.format(**(pieces or {})),
            params=query,
            content=body,
            json=json,
            headers=self._system.auth,
            **(form or {}),
        )
        assert answer.status_code == status, answer.text
        answer.request.read()  # the check looks at it
        self._schema[path][method].validate_response(answer)
        if answer.headers["Content-Type"].partition(";")[0] != "application/json":
            return None
        said = self._document["paths"][path][method.lower()]["responses"][str(status)]
        schema = said["content"]["application/json"]["schema"]
        assert not self._undeclared(answer.json(), schema)
        return answer.json()

    def _undeclared(self, value: Any, schema: Mapping[str, Any]) -> set[str]:
        """Name members that no schema has."""
        parts = [schema, *schema.get("anyOf", [])]
        names = [each["$ref"].rpartition("/")[2] for each in parts if "$ref" in each]
        if not names:
            items = value if isinstance(value, list) else []
            inner = schema.get("items", {})
            return {name for each in items for name in self._undeclared(each, inner)}
        properties: dict[str, Any] = {}
        for name in names:
            properties |= self._document["components"]["schemas"][name]["properties"]
        if not isinstance(value, dict):
            return set()
        within = {
            name
            for key, member in value.items()
            for name in self._undeclared(member, properties.get(key, {}))
        }
        return (value.keys() - properties.keys()) | within


def _configure(system: System, examples: int, seed: int, *, thorough: bool) -> SchemathesisConfig:
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
            "operations": [
                {"include-operation-id": each, "phases": {"coverage": {"enabled": False}}}
                for each in (() if thorough else _LIKE_OTHERS)
            ],
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
