"""Uploads that a reader took while the primary was away, as the primary finds them.

::

    uploads/<receipt id>/<name>                      the bytes of each file, as the primary would
    incoming/_headrace/receipts/<receipt id>.json    its receipt, until the primary has it
    incoming/_headrace/requests/<request id>.json    what was asked for: put-if-absent, and last

So what has no third object is no upload, and is deleted when its retention is over. A request with
an ``Idempotency-Key`` has an id that follows from it: sent again, to whichever reader, it finds the
first.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headrace.errors import LogError, ObjectMissingError
from headrace.generation import format_time, parse_time
from headrace.keys import incoming_key, incoming_receipt_key
from headrace.options import read_target
from headrace.receipt import Receipt, UploadState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from headrace.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingFile:
    """One file of such a request.

    Attributes:
        receipt_id: Of its receipt.
        filename: Its name without folders.
        media_type: As the client sent it; None if it said nothing.
        bytes: Its size.
        sha256: 64 hex digits.
        archive: Key of its bytes.
    """

    receipt_id: str
    filename: str
    media_type: str | None
    bytes: int
    sha256: str
    archive: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingRequest:
    """One request that a reader took.

    Attributes:
        key: Its ``Idempotency-Key``, if it had one.
        fields: Its options, as they were sent.
        files: Its files.
        arrived_at: When it was there, by the reader's clock.
        reader: Id of the reader.
        region: That it is in.
        address: Where it was sent from.
        traceparent: The span of the request; None if it is not traced.
    """

    key: str | None
    fields: Mapping[str, str]
    files: tuple[IncomingFile, ...]
    arrived_at: datetime
    reader: str
    region: str
    address: str = ""
    traceparent: str | None = None

    @property
    def id(self) -> str:
        """32 hex digits: of the key, else of the first receipt."""
        if self.key is None:
            return self.files[0].receipt_id
        return hashlib.sha256(self.key.encode()).hexdigest()[:32]

    def receipts(self) -> list[Receipt]:
        """Give the receipts of its files, as they are until the primary has them.

        Raises:
            Refusal: A file's name or an option cannot be used.
        """
        return [self._receipt(each) for each in self.files]

    def _receipt(self, file: IncomingFile) -> Receipt:
        target = read_target(self.fields, file.filename)
        return Receipt(
            id=file.receipt_id,
            state=UploadState.RECEIVED,
            filename=target.filename,
            bytes=file.bytes,
            sha256=file.sha256,
            archive=file.archive,
            database=target.database,
            mode=target.mode,
            warnings=target.warnings,
            created_at=self.arrived_at,
        )

    def encode(self) -> bytes:
        """Give the JSON form."""
        document = {
            "key": self.key,
            "fields": dict(self.fields),
            "files": [asdict(each) for each in self.files],
            "arrived_at": format_time(self.arrived_at),
            "reader": self.reader,
            "region": self.region,
            "address": self.address,
        }
        if self.traceparent is not None:
            document["traceparent"] = self.traceparent
        return json.dumps(document, ensure_ascii=False).encode()

    @classmethod
    def decode(cls, body: bytes) -> IncomingRequest:
        """Read the JSON form.

        Raises:
            LogError: It is none.
        """
        try:
            values: dict[str, Any] = json.loads(body)
            files = tuple(IncomingFile(**each) for each in values.pop("files"))
            arrived_at = parse_time(values.pop("arrived_at"))
            if not files:
                raise ValueError("it has no files")
            return cls(files=files, arrived_at=arrived_at, **values)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise LogError(f"cannot read an incoming request: {exc!r}") from exc


async def find_incoming(store: Store, request_id: str) -> IncomingRequest | None:
    """Read a request by its id.

    Raises:
        LogError: It cannot be read.
        StoreError: The store could not be asked.
    """
    try:
        return IncomingRequest.decode(await store.read(incoming_key(request_id)))
    except ObjectMissingError:
        return None


async def find_incoming_receipt(store: Store, receipt_id: str) -> Receipt | None:
    """Read the receipt of an upload that the primary has not taken yet.

    Raises:
        StoreError: The store could not be asked.
    """
    try:
        return Receipt.decode(json.loads(await store.read(incoming_receipt_key(receipt_id))))
    except ObjectMissingError:
        return None
