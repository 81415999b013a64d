"""What clients send: numbered batches of rows, in all modes, each with a key of its own.

Everything about an upload follows from the seed and its number, so that a run repeats it.
"""

from __future__ import annotations

import hashlib
import io
import random
import sqlite3
import tempfile
import zipfile
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

ROWS = 20  # of each table of an upload
ITEMS = 60  # keys of the table that is upserted
MAX_VALUE = 2**40  # so a sum of values says which batches are in it
PAIRED = ("red", "green")  # one upload writes x to the one, and -x to the other
WHOLE = "whole"  # the database that is replaced as a file
PAIR = ("debit", "credit")  # tables that one file writes x and -x to
# Tables of PAIRED that no upload writes to, but clients of rows: one that stays, and one that they
# delete and make again.
NUMBERS, FLEETING = "numbers", "fleeting"

# Read all the while; tables that `create` makes come on top.
TABLES = {
    "red": ("ledger", "board", "stock", *PAIR, "red"),
    "green": ("ledger", "board", "stock", *PAIR, "green"),
    WHOLE: PAIR,
}

Effect = Literal["append", "replace", "upsert", "create", "whole"]
Row = tuple[int, int, int]  # key in its table, batch, value

# How often what is sent.
KINDS = {
    "append": 5,
    "replace": 2,
    "upsert": 3,
    "create": 2,
    "pair": 4,  # two tables in one file
    "transfer": 4,  # two databases in one request
    "whole": 2,
    "bad": 1,
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of an upload.

    Attributes:
        filename: As it is sent.
        database: Where it goes.
        effect: What it does to the tables.
        tables: The rows that it brings.
        body: Its bytes.
        good: Whether it can be loaded.
        number: Of its upload: the batch.
    """

    filename: str
    database: str
    effect: Effect
    tables: dict[str, tuple[Row, ...]]
    body: bytes
    good: bool
    number: int

    @cached_property
    def sha256(self) -> str:
        """By which the log and receipts name it."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One request.

    Attributes:
        number: The batch; unique in a run.
        kind: One of ``KINDS``.
        key: Its Idempotency-Key.
        fields: Its query.
        parts: Its files; two are sent as a form.
    """

    number: int
    kind: str
    key: str
    fields: dict[str, str]
    parts: tuple[Part, ...]

    @property
    def good(self) -> bool:
        """Whether all of it can be loaded."""
        return all(part.good for part in self.parts)


def make_upload(seed: int, number: int, kind: str | None = None, database: str = "") -> Upload:
    """Make the upload of a number; its kind and database are drawn where they are not given."""
    noise = random.Random(f"upload {seed} {number}")
    kind = kind or noise.choices(list(KINDS), list(KINDS.values()))[0]
    database = database or noise.choice(PAIRED)
    values = [noise.randrange(1, MAX_VALUE) for _row in range(ROWS)]
    rows = tuple((number * ROWS + row, number, value) for row, value in enumerate(values))
    counter = tuple((key, batch, -value) for key, batch, value in rows)
    fields = {"mode": "append", "database": database}
    if kind == "append":
        fields["table"] = "ledger"
        parts = [_csv("append", database, "ledger", rows)]
    elif kind == "replace":
        fields |= {"mode": "replace", "table": "board"}
        parts = [_csv("replace", database, "board", rows)]
    elif kind == "upsert":
        items = sorted(noise.sample(range(ITEMS), ROWS))
        stock = tuple((item, number, value) for item, value in zip(items, values, strict=True))
        fields |= {"mode": "upsert", "table": "stock", "pk": "key"}
        parts = [_csv("upsert", database, "stock", stock)]
    elif kind == "create":
        table = f"made_{noise.randrange(1 + number // 40)}"  # often there already
        fields |= {"mode": "create", "table": table}
        parts = [_csv("create", database, table, rows)]
    elif kind == "pair":
        fields["mode"] = noise.choice(["append", "append", "replace"])
        effect: Effect = "replace" if fields["mode"] == "replace" else "append"
        parts = [_zip(effect, database, dict(zip(PAIR, (rows, counter), strict=True)))]
    elif kind == "transfer":
        del fields["database"]  # each file names its own
        both = zip(PAIRED, (rows, counter), strict=True)
        parts = [_csv("append", name, name, each) for name, each in both]
    elif kind == "whole":
        fields |= {"mode": "replace", "database": WHOLE}
        parts = [_sqlite(dict(zip(PAIR, (rows, counter), strict=True)))]
    else:
        fields["table"] = "ledger"
        parts = [_bad(database, rows)]
    return Upload(
        number=number, kind=kind, key=f"{seed}-{number}", fields=fields, parts=tuple(parts)
    )


def _csv(effect: Effect, database: str, table: str, rows: tuple[Row, ...]) -> Part:
    return Part(
        filename=f"{table}.csv",
        database=database,
        effect=effect,
        tables={table: rows},
        body=_lines(rows),
        good=True,
        number=rows[0][1],
    )


def _bad(database: str, rows: tuple[Row, ...]) -> Part:
    """Give a file whose last line is short."""
    return Part(
        filename="ledger.csv",
        database=database,
        effect="append",
        tables={"ledger": rows},
        body=_lines(rows) + b"1,2\n",
        good=False,
        number=rows[0][1],
    )


def _lines(rows: tuple[Row, ...]) -> bytes:
    return b"key,batch,value\n" + b"".join(b"%d,%d,%d\n" % row for row in rows)


def _zip(effect: Effect, database: str, tables: dict[str, tuple[Row, ...]]) -> Part:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, rows in tables.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.csv"), _lines(rows))
    return Part(
        filename="pair.zip",
        database=database,
        effect=effect,
        tables=tables,
        body=packed.getvalue(),
        good=True,
        number=tables[PAIR[0]][0][1],
    )


def _sqlite(tables: dict[str, tuple[Row, ...]]) -> Part:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "whole.db"
        with closing(sqlite3.connect(path)) as db:
            for name, rows in tables.items():
                db.execute(f"CREATE TABLE {name} (key INTEGER, batch INTEGER, value INTEGER)")
                db.executemany(f"INSERT INTO {name} VALUES (?, ?, ?)", rows)
            db.commit()
        body = path.read_bytes()
    return Part(
        filename="whole.db",
        database=WHOLE,
        effect="whole",
        tables=tables,
        body=body,
        good=True,
        number=tables[PAIR[0]][0][1],
    )
