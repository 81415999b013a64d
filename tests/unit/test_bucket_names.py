"""Which objects are taken, where they go, and what their manifests say."""

from __future__ import annotations

import pytest

from headrace.errors import Refusal
from ingest.buckets.mirror import find_gone
from ingest.buckets.names import decode_manifest, fields_of, is_file


@pytest.mark.parametrize(
    ("name", "size_bytes", "taken"),
    [
        ("sales/orders.csv", 1, True),
        ("sales/empty.csv", 0, True),  # it is refused, and set aside
        ("sales", 0, False),  # a folder, as consoles make them
        ("sales/2026", 0, False),
        ("sales/README", 1, True),
        ("sales/orders.csv.headrace.json", 1, False),
        ("_failed/sales/orders.csv", 1, False),
        ("_headrace/requests/0.json", 1, False),
        ("sales/_failed", 1, True),
        ("sales/.orders.csv.x7Yz", 1, False),  # of rsync
        (".git/config", 1, False),
        ("sales/orders.csv#1", 1, False),  # of obstore, in a folder
    ],
)
def test_is_file_of_names_tells_files_from_what_lies_beside(
    name: str, size_bytes: int, taken: bool
) -> None:
    """Manifests, folders, temporary files and what failed are not taken."""
    assert is_file(name, size_bytes) is taken


def test_fields_of_path_name_database_and_table() -> None:
    """What the path says is an option like any other."""
    assert fields_of("orders.csv", {}) == {}
    assert fields_of("sales/orders.csv", {"mode": "append"}) == {
        "mode": "append",
        "database": "sales",
    }
    assert fields_of("sales/all/1.csv", {"table": "all"}) == {"database": "sales", "table": "all"}


@pytest.mark.parametrize(
    ("name", "manifest", "code"),
    [
        ("sales/a/b/1.csv", {}, "invalid-name"),
        ("sales/1.csv", {"database": "other"}, "invalid-option"),
        ("sales/all/1.csv", {"table": "other"}, "invalid-option"),
    ],
)
def test_fields_of_path_and_manifest_that_differ_are_refused(
    name: str, manifest: dict[str, str], code: str
) -> None:
    """The path has the last word on where a file goes."""
    with pytest.raises(Refusal) as caught:
        fields_of(name, manifest)
    assert caught.value.code == code


def test_decode_manifest_gives_values_as_query_parameters_have_them() -> None:
    """Lists and objects become JSON, which options take."""
    body = b'{"mode": "upsert", "pk": ["a,b"], "header": true, "types": {"n": "text"}, "fts": null}'
    assert decode_manifest(body) == {
        "mode": "upsert",
        "pk": '["a,b"]',
        "header": "1",
        "types": '{"n": "text"}',
    }


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 90_000, b'{"wait_for": "regions"}'])
def test_decode_manifest_of_what_is_none_is_refused(body: bytes) -> None:
    """Whatever lies there, it is an answer and no crash."""
    with pytest.raises(Refusal) as caught:
        decode_manifest(body)
    assert caught.value.code == "invalid-option"


def test_find_gone_takes_two_looks() -> None:
    """A file that one look did not see may only be slow to be listed."""
    first = find_gone("abcd", "bcd", ())
    assert first.missing == {"a"}
    assert not first.confirmed
    assert not first.refused
    assert find_gone("abcd", "bcd", first.missing).confirmed == {"a"}
    assert find_gone("abcd", "abcd", first.missing).missing == frozenset()


def test_find_gone_of_too_many_confirms_none() -> None:
    """A bucket that is emptied by mistake takes no database with it, at once or one by one."""
    assert find_gone("abcd", "cd", "ab").confirmed == {"a", "b"}
    assert find_gone("abcd", "d", "abc").refused
    assert not find_gone("abcd", "d", "abc").confirmed
    assert find_gone("ab", (), "ab").refused
    assert find_gone("a", (), "a").refused
    assert not find_gone((), (), ()).refused
    assert find_gone("cd", "d", "c", deleted=2).refused  # of four
