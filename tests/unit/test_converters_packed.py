"""Compressed files and archives, honest and hostile."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import sqlite3
import stat
import tarfile
import zipfile
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from backports import zstd

from headrace.errors import Refusal
from headrace.wishes import Wishes
from ingest.converters import Conversion, Converted, run_converter
from ingest.converters import unpack as unpacking
from ingest.detect import detect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

CSV = b"a,b\n1,x\n"
HTML = (
    b"<table><tr><th>v<th>w<tr><td>1.50<td>1<tr><td>1<td><tr><td>0.30000000000000004<td>2</table>"
)
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
}


def make_zip(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Make a zip archive."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def make_tar(files: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    """Make a tar archive; what is no bytes is a header alone."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in files.items():
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
            else:
                header = tarfile.TarInfo(name)
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
    return made.getvalue()


def make_sqlite(path: Path, *statements: str) -> bytes:
    """Make a SQLite file."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path.read_bytes()


def _convert(
    folder: Path, data: bytes, filename: str, table: str | None = None, **wishes: Any
) -> Converted:
    source = folder / "sent"
    source.write_bytes(data)
    found = detect(source, filename=filename, media_type=None)
    conversion = Conversion(
        input=source,
        output=folder / "out.db",
        format=found,
        table=table or "t",
        table_given=table is not None,
        filename=filename,
        wishes=Wishes(**wishes),
    )
    return run_converter(conversion)


def _read(folder: Path, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "out.db")) as connection:
        return connection.execute(f'SELECT * FROM "{table}"').fetchall()


def _names(converted: Converted) -> list[str]:
    return [table.name for table in converted.tables]


def _refuse(folder: Path, data: bytes, filename: str = "x", **wishes: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        _convert(folder, data, filename, **wishes)
    return caught.value


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("named", [True, False])
def test_compressed_file_is_converted_as_what_it_holds(
    tmp_path: Path, ending: str, named: bool
) -> None:
    """Each compression is known by its content, and the receipt says what was inside."""
    data = COMPRESS[ending](CSV)
    converted = _convert(tmp_path, data, f"x.csv.{ending}" if named else "")
    assert _names(converted) == ["t"]
    assert converted.format == f"csv.{ending}"
    assert converted.warnings == ()
    assert _read(tmp_path, "t") == [(1, "x")]


@pytest.mark.parametrize("ending", COMPRESS)
def test_compressed_parts_one_after_the_other_are_one_file(tmp_path: Path, ending: str) -> None:
    """Several streams in a row are one file, as with the compressions' own tools."""
    _convert(tmp_path, COMPRESS[ending](CSV) + COMPRESS[ending](b"2,y\n"), f"x.csv.{ending}")
    assert _read(tmp_path, "t") == [(1, "x"), (2, "y")]


def test_compressed_sqlite_file_is_a_sqlite_file(tmp_path: Path) -> None:
    """A database that was compressed comes through with all its tables."""
    data = make_sqlite(tmp_path / "a.db", "CREATE TABLE one (a)", "CREATE TABLE two (b)")
    converted = _convert(tmp_path, gzip.compress(data), "a.db.gz")
    assert (_names(converted), converted.format) == (["one", "two"], "sqlite.gz")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_archive_makes_a_table_of_each_file(
    tmp_path: Path, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    """Files are named by their names, whatever folder they lie in; formats may differ."""
    data = make({"q1/orders.csv": CSV, "people.json": b'[{"n": 1}, {"n": 2}]'})
    converted = _convert(tmp_path, data, "x")
    ending = "zip" if make is make_zip else "tar"
    assert converted.format == f"csv+json.{ending}"
    assert [(table.name, table.rows) for table in converted.tables] == [
        ("orders", 1),
        ("people", 2),
    ]
    assert _read(tmp_path, "orders") == [(1, "x")]
    assert _read(tmp_path, "people") == [(1,), (2,)]


@pytest.mark.parametrize("ending", COMPRESS)
def test_compressed_tar_is_an_archive(tmp_path: Path, ending: str) -> None:
    """An archive may be compressed, and files in it too."""
    data = make_tar({"a.csv": CSV, "b.csv.gz": gzip.compress(CSV)})
    converted = _convert(tmp_path, COMPRESS[ending](data), f"x.tar.{ending}")
    assert (_names(converted), converted.format) == (["a", "b"], f"csv+csv.gz.tar.{ending}")


def test_archive_with_given_table_puts_all_rows_into_it(tmp_path: Path) -> None:
    """Rows of all files go into one table: columns by name, NULL where a file lacks one."""
    data = make_zip({"1.csv": b"a,b\n1,2\n", "2.csv": b"B,a,c\n2.5,9,z\n", "3.csv": b"a\nx\n"})
    converted = _convert(tmp_path, data, "x.zip", table="all")
    assert [(table.name, table.rows) for table in converted.tables] == [("all", 3)]
    assert _read(tmp_path, "all") == [("1", 2.0, None), ("9", 2.5, "z"), ("x", None, None)]
    assert "NULL" in converted.warnings[0]


def test_archive_with_given_table_keeps_large_integers(tmp_path: Path) -> None:
    """Integers that a REAL column would round make it TEXT."""
    data = make_zip({"1.csv": b"a\n9007199254740993\n", "2.csv": b"a\n1.5\n"})
    _convert(tmp_path, data, "x.zip", table="all")
    assert _read(tmp_path, "all") == [("9007199254740993",), ("1.5",)]


@pytest.mark.parametrize(
    "name_and_data",
    [
        ("1.csv", b"v,w\n1.50,1\n1,\n0.30000000000000004,2\n"),
        ("1.json", b'[{"v": 1.5, "w": 1}, {"v": 1}, {"v": 0.30000000000000004, "w": 2}]'),
        ("1.html", HTML),
    ],
)
@pytest.mark.parametrize("columns", [{}, {"v": "x"}])
def test_numbers_beside_texts_of_other_files_are_as_they_are_written(
    tmp_path: Path, name_and_data: tuple[str, bytes], columns: dict[str, str]
) -> None:
    """A column of one table has the very texts of each file, if it has texts at all."""
    name, data = name_and_data
    files = {name: data, "2.csv": b"v,w\nabc,3\n"}
    _convert(tmp_path, make_zip(files), "x.zip", table="all", columns=columns)
    assert _read(tmp_path, "all") == [
        ("1.5" if name == "1.json" else "1.50", 1),
        ("1", None),
        ("0.30000000000000004", 2),
        ("abc", 3),
    ]


def test_empty_field_beside_texts_of_other_files_is_empty(tmp_path: Path) -> None:
    """It is NULL only among numbers."""
    files = {"1.csv": b"v,w\n1,1\n,2\n", "2.csv": b"v,w\nabc,3\n"}
    _convert(tmp_path, make_zip(files), "x.zip", table="all")
    assert _read(tmp_path, "all") == [("1", 1), ("", 2), ("abc", 3)]


def test_reals_of_a_database_beside_texts_keep_every_digit(tmp_path: Path) -> None:
    """What has no text of its own gets the shortest one that it comes back from."""
    reals = make_sqlite(
        tmp_path / "a.db", "CREATE TABLE t (v REAL)", "INSERT INTO t VALUES (0.1234567890123456)"
    )
    files = {"1.csv": b"v\nabc\n", "2.db": reals}
    _convert(tmp_path, make_zip(files), "x.zip", table="t")
    assert _read(tmp_path, "t") == [("abc",), ("0.1234567890123456",)]


def test_archive_with_table_pattern_names_each_table_by_it(tmp_path: Path) -> None:
    """``{name}`` in a table's name stands for each file's."""
    data = make_zip({"a.csv": CSV, "b.csv": CSV, "old/b.csv": CSV})
    converted = _convert(tmp_path, data, "x.zip", table="raw_{name}")
    assert [(table.name, table.rows) for table in converted.tables] == [("raw_a", 1), ("raw_b", 2)]


def test_archive_with_same_name_twice_tells_tables_apart(tmp_path: Path) -> None:
    """Nothing is overwritten: the second table gets a number, also for the very same path."""
    archive = make_tar({"a.csv": b"n\n1\n", "./a.csv": b"n\n2\n", "old/A.csv": b"n\n3\n"})
    converted = _convert(tmp_path, archive, "x.tar")
    assert _names(converted) == ["a", "a_2", "A_3"]
    rows = [row for name in _names(converted) for row in _read(tmp_path, name)]
    assert rows == [(1,), (2,), (3,)]
    assert len(converted.warnings) == 2


def test_archive_with_same_name_twice_keeps_texts_of_the_table_that_each_becomes(
    tmp_path: Path,
) -> None:
    """Rows of a file that is renamed go where texts are, or are not, under its new name."""
    data = make_zip({"q1/a.csv": b"v\n1.10\n", "q2/a.csv": b"v\n1.10\n"})
    source = tmp_path / "sent"
    source.write_bytes(data)
    texts = {"a": frozenset[str](), "a_2": frozenset({"v"})}
    output = tmp_path / "out.db"
    run_converter(Conversion(input=source, output=output, format="zip", table="x", texts=texts))
    assert (_read(tmp_path, "a"), _read(tmp_path, "a_2")) == ([(1.1,)], [("1.10",)])


def test_archive_with_sqlite_file_among_others_keeps_its_tables(tmp_path: Path) -> None:
    """A database's tables stand beside those of other files, with indexes and views."""
    database = make_sqlite(
        tmp_path / "a.db",
        "CREATE TABLE one (id INTEGER PRIMARY KEY, a TEXT UNIQUE)",
        "CREATE INDEX by_a ON one (a, id)",
        "CREATE VIEW seen AS SELECT a FROM one",
        "INSERT INTO one VALUES (7, 'x')",
    )
    converted = _convert(tmp_path, make_zip({"a.db": database, "b.csv": CSV}), "x.zip")
    assert _names(converted) == ["one", "b"]
    assert _read(tmp_path, "one") == [(7, "x")]
    assert _read(tmp_path, "seen") == [("x",)]
    with closing(sqlite3.connect(tmp_path / "out.db")) as connection:
        assert connection.execute("PRAGMA index_info(by_a)").fetchall()


def test_archive_with_one_sqlite_file_is_a_sqlite_file(tmp_path: Path) -> None:
    """A database that is all that an archive holds comes through as it is, virtual tables too."""
    database = make_sqlite(
        tmp_path / "a.db", "CREATE TABLE t (a)", "CREATE VIRTUAL TABLE f USING fts5(a)"
    )
    converted = _convert(tmp_path, make_zip({"a.db": database}), "x.zip", table="ignored")
    assert converted.format == "sqlite.zip"
    refusal = _refuse(tmp_path, make_zip({"a.db": database, "b.csv": CSV}))
    assert refusal.code == "invalid-file"
    assert refusal.hint


def test_archive_with_files_that_are_no_data_leaves_them_out(tmp_path: Path) -> None:
    """What cannot be converted is named in a warning; what the system left behind too."""
    files = {
        "a.csv": CSV,
        "licence.pdf": b"%PDF-1.7",
        "empty.csv": b"",
        "__MACOSX/._a.csv": b"\0\5\x16\7",
        ".DS_Store": b"\0\0\0\1Bud1",
        "d/.hidden/x.csv": CSV,
    }
    for make in (make_zip, make_tar):
        converted = _convert(tmp_path, make(files), "x")
        assert _names(converted) == ["a"]
        hidden, pdf, empty = converted.warnings
        assert all(name in hidden for name in ("__MACOSX/._a.csv", ".DS_Store", "d/.hidden/x.csv"))
        assert pdf.startswith("licence.pdf was left out")
        assert empty.startswith("empty.csv was left out")
        (tmp_path / "out.db").unlink()


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"a.pdf": b"%PDF-1.7"}, "unknown-format"),
        ({"a.pdf": b"%PDF-1.7", "b.png": b"\x89PNG"}, "unknown-format"),
        ({".DS_Store": b"x"}, "no-rows"),
        ({}, "no-rows"),
    ],
)
def test_archive_without_data_is_refused(
    tmp_path: Path, files: dict[str, bytes], code: str
) -> None:
    """An archive in which nothing can be converted is no success."""
    assert _refuse(tmp_path, make_zip(files)).code == code


def test_archive_with_broken_file_is_refused_with_its_name(tmp_path: Path) -> None:
    """One bad file refuses all: nothing is half done; its name and line are said."""
    refusal = _refuse(tmp_path, make_zip({"a.csv": CSV, "d/b.csv": b"a,b\n1,2\n3\n"}))
    assert (refusal.code, refusal.line) == ("invalid-file", 3)
    assert refusal.extra["file"] == "d/b.csv"
    assert refusal.detail.startswith("d/b.csv: ")


@pytest.mark.parametrize(
    "name", ["../a.csv", "d/../../a.csv", "/etc/a.csv", "C:/a.csv", "..\\a.csv", "\\a.csv", ".."]
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_archive_with_name_that_leaves_its_folder_is_refused(
    tmp_path: Path, name: str, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    """Paths that lead out of the archive are refused, as the platforms' own tools write them."""
    assert _refuse(tmp_path, make({"ok.csv": CSV, name: CSV})).code == "unsafe-archive"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sent"]


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_tar_with_link_or_device_is_refused(tmp_path: Path, kind: bytes) -> None:
    """Links, devices and pipes are refused, also where they would stay within the archive."""
    header = tarfile.TarInfo("link.csv")
    header.type, header.linkname = kind, "a.csv"
    refusal = _refuse(tmp_path, make_tar({"a.csv": CSV, "link.csv": header}))
    assert (refusal.code, refusal.extra) == ("unsafe-archive", {"file": "link.csv"})


def test_zip_with_symbolic_link_is_refused(tmp_path: Path) -> None:
    """A zip archive can hold links too."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        link = zipfile.ZipInfo("link.csv")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert _refuse(tmp_path, made.getvalue()).code == "unsafe-archive"


@pytest.mark.parametrize(
    "name", ["a\nb\x1b[31m.csv", "<script>alert(1)</script>.csv", "\u202e.csv"]
)
def test_archive_with_odd_name_makes_a_plain_table_name(tmp_path: Path, name: str) -> None:
    """Control characters and markup do not get into names of tables, nor control characters out."""
    converted = _convert(tmp_path, make_tar({name: CSV, "x.pdf": b"%PDF-"}), "x.tar")
    (table,) = _names(converted)
    assert table.replace("_", "").replace("-", "").isalnum()
    assert all(warning.isprintable() for warning in converted.warnings)


@pytest.mark.parametrize("ending", [*COMPRESS, "zip", "tar"])
def test_packed_file_that_is_cut_off_is_refused(tmp_path: Path, ending: str) -> None:
    """A file that did not arrive whole is refused wherever it was cut, and never half loaded."""
    noise = random.Random(3).randbytes(3000).hex().encode()
    rows = b"a\n" + b"\n".join(noise[start : start + 60] for start in range(0, 6000, 60)) + b"\n"
    if ending in COMPRESS:
        whole = COMPRESS[ending](rows)
    elif ending == "zip":
        whole = make_zip({"a.csv": rows, "b.csv": rows})
    else:
        whole = make_tar({"a.csv": rows, "b.csv": rows}).rstrip(b"\0") + bytes(512)
    for cut in [*range(600, len(whole) - 512, 97), len(whole) - 513]:
        refusal = _refuse(tmp_path, whole[:cut])
        assert refusal.code == "invalid-file", cut


def test_zip_file_that_begins_before_its_start_is_refused(tmp_path: Path) -> None:
    """A directory that points to a place before the file is damage, and no crash."""
    data = bytearray(make_zip({"a.csv": CSV}))
    data[-6] += 30  # where the directory is said to begin, so that all before it moves down
    refusal = _refuse(tmp_path, bytes(data), "x.zip")
    assert refusal.code == "invalid-file"


@pytest.mark.parametrize("ending", [*COMPRESS, "zip", "tar"])
def test_packed_file_with_any_damage_is_refused_or_read_right(tmp_path: Path, ending: str) -> None:
    """A flipped byte anywhere is found, or changes nothing; and never ends in another error."""
    rows = b"a\n" + b"some text\n" * 40
    whole = bytearray(
        COMPRESS[ending](rows)
        if ending in COMPRESS
        else (make_zip if ending == "zip" else make_tar)({"a.csv": rows})
    )
    noise = random.Random(4)
    for place in range(0, min(len(whole), 1500), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << noise.randrange(8)
        (tmp_path / "out.db").unlink(missing_ok=True)
        try:
            _convert(tmp_path, bytes(damaged), "x")
        except Refusal:
            continue


def test_zip_with_password_is_refused_as_encrypted(tmp_path: Path) -> None:
    """A password is said to be the reason."""
    data = bytearray(make_zip({"a.csv": CSV}, zipfile.ZIP_STORED))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    assert _refuse(tmp_path, bytes(data)).code == "encrypted-file"


@pytest.mark.parametrize(
    "data",
    [
        make_zip({"b.zip": make_zip({"a.csv": CSV})}),
        make_tar({"b.zip": make_zip({"a.csv": CSV})}),
        make_zip({"b.tar.gz": gzip.compress(make_tar({"a.csv": CSV}))}),
        gzip.compress(gzip.compress(CSV)),
        gzip.compress(bz2.compress(make_tar({"a.csv": CSV}))),
    ],
    ids=["zip-zip", "tar-zip", "zip-tar-gz", "gz-gz", "gz-tar-bz2"],
)
def test_archive_in_an_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    """Bombs that are packed in layers are not opened."""
    refusal = _refuse(tmp_path, data)
    assert (refusal.code, refusal.extra["limit"]) == ("limit-exceeded", "nesting")


@pytest.mark.parametrize("ending", [*COMPRESS, "zip", "tar.gz"])
def test_bomb_is_refused_by_its_ratio(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that grows beyond all likelihood is given up early."""
    monkeypatch.setattr(unpacking, "FREE_BYTES", 1024**2)
    monkeypatch.setattr(unpacking, "MAX_RATIO", 50)
    zeros = bytes(20 * 1024**2)
    data = {
        "zip": lambda: make_zip({"a.csv": zeros}),
        "tar.gz": lambda: gzip.compress(make_tar({"a.csv": zeros})),
    }.get(ending, lambda: COMPRESS[ending](zeros))()
    refusal = _refuse(tmp_path, data, "x")
    assert (refusal.code, refusal.extra["limit"]) == ("limit-exceeded", "ratio")


def test_archive_with_too_many_files_is_refused(tmp_path: Path) -> None:
    """A hundred thousand tiny files are refused before the first of them is read."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number in range(100_000):
            archive.writestr(f"{number}.csv", b"a\n1\n")
    refusal = _refuse(tmp_path, made.getvalue(), "x.zip")
    assert (refusal.code, refusal.extra) == ("limit-exceeded", {"limit": "files"})


def test_progress_of_packed_file_only_grows(tmp_path: Path) -> None:
    """Bytes are those of what was sent, and reach its size; rows are counted once."""
    source = tmp_path / "sent"
    source.write_bytes(make_zip({f"{number}.csv": CSV for number in range(9)}))
    seen: list[tuple[int, int]] = []
    conversion = Conversion(
        input=source,
        output=tmp_path / "out.db",
        format="zip",
        table="t",
        report=lambda rows, size_bytes: seen.append((rows, size_bytes)),
    )
    run_converter(conversion)
    assert seen == sorted(seen)
    assert 0 < seen[-1][1] <= source.stat().st_size
    assert seen[-1][0] == 9


def test_packed_text_says_its_encoding(tmp_path: Path) -> None:
    """The encoding is said where all files in there have the same."""
    data = "a\nЯЖЮЙ\n".encode("cp1251")
    packed = _convert(tmp_path, gzip.compress(data), "x.csv.gz", encoding="cp1251")
    assert packed.encoding == "windows-1251"
    (tmp_path / "out.db").unlink()
    assert _convert(tmp_path, make_zip({"1.csv": CSV, "2.csv": CSV}), "x.zip").encoding == "utf-8"
    (tmp_path / "out.db").unlink()
    data = make_zip({"1.csv": CSV, "2.csv": "a\né\n".encode("utf-16")})
    assert _convert(tmp_path, data, "x.zip").encoding is None


def test_wish_counts_in_an_archive_if_one_file_honours_it(tmp_path: Path) -> None:
    """What is asked for is for the files that know it; if none does, it is refused."""
    files = {"1.csv": b"a.b\n1.2\n", "2.json": b'[{"c": {"d": 1}}]'}
    _convert(tmp_path, make_zip(files), "x.zip", delimiter=".", nested="flatten")
    assert (_read(tmp_path, "1"), _read(tmp_path, "2")) == ([(1, 2)], [(1,)])
    (tmp_path / "out.db").unlink()
    refusal = _refuse(tmp_path, make_zip({"2.json": files["2.json"]}), "x.zip", delimiter=".")
    assert (refusal.code, refusal.extra) == ("invalid-option", {"known": {"delimiter": ["csv"]}})
    assert "json.zip" not in refusal.detail
    refusal = _refuse(tmp_path, gzip.compress(files["2.json"]), "2.json.gz", header=True)
    assert refusal.code == "invalid-option"


def test_archive_in_quarantine_names_rejects_after_their_table(tmp_path: Path) -> None:
    """A table that was renamed, since another file makes one of its name, keeps its own rejects."""
    data = make_zip({"q1/a.csv": b"a,b\n1\n2,3\n", "q2/a.csv": b"a,b\n4,5\n6,7,8\n"})
    converted = _convert(tmp_path, data, "x.zip", on_bad_rows="quarantine")
    tables = {table.name: table.rows for table in converted.tables}
    assert tables == {"a": 1, "a_rejects": 1, "a_2": 1, "a_2_rejects": 1}
    with closing(sqlite3.connect(tmp_path / "out.db")) as db:
        assert db.execute("SELECT line, raw FROM a_2_rejects").fetchall() == [(3, "6,7,8")]


@pytest.mark.parametrize(
    ("filename", "data", "said"),
    [
        ("people.csv", b'{"error": "rate limited"}', ("csv", "json")),
        ("PEOPLE.CSV", b"<!DOCTYPE html><table><tr><td>Log<td>in</table>", ("csv", "html")),
        ("report.xls", b"<table><tr><td>1<td>2</table>", ("sheets", "html")),
        ("people.json", b"a,b\n1,2\n", ("json", "csv")),
        ("people.csv", make_zip({"a.csv": b"a,b\n1,2\n"}), ("csv", "zip")),
        ("people.json", b'{"a": 1}\n{"a": 2}\n', None),
        ("people.yaml", b'[{"a": 1}]', None),
        ("places.json", b'{"type": "Point", "coordinates": [1, 2]}', None),
        ("people", b'[{"a": 1}]', None),
        ("people.txt", b"a,b\n1,2\n", None),
        ("people.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0), None),
    ],
)
def test_name_that_promises_another_format_is_a_warning(
    tmp_path: Path, filename: str, data: bytes, said: tuple[str, str] | None
) -> None:
    """An error page or a login page under a file's name is noticed, and forms of JSON are one."""
    warnings = _convert(tmp_path, data, filename).warnings
    told = [each for each in warnings if each.startswith("by its name")]
    assert told == (
        [f"by its name the file is {said[0]}, by its content {said[1]}: is it the right one?"]
        if said
        else []
    )


def test_name_in_an_archive_that_promises_another_format_is_a_warning(tmp_path: Path) -> None:
    """Each file of an archive is looked at, and named."""
    data = make_zip({"a.csv": b'[{"a": 1}]', "b.csv": b"a,b\n1,2\n"})
    said = "a.csv: by its name the file is csv, by its content json: is it the right one?"
    assert said in _convert(tmp_path, data, "both.zip").warnings
