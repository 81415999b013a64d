"""Several writes of rows in one request from a reader to the primary, each with its own answer.

The request is a JSON list of them. The answer is a line of JSON for each, as soon as it is there:
they come in any order, and each says which it is for. Bytes are text of Latin-1, which keeps them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PATH = "/-/rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One write: a POST.

    Attributes:
        target: Its path and query.
        headers: Its headers, as they would be sent on alone.
        body: Its body.
    """

    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The answer to one.

    Attributes:
        status: Of HTTP.
        headers: Its headers.
        body: Its body.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def encode_bundle(bundle: Iterable[Asked]) -> bytes:
    """Give the body of a request."""
    return json.dumps(
        [(each.target, each.headers, each.body.decode("latin-1")) for each in bundle]
    ).encode()


def decode_bundle(body: bytes) -> list[Asked]:
    """Read the body of a request."""
    return [
        Asked(target=target, headers=headers, body=text.encode("latin-1"))
        for target, headers, text in json.loads(body)
    ]


def encode_answer(number: int, answered: Answered) -> bytes:
    """Give the line that answers one of a bundle, from 0."""
    text = answered.body.decode("latin-1")
    return json.dumps((number, answered.status, answered.headers, text)).encode() + b"\n"


def decode_answer(line: bytes) -> tuple[int, Answered]:
    """Read such a line."""
    number, status, headers, text = json.loads(line)
    return number, Answered(status=status, headers=headers, body=text.encode("latin-1"))
