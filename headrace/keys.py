"""Every object key and every path on a volume, built in one place (DESIGN.md, section 4)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

GENERATIONS_PREFIX = "generations"
CHECKPOINTS_PREFIX = "generations/checkpoints"
LAST_CHECKPOINT = "generations/_last_checkpoint.json"

# Where every lineage of every database lies; Litestream's replica URL ends with it.
DBS_PREFIX = "dbs"

# The journal is replicated as a database of this name, which no upload can have.
JOURNAL_DATABASE = "_headrace"

UPLOADS_PREFIX = "uploads"
LEASES_PREFIX = "leases"
PROBES_PREFIX = "probes"
READERS_PREFIX = "readers"
INCOMING_ROOT = "incoming"
# No database has that name: what others drop into the bucket lies under those of databases.
INCOMING_PREFIX = "incoming/_headrace/requests"
INCOMING_RECEIPTS_PREFIX = "incoming/_headrace/receipts"

_UNPLAIN = re.compile(r"[^A-Za-z0-9._-]")
_KEY_NAME = 100  # characters of a file's name that stand in a key
_LEASE_KEY = re.compile(r"leases/([0-9]{20})\.json")
_LINEAGE_KEY = re.compile(r"dbs/([A-Za-z0-9_-]+)/([0-9a-f]{16})")
_INCOMING_RECEIPT = re.compile(r"incoming/_headrace/receipts/([0-9a-f]{32})\.json")
_UPLOAD_FOLDER = re.compile(r"uploads/([0-9a-f]{32})")
_LTX_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.ltx")
_LTX_KEY = re.compile(r"/(?:ltx/([0-9])|([0-9a-f]{4}))/[^/]+$")
_LOG_KEY = re.compile(r"generations/(checkpoints/)?([0-9]{20})\.json")


def generation_key(number: int) -> str:
    """Key of a log entry: ``generations/00000000000000000042.json``."""
    return f"generations/{number:020d}.json"


def checkpoint_key(number: int) -> str:
    """Key of a checkpoint of the log."""
    return f"generations/checkpoints/{number:020d}.json"


def parse_log_key(key: str) -> tuple[int, bool] | None:
    """Read the key of an entry or a checkpoint: its number, and whether it is a checkpoint."""
    found = _LOG_KEY.fullmatch(key)
    return (int(found[2]), found[1] is not None) if found else None


def lease_key(number: int) -> str:
    """Key of an entry of the lease's log."""
    return f"{LEASES_PREFIX}/{number:020d}.json"


def parse_lease_key(key: str) -> int | None:
    """Read the key of a lease: its number."""
    found = _LEASE_KEY.fullmatch(key)
    return int(found[1]) if found else None


def upload_key(receipt_id: str, filename: str) -> str:
    """Key of an upload's bytes; the name in it is only for people, so it is made plain."""
    name = _UNPLAIN.sub("_", filename)[-_KEY_NAME:].lstrip(".") or "file"
    return f"{UPLOADS_PREFIX}/{receipt_id}/{name}"


def parse_upload_folder(prefix: str) -> str | None:
    """Read what the keys of an upload begin with: the id of its receipt."""
    found = _UPLOAD_FOLDER.fullmatch(prefix)
    return found[1] if found else None


def incoming_key(request_id: str) -> str:
    """Key of what a reader wrote down of an upload that it took while the primary was away."""
    return f"{INCOMING_PREFIX}/{request_id}.json"


def incoming_receipt_key(receipt_id: str) -> str:
    """Key of a receipt of such an upload, as long as the primary has none of it."""
    return f"{INCOMING_RECEIPTS_PREFIX}/{receipt_id}.json"


def parse_incoming_receipt_key(key: str) -> str | None:
    """Read the key of such a receipt: its id."""
    found = _INCOMING_RECEIPT.fullmatch(key)
    return found[1] if found else None


def probe_key(name: str) -> str:
    """Key of an object by which a store is tried, and which is deleted at once."""
    return f"{PROBES_PREFIX}/{name}"


def lineage_key(database: str, lineage: str) -> str:
    """Prefix under which Litestream writes one lineage of one database."""
    return f"{DBS_PREFIX}/{database}/{lineage}"


def parse_lineage_key(prefix: str) -> tuple[str, str] | None:
    """Read the prefix of a lineage: its database, and itself."""
    found = _LINEAGE_KEY.fullmatch(prefix)
    return (found[1], found[2]) if found else None


def ltx_level_key(database: str, lineage: str, level: int, *, s3: bool) -> str:
    """Prefix under which Litestream writes the LTX files of one level: 0 to 8, snapshots at 9.

    On S3 its levels have other names than in every other store.

    Source: Litestream 0.5.17, ``s3/replica_client.go``, ``WriteLTXFile``; ``litestream.go``,
    ``LTXLevelDir``.
    """
    folder = f"{level:04x}" if s3 else f"ltx/{level}"
    return f"{lineage_key(database, lineage)}/{folder}"


def ltx_key(
    database: str, lineage: str, level: int, min_txid: int, max_txid: int, *, s3: bool
) -> str:
    """Key of one LTX file, which covers the transactions from ``min_txid`` to ``max_txid``."""
    folder = ltx_level_key(database, lineage, level, s3=s3)
    return f"{folder}/{min_txid:016x}-{max_txid:016x}.ltx"


def parse_ltx_name(name: str) -> tuple[int, int] | None:
    """Read the name of an LTX file: its first and last transaction."""
    found = _LTX_NAME.fullmatch(name)
    return (int(found[1], 16), int(found[2], 16)) if found else None


def parse_ltx_key(key: str) -> tuple[int, int, int] | None:
    """Read the key of an LTX file in any store: its level, its first and its last transaction."""
    found = _LTX_KEY.search(key)
    parsed = parse_ltx_name(key.rpartition("/")[2])
    if found is None or parsed is None:
        return None
    return int(found[1] or found[2], 16), *parsed


def sums_beside(database: Path) -> Path:
    """Path of the checksum of a live database."""
    return database.with_name(f".{database.name}-sums")


def level0_beside(database: Path, txid: int) -> Path:
    """Path of Litestream's own copy of one transaction, which it keeps for a while.

    Source: Litestream 0.5.17, ``litestream.go``, ``MetaDirSuffix`` and ``LTXFilePath``.
    """
    meta = database.with_name(f".{database.name}-litestream")
    return meta / "ltx" / "0" / f"{txid:016x}-{txid:016x}.ltx"


def reader_key(reader: str) -> str:
    """Key of what a reader says of itself while the primary is away."""
    return f"{READERS_PREFIX}/{reader}.json"


class PrimaryPaths:
    """The folders of a primary's volume.

    ::

        dbs/<database>/<lineage>   live SQLite databases, watched by Litestream
        dbs/<database>/.<lineage>-sums         the database's checksum, page by page
        dbs/<database>/.<lineage>-litestream/  Litestream's own
        spool/<receipt id>         uploads as they came, until they are converted
        tus/<id>                   bytes of a resumable upload, as far as they came
        tus/<id>.json              what is known of it
        staging/<receipt id>/      a converter's temporary folder and its output
        staging/convert-<random>/  temporary folder of the converter's process that is ahead
        dbs/_headrace/<lineage>    the journal, replicated like any other
        lock                       held by the process that owns the volume
        id                         the volume's identity: the owner of the lease
        lease                      the leases that its last processes asked for
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.dbs = root / DBS_PREFIX
        self.spool = root / "spool"
        self.staging = root / "staging"
        self.tus = root / "tus"
        self.lock = root / "lock"
        self.identity = root / "id"
        self.lease = root / "lease"

    def database(self, database: str, lineage: str) -> Path:
        """Path of one lineage's live database file."""
        return self.dbs / database / lineage

    def sums(self, database: str, lineage: str) -> Path:
        """Path of the checksum of a live database."""
        return sums_beside(self.database(database, lineage))

    def level0(self, database: str, lineage: str, txid: int) -> Path:
        """Path of Litestream's own copy of one transaction, which it keeps for a while."""
        return level0_beside(self.database(database, lineage), txid)

    def level0_folder(self, database: str, lineage: str) -> Path:
        """Path of the folder of those."""
        return self.level0(database, lineage, 1).parent


class ReaderPaths:
    """The folders of a reader.

    ::

        slots/<lineage>/<txid>.db    a proven copy at that TXID; beside each: <name>.sums
        slots/<lineage>/<txid>.spare an idle copy, that the next generation is made of
        slots/<lineage>/….part       one that is being written; worth nothing after a crash
        configurations/<number>/     copies of the user's configuration directory
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.slots = root / "slots"
        self.configurations = root / "configurations"
        self.lock = root / "lock"

    def slot(self, lineage: str, txid: str) -> Path:
        """Path of the copy of one lineage at one TXID (16 hex digits)."""
        return self.slots / lineage / f"{txid}.db"
