"""The sums of a slot, against the checksum of the whole file."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from headrace.errors import ProofError
from headrace.ltx import lock_page
from headrace.sums import Sums, sum_file

if TYPE_CHECKING:
    from pathlib import Path


def test_sums_over_random_changes_equal_those_of_the_file(tmp_path: Path) -> None:
    """Whatever is set, cut off, added, written and read again, the checksum is that of the file."""
    rng = random.Random(3)
    slot = tmp_path / "slot.db"
    sums = Sums(tmp_path / "slot.db.sums", 512)
    body = bytearray()
    for step in range(60):
        action = rng.choice(["set", "set", "truncate", "extend", "reread"])
        if action == "set":
            for _ in range(rng.randint(1, 50)):
                number, page = rng.randint(1, 4000), rng.randbytes(512)
                body.extend(bytes(max(0, number * 512 - len(body))))
                body[(number - 1) * 512 : number * 512] = page
                sums.set_page(number, page)
        elif action == "truncate":
            pages = rng.randint(0, sums.pages)
            sums.truncate(pages)
            del body[pages * 512 :]
        elif action == "extend":
            sums.extend(sums.pages + rng.randint(0, 1500))
            body.extend(bytes(sums.pages * 512 - len(body)))
        else:
            sums.txid = step
            sums.write()
            sums = Sums.read(sums.path)
            assert sums.txid == step
        slot.write_bytes(body)
        assert sums.value == sum_file(slot, 512).value, f"step {step}: {action}"
        assert sums.pages == len(body) // 512


def test_sums_over_the_lock_page_equal_those_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page that SQLite locks by has no share, on the way up and on the way down."""
    monkeypatch.setattr("headrace.ltx._PENDING_BYTE", 512 * 6)  # instead of 1 GiB
    locked = lock_page(512)
    slot = tmp_path / "slot.db"
    slot.write_bytes(bytes(512 * (locked + 2)))
    sums = Sums(tmp_path / "sums", 512)
    sums.set_page(locked + 2, bytes(512))
    assert sums.value == sum_file(slot, 512).value

    sums.truncate(locked)

    slot.write_bytes(bytes(512 * locked))
    assert (sums.pages, sums.value) == (7, sum_file(slot, 512).value)
    sums.truncate(locked - 1)
    assert (sums.pages, sums.value) == (6, sum_file(slot, 512).value)


def test_sums_of_half_a_page_are_refused(tmp_path: Path) -> None:
    """A file that is not made of pages is no slot."""
    slot = tmp_path / "slot.db"
    slot.write_bytes(bytes(700))

    with pytest.raises(ProofError, match="not made of pages of 512 bytes"):
        sum_file(slot, 512)


def test_sums_with_any_damaged_header_are_refused(tmp_path: Path) -> None:
    """A header that changed by one bit, or lost its shares, vouches for nothing."""
    path = tmp_path / "sums"
    sums = Sums(path, 512)
    sums.extend(3)
    sums.write()
    whole = path.read_bytes()
    for at in range(40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ProofError):
            Sums.read(path)
    path.write_bytes(whole[:-1])

    with pytest.raises(ProofError, match="has 87 bytes"):
        Sums.read(path)


def test_sums_that_are_half_written_are_not_proven(tmp_path: Path) -> None:
    """Shares without the header that goes with them are found, whenever a writer was cut off."""
    sums = Sums(tmp_path / "sums", 512)
    for number in range(1, 3000):
        sums.set_page(number, number.to_bytes(512, "big"))
    sums.write()
    before = sums.path.read_bytes()
    Sums.read(sums.path).load()
    sums.set_page(2500, bytes(512))
    sums.write()
    Sums.read(sums.path).load()
    header_bytes = 64
    sums.path.write_bytes(before[:header_bytes] + sums.path.read_bytes()[header_bytes:])

    with pytest.raises(ProofError, match="does not hold what its header says"):
        Sums.read(sums.path).load()
