"""A Datasette that is given its databases while it runs: dressed, and dressed again.

A fresh worker is dressed once, a spare again at the switch it is used for; both go through
``dress``, so both end equal. What the lines of Datasette do not share is in a module of each:
``datasette_0.py`` and ``datasette_1.py``.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datasette.app import Datasette
from datasette.utils import parse_metadata
from datasette.version import __version_info__

from serve.metadata import assemble_metadata, describe_database
from serve.provenance import Provenance
from serve.published import showable
from serve.slot_database import SlotConnections, SlotDatabase
from serve.templates import TEMPLATES, environment_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from datasette.database import Database

    from serve.change import Change

METADATA_FILES = ("metadata.json", "metadata.yaml", "metadata.yml")  # as Datasette orders them


class DressedDatasette(Datasette):  # type: ignore[misc] # Datasette has no types
    """Serves the slots it is dressed in, and whatever the user's directory adds.

    Databases in the user's directory are served as Datasette would; one that has the name of a
    published database gives way to it.
    """

    databases: Mapping[str, Database]
    inspect_data: dict[str, Any] | None
    internal_db_created: bool
    config: dict[str, Any]

    def __init__(
        self,
        datasette_dir: Path | None,
        secret: str,
        read_in: str | None = None,
        **options: Any,
    ) -> None:
        self._user_metadata = read_user_metadata(datasette_dir)
        self._connections = SlotConnections()
        self._slots: dict[str, SlotDatabase] = {}
        self._sections: dict[str, dict[str, Any]] = {}
        self._inspected: dict[str, Any] = {}
        self._unread: set[str] = set()  # their schemas are not in the internal database
        self._gone: set[str] = set()  # their schemas are still in it
        super().__init__(files=[], config_dir=datasette_dir, secret=secret, **options)
        environment_of(self).bytecode_cache = TEMPLATES
        self._own = {name: db for name, db in self.databases.items() if name != "_memory"}
        self._own_inspected = self.inspect_data or {}
        self.provenance = Provenance(read_in=read_in)

    @property
    def published(self) -> tuple[str, ...]:
        """The names of the databases that Headrace has published, in their order."""
        return tuple(self._slots)

    @property
    def described(self) -> Iterable[str]:
        """The names of the databases that something is said about, also if there are none."""
        raise NotImplementedError

    def dress(self, change: Change) -> None:
        """Change the databases; at a cost that grows with the change.

        Raises:
            WorkerError: The user's metadata has another shape than Datasette's.
        """
        slots, sections = self._slots.copy(), self._sections.copy()
        inspected, cuts = self._inspected.copy(), dict(self.provenance.cuts)
        user_sections = assemble_metadata(self._user_metadata, change, {})["databases"]
        for name in change.removed:
            for each in (slots, sections, inspected, cuts):
                each.pop(name, None)
        for name, database in change.databases.items():
            slots[name] = SlotDatabase(self, name, database.slot, self._connections)
            columns = database.inspected.get("columns", {})
            said = showable(database.cut.metadata, database.cut.tables, columns)
            user_section = user_sections.get(name) or {}
            sections[name] = describe_database(user_section, name, database.cut, said)
            inspected[name], cuts[name] = database.inspected, database.cut
        if change.order is not None:
            slots = {name: slots[name] for name in change.order}
            sections = {name: sections[name] for name in change.order}
        self.say(assemble_metadata(self._user_metadata, change, sections))
        self.inspect_data = {**self._own_inspected, **inspected}
        self._sections, self._inspected = sections, inspected
        self.provenance = replace(
            self.provenance, generation=change.number, published_at=change.created_at, cuts=cuts
        )
        self._unread |= change.databases.keys()
        self._gone |= set(change.removed)
        self._attach(slots)

    def say(self, metadata: dict[str, Any]) -> None:
        """Show this metadata from now on."""
        raise NotImplementedError

    async def settle(self) -> None:
        """Do what is left to do of a dressing, before the first request sees it."""

    def let_go(self) -> None:
        """Hold no slot open, and end what still reads one."""
        self._attach(
            {
                name: SlotDatabase(self, name, slot.path, self._connections)
                for name, slot in self._slots.items()
            }
        )

    def _attach(self, slots: dict[str, SlotDatabase]) -> None:
        before, self._slots = self._slots, slots
        own = {name: db for name, db in self._own.items() if name not in slots}
        self.databases = OrderedDict(own | slots)
        for name, slot in before.items():
            if slots.get(name) is not slot:
                slot.close()


def make_datasette(
    datasette_dir: Path | None, secret: str, internal: Path, read_in: str | None
) -> DressedDatasette:
    """Make one of the line that is installed.

    Args:
        datasette_dir: The user's configuration directory.
        secret: Signs cookies.
        internal: A file for the internal database, if that is not held in memory.
        read_in: Where its pages are read, to be said on them.
    """
    if __version_info__[0] == "0":
        from serve.datasette_0 import Datasette0  # noqa: PLC0415 - it imports what only 0.65 has

        return Datasette0(datasette_dir, secret, read_in)
    from serve.datasette_1 import Datasette1  # noqa: PLC0415 - the same of 1.0

    return Datasette1(datasette_dir, secret, internal, read_in)


def read_user_metadata(folder: Path | None) -> Any:
    """Read the metadata of a configuration directory, ``{}`` without one."""
    for name in METADATA_FILES:
        if folder is not None and (folder / name).exists():
            return parse_metadata((folder / name).read_text())
    return {}
