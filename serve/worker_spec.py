"""What a worker is told at its start; light to import: the reader itself never runs Datasette."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.change import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """All that a worker needs to know.

    Attributes:
        change: Its databases: the change from having none.
        socket: Where to listen for requests.
        control: Where to listen for the reader's orders (control.py).
        secret: Signs Datasette's cookies; the same for all workers.
        datasette_dir: The user's configuration directory.
        upload_page: Whether there is an upload page.
        read_in: Where this is, as pages say it; None: they do not.
    """

    change: Change
    socket: Path
    control: Path
    secret: str
    datasette_dir: Path | None
    upload_page: bool = True
    read_in: str | None = None

    @property
    def internal(self) -> Path:
        """A file for Datasette's internal database, if it does not hold it in memory."""
        return self.socket.with_suffix(".db")

    def encode(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {
            "change": self.change.encode(),
            "socket": str(self.socket),
            "control": str(self.control),
            "secret": self.secret,
            "datasette_dir": self.datasette_dir and str(self.datasette_dir),
            "upload_page": self.upload_page,
            "read_in": self.read_in,
        }

    @classmethod
    def decode(cls, document: dict[str, Any]) -> WorkerSpec:
        """Read the JSON form."""
        folder = document["datasette_dir"]
        return cls(
            change=Change.decode(document["change"]),
            socket=Path(document["socket"]),
            control=Path(document["control"]),
            secret=document["secret"],
            datasette_dir=folder and Path(folder),
            upload_page=document["upload_page"],
            read_in=document["read_in"],
        )
