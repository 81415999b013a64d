"""Going back: a new generation with what an earlier one held."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from headrace.errors import LitestreamError, LogError, Refusal
from headrace.history import is_same, read_at
from headrace.keys import lineage_key

if TYPE_CHECKING:
    from headrace.generation import Cut, State
    from headrace.log import GenerationLog
    from ingest.holds import Holds
    from ingest.primary import Primary
    from ingest.rebuild import Rebuilder


class Rollback:
    """Publishes earlier generations again."""

    def __init__(
        self, generations: GenerationLog, primary: Primary, rebuilder: Rebuilder, holds: Holds
    ) -> None:
        self._holds = holds
        self._log = generations
        self._primary = primary
        self._rebuilder = rebuilder

    async def to(self, number: int, database: str | None) -> State:
        """Publish what a generation held: all of it, or one database of it.

        What is the same now as then is left as it is; if that is all, nothing is published. All
        that differs comes at once, in one generation. Lineages are new, so readers copy them whole.

        Returns:
            The state that shows it.

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
            differing = [
                name for name in wanted if not is_same(target.databases.get(name), now.get(name))
            ]
            revived = await self._revive(
                {name: target.databases[name] for name in differing if name in target.databases}
            )
            removed = tuple(name for name in differing if name not in revived)
            if differing:
                cause = {"kind": "rollback", "to": str(number)}
                await self._primary.publish(cause=cause, databases=revived, removed=removed)
            return self._primary.state

    async def _revive(self, cuts: dict[str, Cut]) -> dict[str, Cut]:
        """Revive several databases at once.

        Raises:
            Refusal: ``not-found``: one of them is not kept; nothing was published.
        """
        lineages = [lineage_key(name, cut.lineage) for name, cut in cuts.items()]
        try:
            with self._holds.hold(*lineages):
                revivals = (self._rebuilder.revive(name, cut) for name, cut in cuts.items())
                return dict(zip(cuts, await asyncio.gather(*revivals), strict=True))
        except LitestreamError as exc:
            raise Refusal("not-found", f"not all of it is kept any more: {exc}") from exc
