"""What a reader tells a worker; light to import, because the reader itself never runs Datasette."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.generation import State

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """All that a worker needs to know.

    Attributes:
        state: The generation.
        slots: The file of each of its databases.
        socket: Where to listen.
        secret: Signs Datasette's cookies; the same for all workers.
        datasette_dir: The user's configuration directory.
    """

    state: State
    slots: Mapping[str, Path]
    socket: Path
    secret: str
    datasette_dir: Path | None

    def encode(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {
            "state": self.state.encode().decode(),
            "slots": {name: str(path) for name, path in self.slots.items()},
            "socket": str(self.socket),
            "secret": self.secret,
            "datasette_dir": self.datasette_dir and str(self.datasette_dir),
        }

    @classmethod
    def decode(cls, document: dict[str, Any]) -> WorkerSpec:
        """Read the JSON form."""
        folder = document["datasette_dir"]
        return cls(
            state=State.decode(document["state"].encode()),
            slots={name: Path(path) for name, path in document["slots"].items()},
            socket=Path(document["socket"]),
            secret=document["secret"],
            datasette_dir=folder and Path(folder),
        )
