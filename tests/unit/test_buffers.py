"""The memory of bodies on their way to the disk."""

from __future__ import annotations

from contextlib import ExitStack

from ingest.buffers import LEAST_BYTES, MOST_BYTES, TOTAL_BYTES, Buffers


def test_one_body_alone_is_written_in_the_largest_pieces() -> None:
    """Nobody is slower because there might be others."""
    buffers = Buffers()
    with buffers.share("a") as piece_bytes:
        assert piece_bytes() == MOST_BYTES


def test_all_bodies_together_have_one_amount_and_each_sender_the_same_part_of_it() -> None:
    """However many one of them sends, another's only body has large pieces."""
    buffers = Buffers()
    with ExitStack() as many:
        of_many = [many.enter_context(buffers.share("many")) for _ in range(100)]
        assert sum(piece_bytes() for piece_bytes in of_many) <= TOTAL_BYTES // 2
        with buffers.share("one") as of_one:
            assert of_one() == MOST_BYTES
            assert sum(piece_bytes() for piece_bytes in of_many) <= TOTAL_BYTES // 4
        crowd = [many.enter_context(buffers.share(str(number))) for number in range(1000)]
        assert {piece_bytes() for piece_bytes in (*crowd, *of_many)} == {LEAST_BYTES}
    with buffers.share("many") as piece_bytes:
        assert piece_bytes() == MOST_BYTES
