"""What a client asks for."""

from __future__ import annotations

import base64
import hashlib

import pytest

from headrace.errors import Refusal
from headrace.options import (
    MAX_WAIT_S,
    check_digest,
    clean_filename,
    filename_of,
    read_target,
    wait_of,
)
from headrace.wishes import Wishes
from ingest.api.reprocess import read_target_again
from ingest.journal import Options
from tests.unit.test_receipt import make_receipt


def test_target_comes_from_the_file_name() -> None:
    """Without options, database and table are named after the file, and mode is replace."""
    target = read_target({}, "orders.csv")
    assert (target.database, target.table, target.mode) == ("orders", "orders", "replace")
    assert target.warnings == ()


def test_target_of_an_unsafe_file_name_is_said() -> None:
    """A name that had to be changed is changed with a warning."""
    target = read_target({}, "C:\\files\\Q3 Umsätze.csv")
    assert (target.database, target.table) == ("Q3_Umsatze", "Q3_Umsatze")
    assert target.filename == "Q3 Umsätze.csv"
    assert len(target.warnings) == 2


def test_target_options_win() -> None:
    """What the client says is taken as it is."""
    target = read_target({"database": "sales", "table": "Q3 🚀", "mode": "append"}, "x.csv")
    assert (target.database, target.table, target.mode) == ("sales", "Q3 🚀", "append")


def test_target_without_any_name_is_refused() -> None:
    """There must be a file name or a database."""
    with pytest.raises(Refusal) as refused:
        read_target({}, None)
    assert refused.value.code == "invalid-name"
    assert read_target({"database": "sales"}, None).table == "sales"


def test_target_upsert_carries_its_key() -> None:
    """An upsert names its key, or leaves it to the table."""
    assert read_target({"mode": "upsert", "pk": "a,b"}, "x.csv").wishes.pk == ("a", "b")
    assert read_target({"mode": "upsert"}, "x.csv").mode == "upsert"


@pytest.mark.parametrize(
    ("header", "filename"),
    [
        ('attachment; filename="orders.csv"', "orders.csv"),
        ("inline; filename=orders.csv", "orders.csv"),
        ("attachment; filename=\"x.csv\"; filename*=UTF-8''Ums%C3%A4tze.csv", "Umsätze.csv"),
        ("attachment", None),
    ],
)
def test_filename_of_content_disposition(header: str, filename: str | None) -> None:
    """RFC 6266: filename* wins over filename."""
    assert filename_of({"Content-Disposition": header}) == filename
    assert filename_of({}) is None


@pytest.mark.parametrize(
    ("sent", "shown"),
    [("../../etc/passwd", "passwd"), ("a\r\nb.csv", "ab.csv"), (None, ""), ("x" * 999, "x" * 255)],
)
def test_clean_filename_is_safe_to_show(sent: str | None, shown: str) -> None:
    """No folders, no control characters, no endless names."""
    assert clean_filename(sent) == shown


@pytest.mark.parametrize(
    ("prefer", "wait_s"),
    [
        ([], 30.0),
        (["respond-async"], 0.0),
        (["wait=5"], 5.0),
        (["respond-async, wait=5"], 0.0),
        (["foo; bar", "wait=7"], 7.0),
        (["wait=999999"], MAX_WAIT_S),
        (["wait=abc"], 30.0),
    ],
)
def test_wait_of_prefer(prefer: list[str], wait_s: float) -> None:
    """RFC 7240: what is understood is honoured, the rest ignored."""
    assert wait_of(prefer) == wait_s


def test_check_digest_compares_sha256() -> None:
    """RFC 9530: a SHA-256 that differs is refused; one that is right, or another kind, is not."""
    digest = hashlib.sha256(b"abc")
    header = f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    check_digest({"Content-Digest": header, "Repr-Digest": "md5=:eA==:"}, digest.hexdigest())
    with pytest.raises(Refusal) as refused:
        check_digest({"Repr-Digest": header}, hashlib.sha256(b"abd").hexdigest())
    assert refused.value.code == "digest-mismatch"
    with pytest.raises(Refusal) as refused:
        check_digest({"Content-Digest": "sha-256=:!:"}, digest.hexdigest())
    assert refused.value.code == "bad-request"


def test_target_of_an_upload_taken_again_is_that_of_before() -> None:
    """Where nothing else is said everything is as it was, and what is said takes its place."""
    receipt = make_receipt(filename="x y.csv", database="sales", mode="append")
    wishes = Wishes(types={"zip": "text"}, strict=True, delimiter=";")
    options = Options(table="t", media_type=None, wishes=wishes, table_given=True)

    same = read_target_again({}, receipt, options)
    assert (same.database, same.table, same.mode, same.filename) == (
        "sales",
        "t",
        "append",
        "x y.csv",
    )
    assert same.wishes == wishes
    assert same.table_given

    other = read_target_again({"mode": "replace", "types": "n:real"}, receipt, options)
    assert (other.database, other.mode) == ("sales", "replace")
    assert other.wishes == Wishes(types={"n": "real"}, strict=True, delimiter=";")


def test_target_taken_again_with_empty_options_has_the_defaults() -> None:
    """An option without a value is as if it had never been given."""
    receipt = make_receipt(filename="x y.csv", database="sales", mode="append")
    wishes = Wishes(encoding="cp1252", header=False, pk=("a",))
    options = Options(table="t", media_type=None, wishes=wishes, table_given=True)
    empty = dict.fromkeys(("database", "table", "mode", "encoding", "header", "pk"), "")

    target = read_target_again(empty, receipt, options)

    assert (target.database, target.table, target.mode) == ("x_y", "x_y", "replace")
    assert not target.table_given
    assert target.wishes == Wishes()
    with pytest.raises(Refusal, match="not known"):
        read_target_again({"moode": ""}, receipt, options)
