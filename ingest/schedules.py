"""Files that are fetched again and again, at the times of a cron expression.

A schedule is kept in the journal, so the next primary goes on with it. Times that passed while
there was no primary count once. After a failure the next time is skipped if it is too near: the
pause doubles with each failure, up to a day.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from cronsim import CronSim, CronSimError

from headrace.errors import HeadraceError, Refusal
from headrace.fetching import FetchRequest
from headrace.generation import format_time, parse_time
from headrace.receipt import UploadState
from ingest.fetched import upload
from ingest.writer import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.api.node import Node

log = structlog.get_logger()

KIND = "schedule"  # of notes in the journal
MAX_SCHEDULES = 1000
AT_ONCE = 4
LOOK_S = 30.0  # at the latest: a clock is never quite right
WAIT_S = 3600.0  # for one to be published
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(days=1)
_FIELDS = 5  # of a cron expression; with seconds there would be six


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What is fetched when.

    Attributes:
        id: 16 hex digits.
        asked: What is fetched, and what becomes of it.
        cron: Five fields, as crontab(5) has them.
        timezone: Name of the time zone that they hold in.
        made_by: Id of who made it: it may do what he may do then.
        created_at: When it was made.
        next_at: When it is fetched next.
        last_at: When it was fetched last.
        last_receipt: Id of what came of that.
        last_outcome: ``published``, ``unchanged``, ``failed``, or ``running`` after an hour.
        last_error: The problem document, if it failed.
        failures: How often it failed since it went well.
    """

    id: str
    asked: FetchRequest
    cron: str
    timezone: str
    made_by: str
    created_at: datetime
    next_at: datetime
    last_at: datetime | None = None
    last_receipt: str | None = None
    last_outcome: str | None = None
    last_error: dict[str, Any] | None = None
    failures: int = 0

    @property
    def database(self) -> str:
        """Where it goes; fixed when it is made, whatever a server calls the file later."""
        return self.asked.fields["database"]

    def encode(self) -> dict[str, Any]:
        """Give the JSON form that is kept."""
        document = {**asdict(self), "asked": self.asked.encode()}
        for name in ("created_at", "next_at", "last_at"):
            document[name] = document[name] and format_time(document[name])
        return document

    def show(self) -> dict[str, Any]:
        """Give the JSON form that people see: without what may be secret."""
        document = self.encode()
        del document["asked"]
        return {**document, "url": self.asked.shown_url, "options": dict(self.asked.fields)}

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> Schedule:
        """Read the JSON form."""
        values = dict(document)
        values["asked"] = FetchRequest(**values["asked"])
        for name in ("created_at", "next_at", "last_at"):
            values[name] = values[name] and parse_time(values[name])
        return cls(**values)


def new_schedule(
    asked: FetchRequest, cron: str, timezone: str, now: datetime, made_by: str = ROOT.id
) -> Schedule:
    """Make a schedule.

    Raises:
        Refusal: ``invalid-option``: the expression or the time zone is none.
    """
    return Schedule(
        id=secrets.token_hex(8),
        asked=asked,
        cron=cron,
        timezone=timezone,
        made_by=made_by,
        created_at=now,
        next_at=next_time(cron, timezone, now),
    )


def next_time(cron: str, timezone: str, after: datetime) -> datetime:
    """Give the first time of a cron expression after another, in UTC.

    Where clocks are changed, it is as in Debian's cron: a job is not left out, nor run twice.

    Raises:
        Refusal: ``invalid-option``: the expression or the time zone is none.
    """
    if len(cron.split()) != _FIELDS:
        raise Refusal(
            "invalid-option",
            f"cron={cron[:100]!r} cannot be used: it has five fields",
            hint="minute, hour, day, month, weekday: '0 6 * * *' is every day at six",
        )
    zone = _zone(timezone)
    try:
        return next(CronSim(cron, after.astimezone(zone))).astimezone(UTC)
    except (CronSimError, StopIteration) as exc:
        why = str(exc) or "no day is ever like that"
        raise Refusal("invalid-option", f"cron={cron[:100]!r} cannot be used: {why}") from exc


def after_run(
    schedule: Schedule,
    now: datetime,
    *,
    outcome: str,
    receipt: str | None,
    error: dict[str, Any] | None,
) -> Schedule:
    """Give the schedule after a run."""
    failures = schedule.failures + 1 if error else 0
    after = now
    if failures > 1:  # one failure is nothing; who fails on is asked less often
        after = now + min(FIRST_PAUSE * 2 ** min(failures - 2, 16), LONGEST_PAUSE)
    return replace(
        schedule,
        last_at=now,
        last_receipt=receipt,
        last_outcome=outcome,
        last_error=error,
        failures=failures,
        next_at=next_time(schedule.cron, schedule.timezone, after),
    )


class Scheduler:
    """Runs schedules when their time has come.

    Args:
        node: The primary.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._running: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Look for what is due, until cancelled."""
        try:
            while True:
                self._node.schedules_changed.clear()
                wait_s = await self._look()
                try:
                    async with asyncio.timeout(wait_s):
                        await self._node.schedules_changed.wait()
                except TimeoutError:
                    pass
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _look(self) -> float:
        """Begin what is due; give the seconds until the next one is."""
        now = self._node.now()
        try:
            schedules = await read_schedules(self._node)
        except sqlite3.Error as exc:  # of a disk that is full: nothing else has to stop for that
            log.warning("schedules not read", error=str(exc))
            return LOOK_S
        waiting = [LOOK_S]
        for schedule in schedules:
            if schedule.id in self._running:
                continue
            left_s = (schedule.next_at - now).total_seconds()
            if left_s > 0:
                waiting.append(left_s)
                continue
            task = asyncio.create_task(self._run_one(schedule))
            self._running[schedule.id] = task
            task.add_done_callback(partial(self._forget, schedule.id))
        return min(waiting)

    def _forget(self, schedule_id: str, _task: asyncio.Task[None]) -> None:
        del self._running[schedule_id]

    async def _run_one(self, schedule: Schedule) -> None:
        async with self._turns:
            try:
                self._node.check_keeping()
            except Refusal:  # it is no failure of the schedule: the next look tries it again
                return
            try:
                await run_schedule(self._node, schedule)
            except Exception:
                log.exception("schedule failed", schedule=schedule.id)


async def run_schedule(node: Node, schedule: Schedule) -> Schedule:
    """Fetch what a schedule is for, wait until that is published, and note what came of it.

    Raises:
        Refusal: ``fetch-off``, ``stopping`` and the like: noted as well.
    """
    receipt_id, outcome, error = None, "failed", None
    try:
        writer = node.access.recall(schedule.made_by, schedule.database, "")
        writer.require(schedule.database)  # a token that has ended since allows nothing
        receipt_id, same = await upload(node, schedule.asked, writer)
        receipt = await node.uploads.wait(receipt_id, WAIT_S)
        error = receipt.error if receipt else None
        if error is None:
            published = receipt is not None and receipt.state is UploadState.PUBLISHED
            outcome = "unchanged" if same else "published" if published else "running"
    except HeadraceError as exc:
        refusal = exc if isinstance(exc, Refusal) else Refusal("internal-error", str(exc))
        error = refusal.document()
    done = after_run(schedule, node.now(), outcome=outcome, receipt=receipt_id, error=error)
    log.info("schedule run", schedule=schedule.id, outcome=outcome, receipt=receipt_id)
    if await find_schedule(node, schedule.id) is not None:  # it may have been removed meanwhile
        await save_schedule(node, done)
    return done


async def read_schedules(node: Node) -> list[Schedule]:
    """Read all schedules, the oldest first."""
    return [Schedule.decode(note) for note in await node.journal.read_notes(KIND)]


async def find_schedule(node: Node, schedule_id: str) -> Schedule | None:
    """Find one schedule."""
    note = await node.journal.find_note(KIND, schedule_id)
    return None if note is None else Schedule.decode(note)


async def save_schedule(node: Node, schedule: Schedule) -> None:
    """Keep a schedule, as it is now."""
    await node.journal.put_note(KIND, schedule.id, schedule.encode(), keep=MAX_SCHEDULES)
    node.schedules_changed.set()


def _zone(name: str) -> tzinfo:
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise Refusal(
            "invalid-option",
            f"timezone={name[:100]!r} is not known here",
            hint="name it as in Europe/Zurich, or leave it out for UTC",
        ) from exc
