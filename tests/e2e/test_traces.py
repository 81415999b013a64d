"""Traces: one upload from its POST to the switch in each region, as a receiver of OTLP sees it."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.conftest import wait_for
from tests.e2e.conftest import System
from tests.e2e.otlp_kit import receiving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.otlp_kit import Received, Receiver

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{CLIENT}-01"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Give a receiver of traces."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give a system with two readers that sends its traces there."""
    system = System(
        tmp_path_factory.mktemp("traced") / "data",
        *("--workers", "1"),
        readers=2,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_BSP_SCHEDULE_DELAY="100",  # ms
    )
    try:
        yield system.start()
    finally:
        system.stop(signal.SIGKILL)
        system.client.close()


def wait_for_ways(receiver: Receiver, trace: str, wanted: set[str]) -> list[Received]:
    """Wait until a trace has spans in some ways, and is shown in both regions; give its spans."""

    def look() -> list[Received] | None:
        spans = [span for span in receiver.spans if span.trace == trace]
        regions = {span.attributes["region"] for span in spans if span.name == "bring up"}
        return spans if ways(spans) >= wanted and regions == {"a", "b"} else None

    return wait_for(look)


def ways(spans: list[Received]) -> set[str]:
    """Give each span by its service and name, after those that it is in."""
    named = {span.id: span for span in spans}

    def way(span: Received) -> str:
        above = f"{way(named[span.parent])} > " if span.parent in named else ""
        return f"{above}{span.service.removeprefix('headrace-')}: {span.name}"

    return {way(span) for span in spans}


def test_upload_is_one_trace_from_its_post_to_the_switch_in_each_region(
    traced: System, receiver: Receiver
) -> None:
    """The client's own trace goes on through reader, primary and log to all readers."""
    receipt = traced.upload(b"a\n1\n", "sales.csv", wait_for="regions", headers=TRACEPARENT)
    post = "reader: POST /ingest"
    upload = f"{post} > ingest: POST /ingest > ingest: upload"
    shown = f"{upload} > ingest: publish > reader: bring up"
    wanted = {
        post,
        f"{post} > ingest: POST /ingest > ingest: receive",
        *(f"{upload} > ingest: {step}" for step in ("detect", "convert", "merge", "replicate")),
        f"{upload} > ingest: publish",
        *(f"{shown} > reader: {step}" for step in ("restore", "start", "probe", "warm", "switch")),
    }
    spans = wait_for_ways(receiver, TRACE, wanted)
    (first,) = [span for span in spans if span.parent == CLIENT]
    assert (first.service, first.attributes["region"]) == ("headrace-reader", "a")
    for span in (each for each in spans if each.name == "bring up"):
        assert span.attributes["receipt"] == receipt["id"]
        assert first.begins_ns < span.begins_ns < span.ends_ns
    for span in spans:
        assert span.begins_ns <= span.ends_ns


def test_writes_of_rows_are_traced_through_their_batch(traced: System, receiver: Receiver) -> None:
    """A request's trace goes on through the batch that it is written with."""
    traced.upload(b"id,name\n1,Ada\n", "rows.csv", wait_for="regions")
    trace = TRACE[::-1]
    answer = traced.client.post(
        "/rows/rows/-/insert",
        json={"rows": [{"id": 2, "name": "Eve"}]},
        headers={**traced.auth, "traceparent": f"00-{trace}-{CLIENT}-01"},
    )
    assert answer.status_code == 201, answer.text

    post = "reader: POST rows > ingest: POST rows > ingest: rows"
    wanted = {
        f"{post} > ingest: merge",
        f"{post} > ingest: replicate",
        f"{post} > ingest: publish > reader: bring up > reader: switch",
    }
    assert wait_for_ways(receiver, trace, wanted)


def test_slow_uploads_lead_to_their_traces(traced: System, receiver: Receiver) -> None:
    """The exemplars of the histogram name the trace, beside the receipt."""
    traced.upload(b"a\n2\n", "sales.csv", wait_for="regions")
    answer = httpx.get(
        f"http://127.0.0.1:{traced.port + 201}/metrics",
        headers={"Accept": "application/openmetrics-text"},
    )
    named = re.search(r'receipt="\w+",trace_id="(\w+)"', answer.text)
    assert named
    wait_for(lambda: any(span.trace == named[1] for span in receiver.spans))


def test_refused_upload_says_so_in_its_trace(traced: System, receiver: Receiver) -> None:
    """The code of the problem is in the span of the upload."""
    assert traced.post(b"a,b\n1\n2,3,4\n", "broken.csv").status_code == 422
    wait_for(lambda: any(s.attributes.get("refused") == "invalid-file" for s in receiver.spans))


def test_uploads_go_on_without_the_receiver_and_the_end_is_in_order(tmp_path: Path) -> None:
    """Whoever is to receive traces, and is not there, is in nobody's way."""
    with receiving() as gone:
        url = gone.url
    system = System(tmp_path / "data", "--workers", "1", OTEL_EXPORTER_OTLP_ENDPOINT=url)
    system.start()
    try:
        receipt = system.upload(b"a\n1\n", "sales.csv", wait_for="regions")
        assert receipt["live"]
        assert system.stop() == 0
    finally:
        system.stop(signal.SIGKILL)
        system.client.close()
