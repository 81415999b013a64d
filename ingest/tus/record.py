"""What is known of one resumable upload."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headrace.generation import format_time, parse_time
from headrace.tus_metadata import Description, describe, read_metadata
from ingest.tus.protocol import PATH, read_parts

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TusUpload:
    """One upload, as its client made it, and how far it is.

    Attributes:
        id: 32 hex digits that cannot be guessed.
        owner: Who made it.
        address: Where he wrote from.
        metadata: ``Upload-Metadata``, as it was sent.
        length: Bytes that it will have; None: the client does not know yet.
        offset: Bytes that are here, durably.
        concat: ``Upload-Concat``, as it was sent; None: neither a part nor made of parts.
        key: ``Idempotency-Key`` of its request; None if there was none.
        touched_at: When bytes came last.
        final: Of a part, the upload that it went into; None as long as it is in none.
        receipt: Id of the receipt; None until all bytes are here.
        finished: Whether everything was done with the bytes, and they are not here any more.
    """

    id: str
    owner: str
    address: str
    metadata: str
    length: int | None
    concat: str | None
    key: str | None
    touched_at: datetime
    offset: int = 0
    final: str | None = None
    receipt: str | None = None
    finished: bool = False

    @property
    def path(self) -> str:
        """Where it is found."""
        return f"{PATH}/{self.id}"

    @property
    def description(self) -> Description:
        """What its metadata say."""
        return describe(read_metadata(self.metadata))

    @property
    def parts(self) -> tuple[str, ...]:
        """The ids of what it is made of."""
        return read_parts(self.concat) or ()

    @property
    def is_partial(self) -> bool:
        """Whether it is a part, of which nothing is done by itself."""
        return self.concat == "partial"

    @property
    def is_whole(self) -> bool:
        """Whether all bytes are here."""
        return self.offset == self.length

    @property
    def is_due(self) -> bool:
        """Whether all bytes are here, and something is to be done with them."""
        return self.is_whole and not self.is_partial and not self.finished

    def encode(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {**asdict(self), "touched_at": format_time(self.touched_at)}

    @classmethod
    def decode(cls, document: dict[str, Any]) -> TusUpload:
        """Read the JSON form."""
        return cls(**{**document, "touched_at": parse_time(document["touched_at"])})
