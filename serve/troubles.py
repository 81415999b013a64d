"""What is wrong, in words, and what to do about it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headrace.generation import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BEHIND_S = 15.0  # a region that has had something newer to show for so long


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that is wrong.

    Attributes:
        code: Which one.
        grave: Whether somebody should do something.
        what: What people notice of it.
        since: Since when; None: it is not known.
        why: The message of what failed; ``""``: there is none.
        todo: What to do.
    """

    code: str
    grave: bool
    what: str
    since: str | None = None
    why: str = ""
    todo: str


def find_troubles(
    reader: Mapping[str, Any],
    primary: Mapping[str, Any],
    regions: Sequence[Mapping[str, Any]],
    now: datetime | None = None,
) -> list[Trouble]:
    """List what is wrong, the worst first.

    Args:
        reader: What this reader says of itself (``overview.py``).
        primary: What is known of the primary.
        regions: What is known of each region.
        now: The time.
    """
    now = now or datetime.now(UTC)
    told = [each for each in regions if not (each["here"] and reader["failure"])]
    found = [
        *_of_reader(reader),
        *_of_primary(primary),
        *_of_silent([each for each in regions if each["state"] == "silent"]),
        *(each for region in told for each in _of_region(region, now)),
    ]
    return sorted(found, key=lambda each: not each.grave)


def _of_reader(reader: Mapping[str, Any]) -> Iterator[Trouble]:
    city, generation = reader["city"], reader["generation"]
    if failure := reader["failure"]:
        is_newer = generation is None or failure["generation"] > generation
        what = f"generation {failure['generation']}" if is_newer else "its changed configuration"
        yield Trouble(
            code="switch-fails",
            grave=True,
            what=f"{city} cannot show {what}, and goes on with what it has.",
            why=failure["message"],
            todo="It tries again by itself. If that does not help, the log of this reader says "
            f"more: look for “switch failed”, at the step “{failure['step']}”.",
        )
    if reader["log_error"]:
        yield Trouble(
            code="log-unreadable",
            grave=True,
            what=f"{city} cannot read the log of generations in the object store.",
            why=reader["log_error"],
            todo="All that is shown stays readable. Check the store, its keys, and the network "
            "between it and this reader.",
        )
    if reader["stale_since"]:
        yield Trouble(
            code="stale",
            grave=True,
            what=f"Nobody has told {city} that it is up to date: there may be newer data.",
            since=reader["stale_since"],
            todo="It goes on by itself once it hears of the primary or can read the store. "
            "Until then ask a reader in another region.",
        )
    if crash := reader["crash"]:
        yield Trouble(
            code="worker-crashed",
            grave=False,
            what=f"A Datasette worker in {city} crashed, and was replaced.",
            since=crash["at"],
            why=crash["message"],
            todo="If it goes on, a plugin or a very large page may be the cause: the log of this "
            "reader has the worker's last words.",
        )


def _of_primary(primary: Mapping[str, Any]) -> Iterator[Trouble]:
    if primary["away_since"]:
        yield Trouble(
            code="primary-away",
            grave=True,
            what="The primary does not answer. All that is published can be read, and uploads "
            "are kept in the object store until it is back.",
            since=primary["away_since"],
            todo="Start it again. If its machine is lost, start another one: it takes over when "
            "the lease has run out, and has all that was acknowledged.",
        )
        return
    if primary["stopping"]:
        yield Trouble(
            code="primary-stopping",
            grave=False,
            what="The primary is stopping: it finishes what it has begun.",
            todo="Nothing, if it is being restarted.",
        )
    elif primary["known"] and not primary["lease_held"]:
        yield Trouble(
            code="lease-lapsed",
            grave=True,
            what="The primary could not renew its lease, and takes no uploads.",
            todo="It takes it again as soon as the object store lets it. Check the store, and "
            "whether another primary has taken over.",
        )
    if primary["known"] and not primary["litestream_up"]:
        yield Trouble(
            code="replication-down",
            grave=True,
            what="Litestream does not run, and nothing can be published.",
            todo="It is started again by itself. If it does not stay up, the log of the primary "
            "says why.",
        )


def _of_silent(silent: Sequence[Mapping[str, Any]]) -> Iterator[Trouble]:
    if silent:
        cities = " and ".join(each["city"] for each in silent)
        one = len(silent) == 1
        yield Trouble(
            code="region-silent",
            grave=False,  # most often it sleeps
            what=f"Nothing is heard from {cities}.",
            since=silent[0]["silent_since"] if one else None,
            todo=f"{'It' if one else 'They'} may sleep: a machine that nobody asks is suspended, "
            "and wakes when somebody does. One that should be awake has crashed, or is cut off "
            "from the primary: start it.",
        )


def _of_region(region: Mapping[str, Any], now: datetime) -> Iterator[Trouble]:
    city, generation = region["city"], region["generation"]
    if region["silent"] and region["state"] in {"fresh", "behind"}:
        total = region["silent"] + region["readers"]
        yield Trouble(
            code="reader-silent",
            grave=False,
            what=f"{region['silent']} of {total} readers in {city} "
            f"{'is' if region['silent'] == 1 else 'are'} silent. The others answer.",
            since=region["silent_since"],
            todo="It may sleep. If it should be awake, start it.",
        )
    if region["state"] == "behind" and region["behind_since"]:
        late_s = (now - parse_time(region["behind_since"])).total_seconds()
        if late_s >= BEHIND_S:
            yield Trouble(
                code="region-behind",
                grave=True,
                what=f"{city} is behind: it still shows generation {generation}.",
                since=region["behind_since"],
                todo="It is being copied; the log of this reader says how far it is."
                if region["here"]
                else "The status page of that region says why.",
            )
