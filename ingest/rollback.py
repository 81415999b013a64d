"""Going back: a new generation with what an earlier one held."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headrace.errors import LitestreamError, LogError, Refusal
from headrace.history import is_same, read_at
from headrace.keys import lineage_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.generation import Cut, State
    from headrace.log import GenerationLog
    from ingest.holds import Holds
    from ingest.primary import Primary
    from ingest.rebuild import Rebuilder


@dataclass(frozen=True, slots=True, kw_only=True)
class GoneBack:
    """What came of going back.

    Attributes:
        state: The state that shows it.
        nearest: TXID that a database was restored at, where the one wanted is not kept any more.
    """

    state: State
    nearest: Mapping[str, int]


class Rollback:
    """Publishes earlier generations again."""

    def __init__(
        self, generations: GenerationLog, primary: Primary, rebuilder: Rebuilder, holds: Holds
    ) -> None:
        self._holds = holds
        self._log = generations
        self._primary = primary
        self._rebuilder = rebuilder

    async def to(self, number: int, database: str | None) -> GoneBack:
        """Publish what a generation held: all of it, or one database of it.

        What is the same now as then is left as it is; if that is all, nothing is published. All
        that differs comes at once, in one generation. Lineages are new, so readers copy them whole.

        Raises:
            Refusal: ``not-found``: the generation, or the database in it, is not kept.
        """
        try:
            target = await read_at(self._log, number)
        except LogError as exc:
            raise Refusal("not-found", str(exc), hint=exc.hint) from exc
        if database is not None and database not in target.databases:
            raise Refusal("not-found", f"generation {number} has no database {database!r}")
        now = self._primary.state.databases
        wanted = [database] if database else sorted({*target.databases, *now})
        async with AsyncExitStack() as locks:
            for name in wanted:  # always in the order of the names: two never wait for each other
                await locks.enter_async_context(self._primary.database_lock(name))
            now = self._primary.state.databases
            then = target.databases
            differing = [name for name in wanted if not is_same(then.get(name), now.get(name))]
            described = {  # the rows are the same, and something else was said about them
                name: replace(now[name], metadata=then[name].metadata)
                for name in wanted
                if name not in differing
                and name in then
                and now[name].metadata != then[name].metadata
            }
            cuts = {name: target.databases[name] for name in differing if name in target.databases}
            revived = await self._revive(cuts)
            changed_at = datetime.now(UTC)  # by this; its rows are as old as they were
            removed = tuple(name for name in differing if name not in revived)
            if differing or described:
                await self._primary.publish(
                    cause={"kind": "rollback", "to": str(number)},
                    databases={
                        **described,
                        **{
                            name: replace(cut, updated_at=changed_at)
                            for name, (cut, _txid) in revived.items()
                        },
                    },
                    removed=removed,
                )
            return GoneBack(
                state=self._primary.state,
                nearest={
                    name: txid for name, (_cut, txid) in revived.items() if txid != cuts[name].txid
                },
            )

    async def _revive(self, cuts: dict[str, Cut]) -> dict[str, tuple[Cut, int]]:
        """Revive several databases at once; each with the TXID that it was restored at.

        Raises:
            Refusal: ``not-found``: one of them is not kept; nothing was published.
        """
        lineages = [lineage_key(name, cut.lineage) for name, cut in cuts.items()]
        with self._holds.hold(*lineages):
            revivals = (
                self._rebuilder.revive(name, cut, nearest=True) for name, cut in cuts.items()
            )
            found = await asyncio.gather(*revivals, return_exceptions=True)  # all have ended
        ends = dict(zip(cuts, found, strict=True))
        failures = [each for each in ends.values() if isinstance(each, BaseException)]
        revived = {name: end for name, end in ends.items() if not isinstance(end, BaseException)}
        if not failures:
            return revived
        for name, (cut, _txid) in revived.items():
            await self._primary.let_go(name, cut.lineage)
        if isinstance(failures[0], LitestreamError):
            detail = f"not all of it is kept any more: {failures[0]}"
            raise Refusal("not-found", detail, hint=failures[0].hint) from failures[0]
        raise failures[0]
