"""Events of object stores, as their makers' documents show them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.errors import Refusal
from ingest.buckets.events import BucketEvent, decode_events

# Source: Amazon S3 User Guide, "Event message structure".
S3: dict[str, Any] = {
    "Records": [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-west-2",
            "eventTime": "1970-01-01T00:00:00.000Z",
            "eventName": "ObjectCreated:Put",
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "testConfigRule",
                "bucket": {"name": "bucket", "arn": "arn:aws:s3:::bucket"},
                "object": {
                    "key": "sales/red+flower%2B.csv",
                    "size": 1024,
                    "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                    "sequencer": "0055AED6DCD90281E5",
                },
            },
        }
    ]
}
# Source: Amazon S3 User Guide, "EventBridge event message structure".
EVENT_BRIDGE = {
    "version": "0",
    "id": "17793124-05d4-b198-2fde-7ededc63b103",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "account": "111122223333",
    "time": "2021-11-12T00:00:00Z",
    "resources": ["arn:aws:s3:::bucket"],
    "detail": {
        "version": "0",
        "bucket": {"name": "bucket"},
        "object": {"key": "sales/a+b.csv", "size": 5, "etag": "b1946ac92492d2347c6235b4d2611184"},
        "reason": "PutObject",
    },
}
# Source: Amazon SNS Developer Guide, "HTTP/HTTPS notification JSON format".
SNS = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
    "Subject": "Amazon S3 Notification",
    "Message": json.dumps(S3),
    "Timestamp": "2012-05-02T00:54:06.655Z",
    "SignatureVersion": "1",
}
# Source: MinIO, "Publish events to webhook".
MINIO = {"EventName": "s3:ObjectRemoved:Delete", "Key": "bucket/sales/a.csv"} | {
    "Records": [
        {
            "eventName": "s3:ObjectRemoved:Delete",
            "s3": {"bucket": {"name": "bucket"}, "object": {"key": "sales%2Fa.csv"}},
        }
    ]
}
# Source: https://www.tigrisdata.com/docs/buckets/object-notifications/
TIGRIS = {
    "events": [
        {
            "eventVersion": "1",
            "eventSource": "tigris",
            "eventName": name,
            "eventTime": "2025-01-30T00:00:00Z",
            "bucket": "bucket",
            "object": {"key": "sales/a.csv", "size": 12, "eTag": "x"},
        }
        for name in ("OBJECT_CREATED_PUT", "OBJECT_DELETED")
    ]
}
# Source: Cloud Storage, "Pub/Sub notifications"; Pub/Sub, "Push subscriptions".
PUB_SUB = {
    "message": {
        "attributes": {
            "bucketId": "bucket",
            "eventTime": "2022-04-14T08:00:00.000000Z",
            "eventType": "OBJECT_FINALIZE",
            "notificationConfig": "projects/_/buckets/bucket/notificationConfigs/1",
            "objectGeneration": "1579287380533984",
            "objectId": "sales/a b.csv",
            "payloadFormat": "NONE",
        },
        "data": "",
        "messageId": "2070443601311540",
        "publishTime": "2021-02-26T19:13:55.749Z",
    },
    "subscription": "projects/myproject/subscriptions/mysubscription",
}
# Source: github.com/googleapis/google-cloudevents, testdata of google/events/cloud/storage/v1;
# Eventarc, "CloudEvents format".
EVENTARC_DATA = {"bucket": "bucket", "name": "sales/a b.csv", "kind": "storage#object"}
EVENTARC_HEADERS = {
    "ce-specversion": "1.0",
    "ce-type": "google.cloud.storage.object.v1.finalized",
    "ce-source": "//storage.googleapis.com/projects/_/buckets/bucket",
    "ce-subject": "objects/sales/a%20b.csv",
    "ce-id": "1096434104173400",
}
EVENTARC = {
    "specversion": "1.0",
    "type": "google.cloud.storage.object.v1.deleted",
    "source": "//storage.googleapis.com/projects/_/buckets/bucket",
    "subject": "objects/sales/a.csv",
    "id": "1",
    "data": EVENTARC_DATA,
}
# Source: Azure Event Grid, "Azure Blob Storage as Event Grid source".
AZURE = [
    {
        "topic": "/subscriptions/x/resourceGroups/Storage/providers/Microsoft.Storage/"
        "storageAccounts/my-storage-account",
        "subject": "/blobServices/default/containers/bucket/blobs/sales/a.csv",
        "eventType": "Microsoft.Storage.BlobCreated",
        "eventTime": "2017-06-26T18:41:00.9584103Z",
        "id": "831e1650-001e-001b-66ab-eeb76e069631",
        "data": {
            "api": "PutBlockList",
            "eTag": "0x8D4BCC2E4835CD0",
            "url": "https://my-storage-account.blob.core.windows.net/bucket/sales/a.csv",
        },
        "dataVersion": "",
        "metadataVersion": "1",
    }
]
AZURE_CLOUD_EVENT = {
    "source": "/subscriptions/x/resourceGroups/Storage/providers/Microsoft.Storage/"
    "storageAccounts/my-storage-account",
    "subject": "/blobServices/default/containers/bucket/blobs/sales/a.csv",
    "type": "Microsoft.Storage.BlobDeleted",
    "time": "2017-06-26T18:41:00.9584103Z",
    "id": "831e1650-001e-001b-66ab-eeb76e069631",
    "data": {"api": "DeleteBlob"},
    "specversion": "1.0",
}
# Source: what SeaweedFS 4.48 sent; weed/notification/webhook/types.go.
SEAWEEDFS = {
    "key": "/buckets/bucket/sales/a.csv",
    "event_type": "create",
    "message": {"new_entry": {"name": "a.csv", "attributes": {"mtime": 1795784189}}},
}


def written(key: str) -> BucketEvent:
    """Give the event of an object that was written."""
    return BucketEvent(bucket="bucket", key=key, deleted=False)


def deleted(key: str) -> BucketEvent:
    """Give the event of an object that was deleted."""
    return BucketEvent(bucket="bucket", key=key, deleted=True)


@pytest.mark.parametrize(
    ("document", "headers", "events"),
    [
        (S3, {}, [written("sales/red flower+.csv")]),
        (SNS, {}, [written("sales/red flower+.csv")]),
        (EVENT_BRIDGE, {}, [written("sales/a+b.csv")]),
        (MINIO, {}, [deleted("sales/a.csv")]),
        (TIGRIS, {}, [written("sales/a.csv"), deleted("sales/a.csv")]),
        (PUB_SUB, {}, [written("sales/a b.csv")]),
        (EVENTARC_DATA, EVENTARC_HEADERS, [written("sales/a b.csv")]),
        (EVENTARC, {}, [deleted("sales/a.csv")]),
        ({**EVENTARC, "type": "google.cloud.pubsub.topic.v1.messagePublished", "data": PUB_SUB}, {},
         [written("sales/a b.csv")]),
        (AZURE, {}, [written("sales/a.csv")]),
        (AZURE_CLOUD_EVENT, {}, [deleted("sales/a.csv")]),
        ([AZURE_CLOUD_EVENT, EVENTARC], {}, [deleted("sales/a.csv"), deleted("sales/a.csv")]),
        (SEAWEEDFS, {}, [written("sales/a.csv")]),
    ],
    ids=["s3", "sns", "eventbridge", "minio", "tigris", "pubsub", "eventarc-binary",
         "eventarc-structured", "eventarc-pubsub", "azure", "azure-cloudevent", "batch",
         "seaweedfs"],
)  # fmt: skip
def test_decode_events_of_each_store_gives_bucket_and_key(
    document: Any, headers: dict[str, str], events: list[BucketEvent]
) -> None:
    """Whatever form a store has for it, the same is understood."""
    assert list(decode_events(json.dumps(document).encode(), headers).events) == events


def test_decode_events_gives_what_azure_wants_to_hear() -> None:
    """Source: Azure Event Grid, "Endpoint validation with Event Grid event schema"."""
    document = [
        {
            "id": "2d1781af-3a4c-4d7c-bd0c-e34b19da4e66",
            "topic": "/subscriptions/x",
            "subject": "",
            "data": {"validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"},
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "eventTime": "2018-01-25T22:12:19.4556811Z",
            "metadataVersion": "1",
            "dataVersion": "1",
        }
    ]
    told = decode_events(json.dumps(document).encode(), {})
    assert told.validation_code == "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"
    assert told.events == ()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&Token=2336", True),
        ("https://sns.us-west-2.amazonaws.com.example.org/?Action=ConfirmSubscription", False),
        ("https://x@169.254.169.254/", False),
        ("http://sns.us-west-2.amazonaws.com/", False),
        ("https://[", False),
        (7, False),
    ],
)
def test_decode_events_shows_only_amazons_page_to_confirm(url: Any, shown: bool) -> None:
    """Nobody is led to a page that somebody else made up."""
    document = {"Type": "SubscriptionConfirmation", "SubscribeURL": url}
    assert (decode_events(json.dumps(document).encode(), {}).confirm_url is not None) is shown


@pytest.mark.parametrize(
    "document",
    [
        None, 7, "x", [], [[]], [None], {}, {"Records": None}, {"Records": [7]},
        {"Records": [{"s3": {"bucket": {"name": 7}, "object": {"key": 8}}, "eventName": "Put"}]},
        {"Type": "Notification", "Message": "{"}, {"Type": "Notification", "Message": 7},
        {"source": "aws.s3"}, {"key": "/a"}, {"key": 7}, {"type": 7}, {"subject": 7, "type": "x"},
        {"message": {"attributes": []}}, {"data": {"data": {"data": {"data": {"data": S3}}}}},
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "bucket"},
        {"key": "/buckets/bucket/\ud800.csv", "event_type": "create"},
        {"key": "/buckets/bucket/a.csv", "event_type": "restored"},
    ],
    ids=str,
)  # fmt: skip
def test_decode_events_of_what_is_none_gives_none(document: Any) -> None:
    """What is not understood is no event, and no error: whoever sends it would send it again."""
    assert decode_events(json.dumps(document).encode(), {}).events == ()


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_decode_events_of_no_json_is_refused(body: bytes) -> None:
    """A body that is no JSON is said to be none."""
    with pytest.raises(Refusal) as caught:
        decode_events(body, {})
    assert caught.value.code == "bad-request"
