"""Events of object stores: they tell that something lies there, so nobody has to wait for a look.

They come at least once, in any order, and are only hints: the object itself is looked at. So a key
of its own is enough to tell of them, which may stand in a URL: who has it can make the primary look
once more, and no more than that.
"""

from __future__ import annotations

import base64
import binascii

from aiohttp import web

from headrace.arriving import read_small
from headrace.errors import Refusal
from headrace.operation import JSON, Answer, Body, Parameter, Who, header, operation
from headrace.web import answer_json, problem_response
from ingest.api.declared import answers_json
from ingest.api.node import NODE
from ingest.buckets.events import decode_events
from ingest.status_documents import EventsHeard, Watching

routes = web.RouteTableDef()

_BODY_AT_MOST_BYTES = 1024 * 1024
_PATH = "/ingest/events"
_KEY = Parameter(name="key", what="The key; it takes the place of a token.")


@routes.get(_PATH)
@operation(answers=answers_json(Watching, "The places."), refuses=("forbidden",), who=Who.KNOWN)
async def get_events(request: web.Request) -> web.Response:
    """Say where files are looked for, and how events are told of."""
    node = request.app[NODE]
    node.identify(request).require_all()
    return answer_json(node.buckets.describe())


@routes.post(_PATH)
@operation(
    _KEY,
    bodies=(Body(kind=JSON, schema={}),),
    answers=answers_json(EventsHeard, "They were heard."),
    refuses=("bad-request", "too-large", "incomplete-body"),
    who=Who.WRITER,
    checked=False,
)
async def post_events(request: web.Request) -> web.Response:
    """Hear of events, in any of the forms that stores send."""
    node = request.app[NODE]
    if (refused := _check(request)) is not None:
        return refused
    node.check_keeping()
    told = decode_events(await read_small(request, _BODY_AT_MOST_BYTES), request.headers)
    used = node.buckets.tell(told.events)
    node.metrics.buckets.events.labels("used").inc(used)
    node.metrics.buckets.events.labels("ignored").inc(max(len(told.events) - used, 0))
    if told.confirm_url is not None:
        node.buckets.confirm_url = told.confirm_url
    if told.validation_code is not None:
        return answer_json({"validationResponse": told.validation_code})
    return answer_json({"events": len(told.events), "used": used})


@routes.options(_PATH)
@operation(
    _KEY,
    header("WebHook-Request-Origin", "Of the service that asks."),
    answers={
        200: Answer(
            what="It may.",
            headers={"Allow": "Methods.", "WebHook-Allowed-Origin": "The same service."},
        )
    },
    who=Who.WRITER,
    checked=False,
)
async def options_events(request: web.Request) -> web.Response:
    """Allow a service to send CloudEvents.

    Source: CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery", section 4.
    """
    if (refused := _check(request)) is not None:
        return refused
    headers = {"Allow": "GET, POST, OPTIONS"}
    origin = request.headers.get("WebHook-Request-Origin")
    if origin is not None:
        headers |= {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"}
    return web.Response(headers=headers)


def _check(request: web.Request) -> web.Response | None:
    """Refuse who has neither the key nor a token, and offer Basic: SNS sends none before that.

    Source: Amazon SNS Developer Guide, "Fanout to HTTPS endpoints": a client that names a user in
    the URL waits for the 401.

    Raises:
        Refusal: Those of ``check_writer``.
    """
    node = request.app[NODE]
    if any(node.buckets.allows(each) for each in _keys_of(request)):
        return None
    try:
        node.check_writer(request)
    except Refusal as refusal:
        if refusal.code != "unauthorized":
            raise
        node.note_denied(request, refusal)
        response = problem_response(request, refusal.document())
        response.headers.add("WWW-Authenticate", 'Basic realm="headrace"')
        return response
    return None


def _keys_of(request: web.Request) -> list[str]:
    """Give what may be the key: in the URL, as a bearer token, or as the password of any user."""
    keys = [request.query["key"]] if "key" in request.query else []
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        keys.append(value.strip())
    if scheme.lower() == "basic":
        try:
            text = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return keys
        keys.append(text.partition(":")[2])
    return keys
