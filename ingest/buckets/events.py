"""What stores send when an object was written or deleted: which object, and which of both. Pure.

An event is only a hint where to look, so of each form as little is read as that takes. What is not
understood is no event; whoever sends it goes on without an error, and the next look finds what it
was about.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_plus, urlsplit

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DEPTH = 4  # of messages within messages: CloudEvents, of Pub/Sub or SNS, of S3
_AZURE_SUBJECT = re.compile(r"/blobServices/default/containers/([^/]+)/blobs/(.+)", re.DOTALL)
_GCS_SUBJECT = re.compile(r"objects/(.+)", re.DOTALL)
_SNS_HOST = re.compile(r"sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketEvent:
    """Something happened to an object.

    Attributes:
        bucket: Or container.
        key: Of the object.
        deleted: Whether it was deleted; else it was written.
    """

    bucket: str
    key: str
    deleted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one request says.

    Attributes:
        events: What happened.
        validation_code: What Azure wants to hear back; None: nothing.
        confirm_url: What a person has to open, so that SNS sends events; None: nothing.
    """

    events: tuple[BucketEvent, ...]
    validation_code: str | None = None
    confirm_url: str | None = None


def decode_events(body: bytes, headers: Mapping[str, str]) -> Told:
    """Read a request of any of the forms that are known.

    Args:
        body: JSON.
        headers: Of the request. A CloudEvent in binary mode has its attributes there.

    Raises:
        Refusal: ``bad-request``: the body is no JSON.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise Refusal("bad-request", f"the event is no JSON: {exc}") from exc
    if "ce-type" in headers:
        names = ("type", "source", "subject")
        attributes = {each: unquote(headers.get(f"ce-{each}", "")) for each in names}
        document = {"specversion": headers.get("ce-specversion"), **attributes, "data": document}
    events: list[BucketEvent] = []
    code = confirm = None
    for each in document if isinstance(document, list) else [document]:
        if isinstance(each, dict):
            events += _read(each, _DEPTH)
            code = code or _validation_code_of(each)
            confirm = confirm or _confirm_url_of(each)
    return Told(events=tuple(events), validation_code=code, confirm_url=confirm)


def _read(document: dict[str, Any], depth: int) -> Iterator[BucketEvent]:
    """Read one message, whatever form it has, and what is packed into it."""
    if depth == 0:
        return
    for read in (_s3, _tigris, _event_bridge, _pub_sub, _cloud_event, _event_grid, _seaweedfs):
        try:
            yield from read(document)
        except (KeyError, TypeError, AttributeError, ValueError):  # it has another form
            continue
    for packed in (_sns_message(document), document.get("data")):
        if isinstance(packed, dict):
            yield from _read(packed, depth - 1)


def _s3(document: dict[str, Any]) -> Iterator[BucketEvent]:
    """Of S3, MinIO, Ceph and others.

    Source: Amazon S3 User Guide, "Event message structure": the key is encoded like a form's field.
    """
    for each in document["Records"]:
        yield from _known(
            each["s3"]["bucket"]["name"],
            unquote_plus(each["s3"]["object"]["key"]),
            each["eventName"],
        )


def _tigris(document: dict[str, Any]) -> Iterator[BucketEvent]:
    """Of Tigris.

    Source: https://www.tigrisdata.com/docs/buckets/object-notifications/
    """
    for each in document["events"]:
        yield from _known(each["bucket"], each["object"]["key"], each["eventName"])


def _event_bridge(document: dict[str, Any]) -> Iterator[BucketEvent]:
    """Of Amazon EventBridge.

    Source: Amazon S3 User Guide, "EventBridge event message structure": the key is not encoded.
    """
    if document["source"] == "aws.s3":
        detail = document["detail"]
        yield from _known(
            detail["bucket"]["name"], detail["object"]["key"], document["detail-type"]
        )


def _pub_sub(document: dict[str, Any]) -> Iterator[BucketEvent]:
    """Of Google Cloud Storage, pushed by Pub/Sub.

    Source: Cloud Storage, "Pub/Sub notifications", "Attributes".
    """
    about = document["message"]["attributes"]
    yield from _known(about["bucketId"], about["objectId"], about["eventType"])


def _cloud_event(document: dict[str, Any]) -> Iterator[BucketEvent]:
    """Of Eventarc: a CloudEvent of Google Cloud Storage.

    Source: github.com/googleapis/google-cloudevents, ``google/events/cloud/storage/v1``: the source
    ends with the bucket, the subject is ``objects/…``.
    """
    if document["type"].startswith("google.cloud.storage.object."):
        found = _GCS_SUBJECT.fullmatch(document["subject"])
        bucket = document["source"].rpartition("/buckets/")[2]
        if found and bucket:
            yield from _known(bucket, found[1], document["type"])


def _event_grid(document: dict[str, Any]) -> Iterator[BucketEvent]:
    """Of Azure Event Grid, in its own schema (``eventType``) and as a CloudEvent (``type``).

    Source: Azure Event Grid, "Azure Blob Storage as Event Grid source".
    """
    found = _AZURE_SUBJECT.fullmatch(document["subject"])
    if found:
        kind = document["eventType"] if "eventType" in document else document["type"]
        yield from _known(found[1], found[2], kind)


def _seaweedfs(document: dict[str, Any]) -> Iterator[BucketEvent]:
    """Of SeaweedFS's filer.

    Source: SeaweedFS, ``weed/notification/webhook/types.go``, and what 4.48 sent: the key is a path
    of the filer.
    """
    _, buckets, bucket, key = document["key"].split("/", 3)
    if buckets == "buckets":
        yield from _known(bucket, key, document["event_type"])


def _known(bucket: str, key: str, kind: str) -> Iterator[BucketEvent]:
    """Give an event, if it is of a kind that says something, whatever a store calls that."""
    (bucket + key).encode()  # JSON can hold halves of characters, and no store can
    word = kind.lower().replace(" ", "").replace("_", "")
    written = ("created", "finalize", "copy", "put", "update", "rename", "create")
    deleted = ("deleted", "removed", "delete", "archive", "expiration")
    is_deleted = any(each in word for each in deleted)
    if bucket and key and (is_deleted or any(each in word for each in written)):
        yield BucketEvent(bucket=bucket, key=key, deleted=is_deleted)


def _sns_message(document: dict[str, Any]) -> Any:
    """Give what SNS packs into its own message.

    Source: Amazon SNS Developer Guide, "HTTP/HTTPS notification JSON format".
    """
    if document.get("Type") != "Notification":
        return None
    try:
        return json.loads(document["Message"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _validation_code_of(document: dict[str, Any]) -> str | None:
    """Give what Azure wants to hear back before it sends events.

    Source: Azure Event Grid, "Endpoint validation with Event Grid event schema".
    """
    data = document.get("data")
    if document.get("eventType") != "Microsoft.EventGrid.SubscriptionValidationEvent":
        return None
    code = data.get("validationCode") if isinstance(data, dict) else None
    return code if isinstance(code, str) else None


def _confirm_url_of(document: dict[str, Any]) -> str | None:
    """Give what has to be opened before SNS sends events, if that is a page of Amazon's.

    Source: Amazon SNS Developer Guide, "Confirm your Amazon SNS subscription".
    """
    url = document.get("SubscribeURL")
    if document.get("Type") != "SubscriptionConfirmation" or not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    is_amazons = parts.scheme == "https" and _SNS_HOST.fullmatch(parts.netloc)
    return url if is_amazons and url.isprintable() else None
