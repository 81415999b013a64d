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
from typing import Any, NamedTuple

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


class RefusalKind(NamedTuple):
    """What a code stands for: its HTTP status, a title, and when it is the answer."""

    status: HTTPStatus | TusStatus
    title: str
    when: str


# The codes are part of the interface; docs/reference/errors.md is made of this table.
REFUSALS: dict[str, RefusalKind] = {
    "bad-request": RefusalKind(
        HTTPStatus.BAD_REQUEST,
        "The request is malformed",
        "the request or the form cannot be read",
    ),
    "invalid-name": RefusalKind(
        HTTPStatus.BAD_REQUEST,
        "The name cannot be used",
        "a database or table name is empty, too long, reserved, or leaves the folder; or there "
        "is no name at all",
    ),
    "invalid-option": RefusalKind(
        HTTPStatus.BAD_REQUEST,
        "An option cannot be used",
        "an option or its value is not known, or the manifest of a dropped file says another "
        "database than its path; it is not for this format (`known` lists those that it is "
        "for); `mode=upsert` without a key",
    ),
    "empty-file": RefusalKind(
        HTTPStatus.BAD_REQUEST,
        "The file is empty",
        "no bytes, or only white space",
    ),
    "incomplete-body": RefusalKind(
        HTTPStatus.BAD_REQUEST,
        "The upload ended before the file did",
        "the connection ended before the file did, or not as many bytes came as were announced",
    ),
    "digest-mismatch": RefusalKind(
        HTTPStatus.BAD_REQUEST,
        "The bytes are not those of the digest sent",
        "`Content-Digest` or `Repr-Digest` says another SHA-256 than what arrived",
    ),
    "unauthorized": RefusalKind(
        HTTPStatus.UNAUTHORIZED,
        "A token is needed",
        "no token, or one that is not known, has expired or was revoked",
    ),
    "forbidden": RefusalKind(
        HTTPStatus.FORBIDDEN,
        "That is not allowed",
        "who asks may not do that: the token's scopes do not allow it. It does not say whether "
        "there is such a database",
    ),
    "cross-site": RefusalKind(
        HTTPStatus.FORBIDDEN,
        "The request comes from another site",
        "a write that is authorised by a cookie does not come from a page of this very host",
    ),
    "fetch-off": RefusalKind(
        HTTPStatus.FORBIDDEN,
        "Files are not fetched from URLs here",
        "files are not fetched from URLs here, since `--fetch` does not allow it",
    ),
    "fetch-forbidden": RefusalKind(
        HTTPStatus.FORBIDDEN,
        "That URL is not fetched from",
        "the URL, or where it redirects to, is not of what `--fetch` names, or its host has an "
        "address that is not public",
    ),
    "final-upload": RefusalKind(
        HTTPStatus.FORBIDDEN,
        "The upload was put together, and takes no bytes",
        "bytes for a resumable upload that was put together out of parts",
    ),
    "not-found": RefusalKind(
        HTTPStatus.NOT_FOUND,
        "There is no such thing here",
        "no such path, receipt, database or table; no such resumable upload, or not any more",
    ),
    "method-not-allowed": RefusalKind(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "The path does not take this method",
        "the path does not take this method",
    ),
    "wrong-offset": RefusalKind(
        HTTPStatus.CONFLICT,
        "The upload is at another offset",
        "`Upload-Offset` is not how far the resumable upload is; `offset` says that",
    ),
    "bytes-gone": RefusalKind(
        HTTPStatus.GONE,
        "The bytes of the upload are not kept any more",
        "the bytes of an upload that was on its way, or is to be reprocessed, are not in the "
        "object store (any more), or are others than were sent; a part of a resumable upload "
        "went into another one",
    ),
    "table-exists": RefusalKind(
        HTTPStatus.CONFLICT,
        "The name is taken",
        "`mode=create`, and the table is there; or a view, an index or a search has its name; "
        "or `<table>_rejects` is somebody's own table",
    ),
    "in-flight": RefusalKind(
        HTTPStatus.CONFLICT,
        "The same request is being answered",
        "a request with the same `Idempotency-Key` is being answered; an upload that is to be "
        "reprocessed is still on its way",
    ),
    "tus-version": RefusalKind(
        HTTPStatus.PRECONDITION_FAILED,
        "The version of tus is not spoken here",
        "`Tus-Resumable` is missing, or is not 1.0.0",
    ),
    "too-large": RefusalKind(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "The file is larger than the limit",
        "the body is over `--max-upload`",
    ),
    "key-reused": RefusalKind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The key belongs to another request",
        "another request had this `Idempotency-Key` in the last 24 hours: other bytes, or other"
        " options",
    ),
    "unknown-format": RefusalKind(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "The format of the file is not known",
        "the content is of no known format; `known` lists those",
    ),
    "wrong-media-type": RefusalKind(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "The body is not of the media type that is taken here",
        "bytes of a resumable upload that are not `application/offset+octet-stream`, or have a "
        "`Content-Encoding`",
    ),
    "invalid-file": RefusalKind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The file is broken",
        "the file is broken: ragged rows, bad syntax, a SQLite file that fails `quick_check`",
    ),
    "invalid-metadata": RefusalKind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The metadata cannot be used",
        "what is said about a database cannot be shown; `pointer` says where (a JSON pointer), "
        "`file` in which file of an archive",
    ),
    "encrypted-file": RefusalKind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The file is encrypted",
        "a SQLite file, or a file in a zip archive, that is encrypted",
    ),
    "unsafe-archive": RefusalKind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The archive is not safe to unpack",
        "an archive with names that leave its folder, with links or with devices; `file` says "
        "which",
    ),
    "no-rows": RefusalKind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The file holds no table",
        "the file has nothing that makes a table",
    ),
    "limit-exceeded": RefusalKind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The file needs more than the limits allow",
        "more than a conversion may use, or than a file may hold; `limit` says of what",
    ),
    "converter-failed": RefusalKind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The file could not be converted",
        "a converter that was added (a plugin, or a command of `headrace.toml`) could not "
        "convert the file; `stderr` has a command's last lines",
    ),
    "converter-crashed": RefusalKind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The file could not be converted",
        "the converter's process ended unexpectedly on this file",
    ),
    "wrong-type": RefusalKind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "A value does not fit the type asked for",
        "a value cannot be had as the type that `types` or `strict` asks for, without loss; row"
        " or line, and value, are named",
    ),
    "duplicate-key": RefusalKind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The key does not tell the rows apart",
        "rows share a value of `pk`, or have none; the first are named",
    ),
    "cannot-append": RefusalKind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The rows do not fit the table",
        "the rows break a rule of the table, or its key does not tell them apart",
    ),
    "too-many-requests": RefusalKind(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many requests",
        "one address has more requests running than `--client-concurrency`; a token or an "
        "address writes more often than `--token-rate` or `--address-rate`; or "
        "`--queue-uploads` uploads are on their way. `Retry-After`, and `retry_after` in the "
        "document, say in how many seconds to send it again",
    ),
    "upload-locked": RefusalKind(
        HTTPStatus.LOCKED,
        "The upload is in use, or cannot be looked at now",
        "another request for the resumable upload came, or is being answered; or nobody knows "
        "now how far it is. Ask for its offset again, and go on there",
    ),
    "checksum-mismatch": RefusalKind(
        TusStatus.CHECKSUM_MISMATCH,
        "The bytes are not those of the checksum",
        "the bytes of a request are not those of `Upload-Checksum`; none of them was kept",
    ),
    "internal-error": RefusalKind(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "Something went wrong here",
        "a defect; the server's log has it",
    ),
    "primary-away": RefusalKind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The primary cannot be reached",
        "the reader cannot reach the primary, and cannot do without it (an upload: it has no "
        "token to check yours by, or yours is known to the primary alone)",
    ),
    "primary-lost": RefusalKind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The primary broke off",
        "the connection to the primary broke in the middle of an upload: send it again, with "
        "the same `Idempotency-Key`",
    ),
    "lease-lapsed": RefusalKind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The primary may not write now",
        "the primary could not renew its lease in the object store, so another may take over",
    ),
    "replication-down": RefusalKind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Replication is down",
        "Litestream is down, so nothing could be kept",
    ),
    "stopping": RefusalKind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The server is stopping",
        "the primary is stopping, and has kept nothing of the file (of a resumable upload: what"
        " had come); or a reader says so at `/-/readyz`",
    ),
    "not-there-yet": RefusalKind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The reader does not serve that generation yet",
        "the reader does not serve the generation of `Headrace-Min-Generation` within 5 s",
    ),
    "too-stale": RefusalKind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The reader does not know whether it is up to date",
        "the reader last knew that it was up to date longer ago than `--max-staleness`, and did"
        " not hear more within 5 s",
    ),
    "overloaded": RefusalKind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Too many requests wait already",
        "as many requests wait for Datasette as `--queue-length` lets; 500 watch uploads "
        "already; 10,000 resumable uploads are unfinished",
    ),
    "not-ready": RefusalKind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The reader has no generation to serve yet",
        "the reader has no generation to serve yet",
    ),
    "fetch-failed": RefusalKind(
        HTTPStatus.BAD_GATEWAY,
        "The file could not be fetched",
        "the server of the URL cannot be reached, answers something else than the file "
        "(`upstream_status`), redirects more than five times, or takes longer than "
        "`--fetch-time`",
    ),
    "worker-failed": RefusalKind(
        HTTPStatus.BAD_GATEWAY,
        "Datasette did not answer",
        "Datasette did not answer, or did not say who is signed in",
    ),
    "timeout": RefusalKind(
        HTTPStatus.GATEWAY_TIMEOUT,
        "Datasette took too long",
        "Datasette did not answer within `--request-timeout`",
    ),
    "disk-full": RefusalKind(
        HTTPStatus.INSUFFICIENT_STORAGE,
        "The disk is full",
        "the upload would need what is kept free for replication (`--disk-reserve`): "
        "`free_bytes`, `reserve_bytes`",
    ),
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
        self.status, self.title, _ = REFUSALS[code]
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
    status, title, _ = REFUSALS[code]
    document = {
        "type": f"urn:headrace:problem:{code}",
        "title": title,
        "status": status.value,
        "code": code,
        "detail": detail,
        **members,
    }
    return {name: value for name, value in document.items() if value is not None}
