"""Receipts and the states of an upload."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from headrace.receipt import NEXT_STATE, Receipt, TableOutcome, UploadState, new_receipt_id

AT = datetime(2026, 11, 22, 1, 33, 39, tzinfo=UTC)


def make_receipt(**changes: object) -> Receipt:
    """Make the receipt of an upload that was just received."""
    values: dict[str, object] = {
        "id": new_receipt_id(AT),
        "state": UploadState.RECEIVED,
        "filename": "orders.csv",
        "bytes": 10,
        "sha256": "ab" * 32,
        "database": "sales",
        "mode": "replace",
        "created_at": AT,
    }
    return Receipt(**{**values, **changes})  # type: ignore[arg-type]


def test_receipt_is_read_back_as_it_was_written() -> None:
    """A receipt survives its JSON form, at its beginning and at its end."""
    receipt = make_receipt()
    assert Receipt.decode(receipt.encode()) == receipt
    done = make_receipt(
        state=UploadState.PUBLISHED,
        tables=(TableOutcome(name="orders", rows=3, added=1, changed=2),),
        generation=4,
        lineage="0123456789abcdef",
        txid=26,
        url="/sales/orders",
        warnings=("renamed",),
        timings_s={"merge": 0.1},
        published_at=AT,
    )
    assert Receipt.decode(done.encode()) == done
    assert done.encode()["txid"] == "000000000000001a"


def test_receipt_id_sorts_by_time_and_is_hex() -> None:
    """Ids are safe in URLs and paths, and the newest sorts last."""
    first, second = new_receipt_id(AT), new_receipt_id(AT + timedelta(milliseconds=1))
    assert first < second
    assert re.fullmatch(r"[0-9a-f]{32}", first)
    assert first != new_receipt_id(AT)


def test_every_state_leads_to_an_end() -> None:
    """Following the transitions from the first state ends at published."""
    state = UploadState.RECEIVED
    for _step in UploadState:
        state = NEXT_STATE.get(state, state)
    assert state is UploadState.PUBLISHED
    assert set(NEXT_STATE) == {state for state in UploadState if not state.final}
