"""Every exception of Headrace.

::

    HeadraceError
    ├── ConfigError            settings that cannot work
    ├── StoreError             the object store did not do what was asked
    │   ├── ObjectChangedError the object is another by now
    │   ├── ObjectExistsError  a create-only put found the key taken
    │   └── ObjectMissingError the key is not there (or not yet)
    ├── LogError               the generation log says something it must not
    │   └── PrimaryLostError   this node no longer is the primary: somebody else published
    │       └── LeaseLostError …or has the lease
    ├── LtxError               an LTX file is damaged, or not what it says
    ├── LitestreamError        Litestream is down, or answered with an error
    ├── RestoreError           a copy could not be made
    │   └── ProofError         a copy was made, and is not what the generation says
    ├── WorkerError            a Datasette worker did not start, or failed its probe
    ├── RemoteError            a server that a command asked did not do it, for good
    │   ├── UnreachableError   it cannot be reached, or is not able to now
    │   ├── NotAllowedError    the token may not do that
    │   ├── LateError          it took the file, and is not done with it in time
    │   └── RefusedError       it said no, and why
    ├── RowsError              a write of rows that Datasette would refuse, in its own words
    └── Refusal                a request that is refused, with a stable code for the client

Messages are lowercase, verb then noun; what to do about it is the ``hint``.
"""

from __future__ import annotations

from enum import IntEnum
from http import HTTPStatus
from typing import Any

from headrace.exits import Exit


class HeadraceError(Exception):
    """The root: everything that Headrace raises on purpose.

    Attributes:
        hint: What a person can do about it, or None.
        exit_code: How a command ends that fails by it.
    """

    exit_code = Exit.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(HeadraceError):
    """Settings that cannot work."""


class StoreError(HeadraceError):
    """The object store did not do what was asked."""


class ObjectExistsError(StoreError):
    """A create-only put found the key taken."""


class ObjectMissingError(StoreError):
    """The key is not there, or not visible yet."""


class ObjectChangedError(StoreError):
    """The object is not the one any more that was looked at."""


class LogError(HeadraceError):
    """The generation log says something that it must not."""


class PrimaryLostError(LogError):
    """Somebody else published the next generation: this node no longer is the primary."""


class LeaseLostError(PrimaryLostError):
    """Somebody else has taken the lease: this node no longer is the primary."""


class LtxError(HeadraceError):
    """An LTX file is damaged, cut short, or is not what it says."""


class LitestreamError(HeadraceError):
    """Litestream is down, or answered with an error."""


class RestoreError(HeadraceError):
    """A copy could not be made, or could not be proven."""


class ProofError(RestoreError):
    """A copy was made, and is not what the generation says."""


class WorkerError(HeadraceError):
    """A Datasette worker did not start, or failed its probe."""


class RemoteError(HeadraceError):
    """A server that a command asked did not do it.

    Attributes:
        code: Of the problem document, or a word of the command's own.
        document: The problem document; empty if there was none.
    """

    code = "failed"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        document: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code or self.code
        self.document = document or {}


class UnreachableError(RemoteError):
    """It cannot be reached, or says that it is not able to now.

    Attributes:
        retry_after_s: How long it wants to be left alone; None: it did not say.
        is_first: Whether no connection was ever made: its URL may be wrong.
    """

    exit_code = Exit.UNREACHABLE
    code = "unreachable"
    retry_after_s: float | None = None
    is_first = False


class NotAllowedError(RemoteError):
    """There is no token, or it may not do that."""

    exit_code = Exit.NOT_ALLOWED
    code = "not-allowed"


class LateError(RemoteError):
    """It took the file, and is not done with it in time."""

    exit_code = Exit.LATE
    code = "late"


class RefusedError(RemoteError):
    """It said no, and why."""

    code = "refused"


class RowsError(HeadraceError):
    """A write of rows that Datasette would refuse.

    Attributes:
        errors: What is wrong, in Datasette's words.
        status: Of the answer.
    """

    def __init__(self, *errors: str, status: int = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors
        self.status = int(status)


class TusStatus(IntEnum):
    """Statuses that only tus knows. Source: tus 1.0.0, Checksum."""

    CHECKSUM_MISMATCH = 460


PROBLEM = "application/problem+json"  # RFC 9457
# Code -> (HTTP status, title). The codes are part of the interface: docs/reference/errors.md.
REFUSALS: dict[str, tuple[HTTPStatus | TusStatus, str]] = {
    "bad-request": (HTTPStatus.BAD_REQUEST, "The request is malformed"),
    "invalid-name": (HTTPStatus.BAD_REQUEST, "The name cannot be used"),
    "invalid-option": (HTTPStatus.BAD_REQUEST, "An option cannot be used"),
    "empty-file": (HTTPStatus.BAD_REQUEST, "The file is empty"),
    "incomplete-body": (HTTPStatus.BAD_REQUEST, "The upload ended before the file did"),
    "digest-mismatch": (HTTPStatus.BAD_REQUEST, "The bytes are not those of the digest sent"),
    "unauthorized": (HTTPStatus.UNAUTHORIZED, "A token is needed"),
    "forbidden": (HTTPStatus.FORBIDDEN, "That is not allowed"),
    "cross-site": (HTTPStatus.FORBIDDEN, "The request comes from another site"),
    "fetch-off": (HTTPStatus.FORBIDDEN, "Files are not fetched from URLs here"),
    "fetch-forbidden": (HTTPStatus.FORBIDDEN, "That URL is not fetched from"),
    "final-upload": (HTTPStatus.FORBIDDEN, "The upload was put together, and takes no bytes"),
    "not-found": (HTTPStatus.NOT_FOUND, "There is no such thing here"),
    "method-not-allowed": (HTTPStatus.METHOD_NOT_ALLOWED, "The path does not take this method"),
    "wrong-offset": (HTTPStatus.CONFLICT, "The upload is at another offset"),
    "bytes-gone": (HTTPStatus.GONE, "The bytes of the upload are not kept any more"),
    "table-exists": (HTTPStatus.CONFLICT, "The name is taken"),
    "in-flight": (HTTPStatus.CONFLICT, "The same request is being answered"),
    "tus-version": (HTTPStatus.PRECONDITION_FAILED, "The version of tus is not spoken here"),
    "too-large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The file is larger than the limit"),
    "key-reused": (HTTPStatus.UNPROCESSABLE_ENTITY, "The key belongs to another request"),
    "unknown-format": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The format of the file is not known"),
    "wrong-media-type": (
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "The body is not of the media type that is taken here",
    ),
    "invalid-file": (HTTPStatus.UNPROCESSABLE_ENTITY, "The file is broken"),
    "invalid-metadata": (HTTPStatus.UNPROCESSABLE_ENTITY, "The metadata cannot be used"),
    "encrypted-file": (HTTPStatus.UNPROCESSABLE_ENTITY, "The file is encrypted"),
    "unsafe-archive": (HTTPStatus.UNPROCESSABLE_ENTITY, "The archive is not safe to unpack"),
    "no-rows": (HTTPStatus.UNPROCESSABLE_ENTITY, "The file holds no table"),
    "limit-exceeded": (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The file needs more than the limits allow",
    ),
    "converter-failed": (HTTPStatus.UNPROCESSABLE_ENTITY, "The file could not be converted"),
    "converter-crashed": (HTTPStatus.UNPROCESSABLE_ENTITY, "The file could not be converted"),
    "wrong-type": (HTTPStatus.UNPROCESSABLE_ENTITY, "A value does not fit the type asked for"),
    "duplicate-key": (HTTPStatus.UNPROCESSABLE_ENTITY, "The key does not tell the rows apart"),
    "cannot-append": (HTTPStatus.UNPROCESSABLE_ENTITY, "The rows do not fit the table"),
    "too-many-requests": (HTTPStatus.TOO_MANY_REQUESTS, "Too many requests"),
    "upload-locked": (HTTPStatus.LOCKED, "The upload is in use, or cannot be looked at now"),
    "checksum-mismatch": (TusStatus.CHECKSUM_MISMATCH, "The bytes are not those of the checksum"),
    "internal-error": (HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here"),
    "primary-away": (HTTPStatus.SERVICE_UNAVAILABLE, "The primary cannot be reached"),
    "primary-lost": (HTTPStatus.SERVICE_UNAVAILABLE, "The primary broke off"),
    "lease-lapsed": (HTTPStatus.SERVICE_UNAVAILABLE, "The primary may not write now"),
    "replication-down": (HTTPStatus.SERVICE_UNAVAILABLE, "Replication is down"),
    "stopping": (HTTPStatus.SERVICE_UNAVAILABLE, "The server is stopping"),
    "not-there-yet": (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The reader does not serve that generation yet",
    ),
    "too-stale": (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The reader does not know whether it is up to date",
    ),
    "overloaded": (HTTPStatus.SERVICE_UNAVAILABLE, "Too many requests wait already"),
    "not-ready": (HTTPStatus.SERVICE_UNAVAILABLE, "The reader has no generation to serve yet"),
    "fetch-failed": (HTTPStatus.BAD_GATEWAY, "The file could not be fetched"),
    "worker-failed": (HTTPStatus.BAD_GATEWAY, "Datasette did not answer"),
    "timeout": (HTTPStatus.GATEWAY_TIMEOUT, "Datasette took too long"),
    "disk-full": (HTTPStatus.INSUFFICIENT_STORAGE, "The disk is full"),
}


class Refusal(HeadraceError):  # noqa: N818 - a refusal is an answer, not a defect
    """A request that is refused, for a reason that the client can act on.

    Attributes:
        code: One of ``REFUSALS``; stable, part of the interface.
        detail: One sentence about this occurrence. May name columns and line numbers, never values
            beyond the few characters that show what is wrong.
        line: 1-based line in the file, where there is one.
        column: 1-based column in that line, where there is one.
        extra: Further members of the problem document.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        hint: str | None = None,
        line: int | None = None,
        column: int | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, hint=hint)
        self.status, self.title = REFUSALS[code]
        self.code = code
        self.detail = detail
        self.line = line
        self.column = column
        self.extra = extra or {}

    def document(self) -> dict[str, Any]:
        """Give the problem document.

        Source: RFC 9457, section 3. ``code``, ``hint``, ``line`` and ``column`` are extensions.
        """
        return problem_document(
            self.code,
            self.detail,
            hint=self.hint,
            line=self.line,
            column=self.column,
            **self.extra,
        )


def problem_document(code: str, detail: str, **members: Any) -> dict[str, Any]:
    """Give the problem document of a code; members that are None are left out."""
    status, title = REFUSALS[code]
    document = {
        "type": f"urn:headrace:problem:{code}",
        "title": title,
        "status": status.value,
        "code": code,
        "detail": detail,
        **members,
    }
    return {name: value for name, value in document.items() if value is not None}
