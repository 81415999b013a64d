"""Uploads while the primary is away: they go to the object store, and the primary finishes them.

Nothing of them is on this machine, and no more of them in memory than a few parts on their way.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog

from headrace.arriving import ArrivedFile, receive_body, receive_form
from headrace.backoff import Pauses
from headrace.errors import LogError, ObjectExistsError, Refusal, StoreError
from headrace.fetching import is_fetch
from headrace.idempotency import KeysInFlight, fingerprint, read_key
from headrace.incoming import IncomingFile, IncomingRequest, find_incoming, find_incoming_receipt
from headrace.keys import incoming_key, incoming_receipt_key
from headrace.tracing import TRACEPARENT, carried
from headrace.web import answer_json
from serve.headers import may_be_known_to_primary
from serve.keeping import StoreKeeper, not_kept
from serve.proxy import invite_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web
    from multidict import CIMultiDictProxy

    from headrace.receipt import Receipt
    from headrace.store import Store
    from headrace.tokens import Tokens
    from serve.metrics import ReaderMetrics

log = structlog.get_logger()

AT_ONCE = 4  # uploads; each holds a few parts in memory
TURN_S = 30.0  # for one of those to end
CREATE_TRIES = 3
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 5.0

_TELL_TIMEOUT = aiohttp.ClientTimeout(total=5.0)


class IncomingUploads:
    """Takes uploads in the primary's place, and tells it of them.

    Args:
        store: Where they go.
        tokens: Who may upload; None: nobody can be told from a stranger, so nobody.
        session: For requests to the primary.
        primary: Its URL.
        reader: Id of this reader.
        region: That it is in.
        max_upload_bytes: The largest file that is taken.
        metrics: Counts them.
    """

    def __init__(
        self,
        store: Store,
        tokens: Tokens | None,
        *,
        session: aiohttp.ClientSession,
        primary: str,
        reader: str,
        region: str,
        max_upload_bytes: int,
        metrics: ReaderMetrics,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._session = session
        self._url = f"{primary.rstrip('/')}/-/incoming"
        self._reader = reader
        self._region = region
        self._max_upload_bytes = max_upload_bytes
        self._metrics = metrics
        self._keys = KeysInFlight()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._untold = asyncio.Event()
        self._taking: set[asyncio.Task[IncomingRequest]] = set()

    async def run(self) -> None:
        """Tell the primary as soon as it is there that something has come, until cancelled."""
        pauses = Pauses(FIRST_BACKOFF_S, MAX_BACKOFF_S)
        while True:
            await self._untold.wait()
            self._untold.clear()
            if await self._tell():
                pauses.reset()
                continue
            self._untold.set()
            await asyncio.sleep(pauses.next_s())

    async def take(self, request: web.BaseRequest, address: str) -> web.Response:
        """Take an upload, of which nothing was read yet: ``202``, with its receipts.

        What has begun goes on to its end when the client hangs up: so it is there whole, or not at
        all.

        Args:
            request: That of the client.
            address: Where it was sent from.

        Raises:
            Refusal: It is wrong, or not allowed; ``primary-away``, ``overloaded`` or
                ``replication-down``: it cannot be taken here, or not now.
        """
        self._check(request.headers)
        if is_fetch(request):
            raise Refusal("primary-away", "only the primary fetches files, and it did not answer")
        key = read_key(request.headers)
        taking = asyncio.create_task(self._take(request, key, address))
        self._taking.add(taking)
        taking.add_done_callback(self._end)
        taken = await asyncio.shield(taking)
        return _answer(request, taken)

    def _end(self, taking: asyncio.Task[IncomingRequest]) -> None:
        self._taking.discard(taking)
        if not taking.cancelled() and (exc := taking.exception()) is not None:
            log.info("upload not taken", reason=str(exc))  # its client may be gone

    async def find_receipt(self, receipt_id: str) -> dict[str, Any] | None:
        """Give the receipt of an upload that the primary has not taken yet, as clients see it."""
        try:
            found = await find_incoming_receipt(self._store, receipt_id)
        except (StoreError, ValueError, KeyError, TypeError) as exc:
            log.warning("incoming receipt not read", receipt=receipt_id, reason=str(exc))
            return None
        return None if found is None else _shown(found)

    def _check(self, headers: CIMultiDictProxy[str]) -> None:
        if self._tokens is None:
            raise Refusal(
                "primary-away",
                "the primary did not answer, and this reader has no token to tell who may upload",
                hint="send it again later; with the primary's HEADRACE_TOKEN a reader takes it",
            )
        try:
            self._tokens.check(headers)
        except Refusal as refusal:
            if not may_be_known_to_primary(headers):
                raise
            raise Refusal(
                "primary-away",
                "the primary did not answer, and only it can tell whose token or cookie that is",
                hint="send it again later",
            ) from refusal
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refusal(
                "primary-away",
                "the primary did not answer, and a reader takes no body with a Content-Encoding",
                hint="send it again later, or send the compressed file itself without that header",
            )

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until fewer are on their way.

        Raises:
            Refusal: ``overloaded``.
        """
        try:
            async with asyncio.timeout(TURN_S):
                await self._turns.acquire()
        except TimeoutError as exc:
            raise Refusal("overloaded", "other uploads are on their way: send it again") from exc
        try:
            yield
        finally:
            self._turns.release()

    async def _take(
        self, request: web.BaseRequest, key: str | None, address: str
    ) -> IncomingRequest:
        keeper = StoreKeeper(self._store, self._max_upload_bytes)
        with self._keys.hold(key):
            async with self._turn():
                invite_body(request)
                if request.content_type == "multipart/form-data":
                    arrived, fields = await receive_form(request, keeper)
                else:
                    arrived = [await receive_body(request, keeper)]
                    fields = dict(request.query)
            try:
                incoming = IncomingRequest(
                    key=key,
                    fields=fields,
                    files=tuple(_whole(each) for each in arrived),
                    arrived_at=datetime.now(UTC),
                    reader=self._reader,
                    region=self._region,
                    address=address,
                    traceparent=carried().get(TRACEPARENT),
                )
                await self._write_receipts(incoming.receipts())
            except (Refusal, StoreError) as exc:
                await self._drop(arrived)
                if isinstance(exc, StoreError):
                    raise not_kept() from exc
                raise
            return await self._write(incoming, arrived)

    async def _write_receipts(self, receipts: list[Receipt]) -> None:
        await asyncio.gather(
            *(
                self._store.replace(
                    incoming_receipt_key(each.id), json.dumps(each.encode()).encode()
                )
                for each in receipts
            )
        )

    async def _write(
        self, incoming: IncomingRequest, arrived: list[ArrivedFile]
    ) -> IncomingRequest:
        """Write down a request whose bytes are there; give the first one that had its key.

        Raises:
            Refusal: ``key-reused``; ``replication-down``: it may be there, so its bytes stay.
        """
        try:
            first = await self._create(incoming)
        except (StoreError, LogError) as exc:
            raise not_kept() from exc
        if first.files != incoming.files:
            await self._drop(arrived)
            if _mark(first) != _mark(incoming):
                raise Refusal("key-reused", "another request had this Idempotency-Key just now")
            return first
        self._metrics.incoming.inc()
        self._untold.set()
        log.info("upload taken", receipts=[each.receipt_id for each in incoming.files])
        return incoming

    async def _create(self, incoming: IncomingRequest) -> IncomingRequest:
        for _ in range(CREATE_TRIES):
            try:
                await self._store.create(incoming_key(incoming.id), incoming.encode())
            except ObjectExistsError:
                first = await find_incoming(self._store, incoming.id)
                if first is not None:  # perhaps our own, and the answer to it was lost
                    return first
                # The primary has taken that one just now: it will tell whether this is the same.
            else:
                return incoming
        raise StoreError("find an incoming request taken again and again")

    async def _drop(self, arrived: list[ArrivedFile]) -> None:
        """Delete what nothing will be done with; if that fails, its retention does."""
        for each in arrived:
            try:
                if each.archive is not None:
                    await self._store.delete(each.archive)
                    await self._store.delete(incoming_receipt_key(each.receipt_id))
            except StoreError as exc:
                log.warning("upload not deleted", key=each.archive, reason=str(exc))

    async def _tell(self) -> bool:
        try:
            async with self._session.post(self._url, timeout=_TELL_TIMEOUT) as answer:
                return answer.ok
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False


def _whole(arrived: ArrivedFile) -> IncomingFile:
    """Give a file that arrived whole.

    Raises:
        Refusal: It did not, or something else speaks against it.
    """
    if arrived.refusal is not None:
        raise arrived.refusal
    assert arrived.spooled is not None  # noqa: S101 - else it was refused
    assert arrived.archive is not None  # noqa: S101
    return IncomingFile(
        receipt_id=arrived.receipt_id,
        filename=arrived.filename,
        media_type=arrived.media_type,
        bytes=arrived.spooled.bytes,
        sha256=arrived.spooled.sha256,
        archive=arrived.archive,
    )


def _mark(incoming: IncomingRequest) -> str:
    return fingerprint(incoming.fields, ((each.filename, each.sha256) for each in incoming.files))


def _answer(request: web.BaseRequest, taken: IncomingRequest) -> web.Response:
    """Answer as the primary does for what is on its way."""
    documents = [_shown(each) for each in taken.receipts()]
    headers = {"Location": f"/ingest/receipts/{documents[0]['id']}"}
    if prefer := request.headers.get("Prefer"):
        headers["Preference-Applied"] = prefer
    document = documents[0] if len(documents) == 1 else {"receipts": documents}
    return answer_json(document, status=202, headers=headers)


def _shown(receipt: Receipt) -> dict[str, Any]:
    return {**receipt.encode(), "progress": None, "live": {}}
