"""``/metrics`` of each node, on its own port: Prometheus's text, or OpenMetrics if asked for.

Only OpenMetrics has exemplars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from headrace.web import problems

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

MOST_DATABASES = 100  # that have metrics of their own: those that were there first

# When each counter began: as many samples again, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Labelled(Collector):
    """Metrics with some labels more on each sample.

    Args:
        metrics: Without them.
        labels: The same for all.
    """

    def __init__(self, metrics: Collector, labels: Mapping[str, str]) -> None:
        self._metrics = metrics
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        """Give what is there now."""
        for family in self._metrics.collect():
            family.samples = [
                sample._replace(labels={**self._labels, **sample.labels})
                for sample in family.samples
            ]
            yield family


async def _nothing() -> None:
    """Do nothing."""


def metrics_app(
    metrics: Collector, refresh: Callable[[], Awaitable[None]] = _nothing
) -> web.Application:
    """Give the application of the metrics port: ``/metrics`` and ``/-/healthz``.

    Args:
        metrics: What is shown.
        refresh: Brings up to date what has to be asked for; called each time.
    """

    async def show(request: web.Request) -> web.Response:
        await refresh()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(metrics), headers={"Content-Type": content_type})

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    app = web.Application(middlewares=[problems])
    app.router.add_get("/metrics", show)
    app.router.add_get("/-/healthz", healthz)
    return app
