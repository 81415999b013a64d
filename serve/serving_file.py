"""What a reader served last, kept for a restart while the store is away."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from headrace.durable import fsync_folder, fsync_path
from headrace.errors import LogError
from headrace.generation import State, format_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from headrace.generation import Cut

log = structlog.get_logger()


class ServingFile:
    """A file with the generation in service, as a checkpoint of the log is written.

    The JSON of each cut is kept: with a thousand databases of which one changes, encoding all of
    them took a fifth of a switch.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encoded: dict[str, tuple[Cut, str]] = {}

    def read(self) -> State | None:
        """Give what was served last; None if that is not known."""
        try:
            return State.decode(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, LogError) as exc:
            log.warning("last generation not resumed", reason=str(exc))
            return None

    @asynccontextmanager
    async def kept(self, state: State) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Write a state beside the file in the background; what is given renames it."""
        part = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}.part")
        writing = asyncio.create_task(asyncio.to_thread(self._write, part, state))

        async def keep() -> None:
            await writing
            await asyncio.to_thread(self._rename, part)

        try:
            yield keep
        finally:
            await asyncio.gather(writing, return_exceptions=True)  # a thread cannot be cancelled
            part.unlink(missing_ok=True)

    def _write(self, part: Path, state: State) -> None:
        part.write_text(self.encode(state))
        fsync_path(part)

    def _rename(self, part: Path) -> None:
        part.rename(self._path)
        fsync_folder(self._path.parent)

    def encode(self, state: State) -> str:
        """Give the text of a state, which ``State.decode`` reads."""
        before, self._encoded = self._encoded, {}
        for name, cut in state.databases.items():
            known = before.get(name)
            self._encoded[name] = known if known and known[0] is cut else (cut, _dump(cut.encode()))
        head = {
            "generation": state.number,
            "epoch": state.epoch,
            "created_at": state.created_at and format_time(state.created_at),
        }
        databases = ",".join(f"{_dump(name)}:{text}" for name, (_, text) in self._encoded.items())
        return f'{_dump(head)[:-1]},"databases":{{{databases}}}}}'


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
