"""Where the time of one append went, step by step, from its receipt and the nodes' logs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LONG_S = 0.005  # that a slot's turn was waited for, to be told


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """One append, as the client saw it; times are seconds since the epoch.

    Attributes:
        number: Its row.
        receipt: What its ``201`` said.
        sent_s: When it was sent.
        answered_s: When its ``201`` was there.
        read_s: When each reader was seen to show it, one reader after the other.
    """

    number: int
    receipt: dict[str, Any]
    sent_s: float
    answered_s: float
    read_s: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """From ``201`` until the last reader shows it."""
        return max(self.read_s) - self.answered_s


def tell_steps(append: Append, live: dict[str, str], log: Path) -> str:
    """Name every step of an append.

    Args:
        append: The append.
        live: When each region was live with it, of its receipt.
        log: What all nodes have logged.

    Returns:
        One paragraph.
    """
    events = list(_read_events(log, append))
    generation = append.receipt["generation"]
    before_s = append.answered_s - append.sent_s
    parts = [f"Row {append.number}, {append.seconds:.3f} s. Before its `201`, {before_s:.3f} s:"]
    steps = {"received": _at(append.receipt["created_at"]) - append.sent_s}
    steps |= append.receipt["timings_s"]
    published_s = _find(events, "ingest", "generation published", generation)
    if published_s is not None:
        steps["journal and lease"] = append.answered_s - published_s
    parts.append(", ".join(f"{name} {took_s:.3f}" for name, took_s in steps.items()) + ".")
    parts.append("After it:")
    readers = (
        f"{region}: {_tell_reader(region, events, append, live.get(region), read_s)}"
        for region, read_s in zip("abcdefghijklmnopqrstuvwxyz", append.read_s, strict=False)
    )
    parts.append("; ".join(readers) + ".")
    others = [
        f"{event['node']} {event['event']} at {_at(event['timestamp']) - append.answered_s:+.3f}"
        + (f" after {event['took_s']:.3f}" if "took_s" in event else "")
        for event in events
        if event["event"] == "slot copied" or event["level"] != "info"
    ]
    if others:
        parts.append(f"Meanwhile: {', '.join(others)}.")
    return " ".join(parts)


def _tell_reader(
    region: str,
    events: Sequence[dict[str, Any]],
    append: Append,
    live: str | None,
    read_s: float,
) -> str:
    """Tell when one reader had done what, in seconds from the ``201``."""
    node = f"reader-{region}"
    switched = _find_event(events, node, "switched", append.receipt["generation"])
    if switched is None:
        return "no line in the log"
    at_s = _at(switched["timestamp"]) - append.answered_s - sum(switched["steps_s"].values())
    times = [f"push received {at_s:+.3f}"]
    restored = [
        event
        for event in events
        if (event["node"], event["event"]) == (node, "slot restored")
        and event["txid"] == append.receipt["txid"]
    ]
    for step, took_s in switched["steps_s"].items():
        at_s += took_s
        name = _DONE[step]
        if step == "restore" and restored:
            name += _tell_odds(restored[0])
        times.append(f"{name} {at_s:+.3f}")
    if live is not None:
        times.append(f"reported {_at(live) - append.answered_s:+.3f}")
    times.append(f"read {read_s - append.answered_s:+.3f}")
    return ", ".join(times)


def _tell_odds(restored: dict[str, Any]) -> str:
    """Tell what is out of the ordinary in how a slot was made."""
    odds = [] if restored["way"] == "roll" else [restored["way"]]
    if restored["waited_s"] >= LONG_S:
        odds.append(f"waited {restored['waited_s']:.3f} for the slot")
    return f" ({', '.join(odds)})" if odds else ""


_DONE = {
    "restore": "rolled and proved",
    "start": "dressed",
    "probe": "probed",
    "warm": "warmed",
    "switch": "switched",
}


def _read_events(log: Path, append: Append) -> Iterator[dict[str, Any]]:
    """Give what was logged from when an append was sent until it was read."""
    for line in log.read_text().splitlines():
        try:
            event = json.loads(line)
            at_s = _at(event["timestamp"])
        except (ValueError, KeyError, TypeError):  # Datasette's and Litestream's own lines
            continue
        if append.sent_s <= at_s <= max(append.read_s) + 1 and "event" in event:
            yield {"node": "", "level": "info", **event}


def _find(events: Sequence[dict[str, Any]], node: str, name: str, generation: int) -> float | None:
    event = _find_event(events, node, name, generation)
    return None if event is None else _at(event["timestamp"])


def _find_event(
    events: Sequence[dict[str, Any]], node: str, name: str, generation: int
) -> dict[str, Any] | None:
    for event in events:
        if (event["node"], event["event"], event.get("generation")) == (node, name, generation):
            return event
    return None


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
