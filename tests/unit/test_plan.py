"""Which LTX files lead from one TXID to another."""

from __future__ import annotations

import itertools
import random

from headrace.plan import REQUEST_BYTES, LtxFile, decode_listing, find_plan, single_transactions


def ltx(level: int, min_txid: int, max_txid: int, size_bytes: int = 1000) -> LtxFile:
    """Give a file."""
    return LtxFile(level=level, min_txid=min_txid, max_txid=max_txid, size_bytes=size_bytes)


def test_plan_takes_the_fewest_files() -> None:
    """A compacted file is cheaper than the transactions in it."""
    files = [*(ltx(0, n, n) for n in range(1, 9)), ltx(1, 3, 6), ltx(2, 1, 6, 2000)]

    assert find_plan(files, after=2, upto=8) == [ltx(1, 3, 6), ltx(0, 7, 7), ltx(0, 8, 8)]


def test_plan_prefers_small_files_to_a_snapshot() -> None:
    """A slot is not written anew for a few transactions."""
    files = [ltx(9, 1, 8, 10**9), *(ltx(0, n, n) for n in range(5, 9))]

    assert find_plan(files, after=4, upto=8) == [ltx(0, n, n) for n in range(5, 9)]


def test_plan_prefers_a_snapshot_to_larger_files() -> None:
    """A small database that changed a lot is cheaper to copy."""
    files = [ltx(9, 1, 6, 10_000), *(ltx(0, n, n, 10**6) for n in range(5, 9))]

    assert find_plan(files, after=4, upto=8) == [
        ltx(9, 1, 6),
        ltx(0, 7, 7),
        ltx(0, 8, 8),
    ]


def test_plan_never_goes_past_the_wanted_txid() -> None:
    """A file that holds later transactions is of no use."""
    assert find_plan([ltx(1, 1, 9)], after=0, upto=5) is None


def test_plan_uses_a_file_that_begins_before_the_slot() -> None:
    """Pages may be written again by the file that wrote them."""
    assert find_plan([ltx(1, 2, 9)], after=4, upto=9) == [ltx(1, 2, 9)]


def test_plan_over_a_gap_is_none() -> None:
    """No transaction is left out."""
    assert find_plan([ltx(0, 1, 1), ltx(0, 3, 3)], after=0, upto=3) is None


def test_plan_of_nothing_to_do_is_empty() -> None:
    """A slot that is there already needs no file."""
    assert find_plan([], after=3, upto=3) == []


def test_plan_of_random_files_is_the_cheapest_of_all() -> None:
    """The plan costs what trying every combination finds."""
    rng = random.Random(7)
    for _ in range(300):
        files = []
        for _ in range(rng.randint(0, 8)):
            low = rng.randint(1, 7)
            files.append(ltx(1, low, rng.randint(low, 8), rng.randint(1, 300_000)))
        after, upto = rng.randint(0, 3), rng.randint(4, 8)

        plan = find_plan(files, after=after, upto=upto)

        costs = [cost(chain) for chain in chains(files, after, upto)]
        assert (plan is None) == (not costs)
        if plan is not None:
            assert leads(plan, after, upto)
            assert cost(plan) == min(costs)


def chains(files: list[LtxFile], after: int, upto: int) -> list[tuple[LtxFile, ...]]:
    """Give every order of some files that leads from one TXID to another."""
    ordered = sorted(files, key=lambda file: file.max_txid)
    return [
        chain
        for count in range(1, len(files) + 1)
        for chain in itertools.combinations(ordered, count)
        if leads(chain, after, upto)
    ]


def leads(chain: tuple[LtxFile, ...] | list[LtxFile], after: int, upto: int) -> bool:
    """Whether files can be applied one after the other."""
    at = after
    for file in chain:
        if not file.min_txid - 1 <= at < file.max_txid:
            return False
        at = file.max_txid
    return at == upto


def cost(chain: tuple[LtxFile, ...] | list[LtxFile]) -> int:
    """Give what files cost."""
    return sum(file.size_bytes + REQUEST_BYTES for file in chain)


def test_single_transactions_are_one_file_each() -> None:
    """Level 0 has predictable names."""
    assert single_transactions(7, 9) == [ltx(0, 8, 8), ltx(0, 9, 9)]


def test_listing_leaves_out_what_is_no_ltx_file() -> None:
    """Temporary and foreign names are ignored."""
    name = "0000000000000001-000000000000000a.ltx"

    assert decode_listing(2, {name: 5, f"{name}.tmp": 5, "x": 1}) == [ltx(2, 1, 10, 5)]
