"""What a reader says about itself, for machines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headrace import __version__
from headrace.generation import format_time, format_txid

if TYPE_CHECKING:
    from headrace.place import Place
    from serve.follow import Follower
    from serve.metrics import ReaderMetrics
    from serve.staleness import Staleness
    from serve.switch import Supervisor


class Status:
    """The reader's own report, made of what its parts know."""

    def __init__(
        self, place: Place, follower: Follower, supervisor: Supervisor, staleness: Staleness
    ) -> None:
        self._place = place
        self._follower = follower
        self._supervisor = supervisor
        self._staleness = staleness

    def report(self) -> dict[str, Any]:
        """Give the document of ``/-/headrace.json``."""
        current, newest = self._supervisor.current, self._follower.newest
        switched_at, failure = self._supervisor.switched_at, self._supervisor.last_error
        crash = current and current.last_crash
        return {
            "version": __version__,
            "region": self._place.region,
            "machine": self._place.machine,
            "generation": current and current.state.number,
            "newest_generation": newest and newest.number,
            "switched_at": switched_at and format_time(switched_at),
            "seconds_behind": self._seconds_behind(),
            "seconds_stale": round(self._staleness.now_s(), 3),
            "step": self._supervisor.step.value,
            "databases": {
                name: {
                    "lineage": cut.lineage,
                    "txid": format_txid(cut.txid),
                    "updated_at": format_time(cut.updated_at),
                }
                for name, cut in (current.state.databases.items() if current else ())
            },
            "workers": len(current.workers) if current else 0,
            "spares": self._supervisor.spares_ready,
            "draining": [
                {
                    "generation": each.state.number,
                    "requests": each.in_flight,
                    "seconds": round(retiring.seconds, 3),
                }
                for each, retiring in self._supervisor.draining.items()
            ],
            "waits_for_drains": self._supervisor.waits_for_drains,
            "push_connected": self._follower.push_connected,
            "following_errors": dict(self._follower.why),
            "last_error": failure
            and {
                "generation": failure.generation,
                "step": failure.step.value,
                "message": failure.message,
                "at": format_time(failure.at),
            },
            "last_crash": crash and {"message": crash.message, "at": format_time(crash.at)},
        }

    def watch(self, metrics: ReaderMetrics) -> None:
        """Let the metrics of freshness be computed when they are asked for."""
        metrics.seconds_since_publish.set_function(self._seconds_since_publish)
        metrics.staleness.set_function(self._staleness.now_s)

    def _seconds_behind(self) -> float | None:
        """Age of the newest generation if it is not in service, else 0; None if none is known."""
        current, newest = self._supervisor.current, self._follower.newest
        if newest is None:
            return None
        if current is not None and current.state.number >= newest.number:
            return 0.0
        return _age_s(newest.created_at)

    def _seconds_since_publish(self) -> float:
        current = self._supervisor.current
        return 0.0 if current is None else _age_s(current.state.created_at)


def _age_s(at: datetime | None) -> float:
    if at is None:
        return 0.0
    return round(max((datetime.now(UTC) - at).total_seconds(), 0.0), 3)
