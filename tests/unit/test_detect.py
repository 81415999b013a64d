from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path

import pytest

from headrace.errors import Refusal
from ingest.converters import KNOWN_FORMATS
from ingest.detect import HEAD_BYTES, detect


def _detect(folder: Path, data: bytes, filename: str = "", media_type: str | None = None) -> str:
    path = folder / "upload"
    path.write_bytes(data)
    return detect(path, filename=filename, media_type=media_type)


@pytest.mark.parametrize(
    ("data", "filename", "expected"),
    [
        (b"a,b\n1,2\n", "x.csv", "csv"),
        (b"a\n1\n", "x.csv", "csv"),
        (b"a\tb\n1\t2\n", "x.tsv", "csv"),
        (b'[{"a": 1}]', "x.json", "json"),
        (b'{"a": 1}\n{"a": 2}\n', "x.ndjson", "ndjson"),
        (b'{"a": 1}\n', "x.jsonl", "ndjson"),
        (b"a: 1\n", "x.yaml", "yaml"),
        (b"{a: 1, b: 2}\n", "x.yml", "yaml"),
        (b"hello\n", "x.md", "markdown"),
    ],
)
def test_detect_file_with_its_own_name_is_found(
    tmp_path: Path, data: bytes, filename: str, expected: str
) -> None:
    """A file whose name tells the truth is what it is called."""
    assert _detect(tmp_path, data, filename) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a,b\n1,2\n", "csv"),
        (b"a;b\n1,5;2\n", "csv"),
        (b"a|b\n1|2\n", "csv"),
        (b"\xef\xbb\xbfa\tb\n1\t2\n", "csv"),
        (b' [{"a": 1}]', "json"),
        (b'{"a": 1}', "json"),
        (b'{"a": 1}\n{"a": 2}\n', "ndjson"),
        (b"a: 1\nb: 2\n", "yaml"),
        (b"- a: 1\n- a: 2\n", "yaml"),
        (b"---\na: 1\n---\nb: 2\n", "yaml"),
        (b"---\ntitle: x\n---\nSome text.\n", "markdown"),
        (b"# Title\n\nSome text.\n", "markdown"),
        (b'<?xml version="1.0"?>\n<a/>', "xml"),
        (b'<rss version="2.0"><channel><title>x</title></channel></rss>', "xml"),
        (b"<!-- x --><!DOCTYPE HTML><p>", "html"),
        (b"\xef\xbb\xbf<html lang=en>", "html"),
        (b"<table><tr><td>1,2</table>\n", "html"),
        (b"<?xml version='1.0'?><!DOCTYPE html PUBLIC 'a' 'b'><html/>", "html"),
        (b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nEND:VCALENDAR\r\n", "icalendar"),
        (b"From a@b Sun Dec 25 21:33:37 2011\nSubject: x\n\nhi\n", "mbox"),
        (b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCOMMIT;\n", "sql"),
        (b"-- a, b\n/* c */\ncreate table t (a, b);\n", "sql"),
        (b"INSERT INTO t VALUES (1, 2);\nINSERT INTO t VALUES (3, 4);\n", "sql"),
        (b"-- MySQL dump 10.13\n\nDROP TABLE IF EXISTS `t`;\n", "sql"),
    ],
)
@pytest.mark.parametrize("media_type", [None, "application/x-www-form-urlencoded"])
def test_detect_file_without_name_is_found_by_content(
    tmp_path: Path, data: bytes, expected: str, media_type: str | None
) -> None:
    """Content alone is enough, also with the media type that curl sends by default."""
    assert _detect(tmp_path, data, "", media_type) == expected


@pytest.mark.parametrize("filename", ["x.csv", "x.yaml", "x.md", "x.db", "x"])
def test_detect_json_with_another_name_is_json(tmp_path: Path, filename: str) -> None:
    """What is JSON is read as JSON, whatever it is called."""
    assert _detect(tmp_path, b'[{"a": 1}, {"a": 2}]', filename) == "json"


def test_detect_csv_with_json_name_is_csv(tmp_path: Path) -> None:
    """CSV that is called JSON is CSV, because it cannot be JSON."""
    assert _detect(tmp_path, b"a,b\n1,2\n", "x.json") == "csv"


@pytest.mark.parametrize("data", [b'[{"a": 1}, {"a":', b'{"a" 1}', b"{broken", b"hello"])
def test_detect_broken_json_with_json_name_is_json(tmp_path: Path, data: bytes) -> None:
    """Broken JSON goes to its converter, which says where it is broken."""
    assert _detect(tmp_path, data, "x.json") == "json"


def test_detect_media_type_of_file_without_ending_is_believed(tmp_path: Path) -> None:
    """Where the content leaves it open and the name says nothing, the media type decides."""
    assert _detect(tmp_path, b"a\n1\n", "x", "text/csv; charset=utf-8") == "csv"
    assert _detect(tmp_path, b"hello\n", "", "text/markdown") == "markdown"


def test_detect_json_longer_than_the_head_is_found(tmp_path: Path) -> None:
    """A file is recognised by its head, also where that cuts a value in two."""
    records = [{"text": "x" * 1000, "number": number} for number in range(HEAD_BYTES // 500)]
    lines = "\n".join(map(json.dumps, records)).encode()
    assert _detect(tmp_path, json.dumps(records).encode()) == "json"
    assert _detect(tmp_path, lines) == "ndjson"


def test_detect_character_cut_by_the_head_stays_text(tmp_path: Path) -> None:
    """A character of several bytes that the head cuts does not make a text binary."""
    for shift in range(3):
        data = b"a,b\n" + b"x" * shift + "1,€\n".encode() * HEAD_BYTES
        assert _detect(tmp_path, data) == "csv"


def test_detect_sqlite_file_with_any_name_is_sqlite(tmp_path: Path) -> None:
    """A SQLite file is known by its header."""
    with sqlite3.connect(tmp_path / "made.db") as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    assert _detect(tmp_path, (tmp_path / "made.db").read_bytes(), "x.csv") == "sqlite"


def test_detect_random_bytes_called_database_go_to_the_sqlite_converter(tmp_path: Path) -> None:
    """An encrypted database is left to the converter, which tells it from a broken one."""
    assert _detect(tmp_path, random.Random(1).randbytes(8192), "x.db") == "sqlite"


@pytest.mark.parametrize("data", [b"", b"\n", b"  \r\n\t\n"])
def test_detect_file_without_content_is_refused(tmp_path: Path, data: bytes) -> None:
    """A file of nothing, or of nothing but white space, is empty."""
    with pytest.raises(Refusal) as caught:
        _detect(tmp_path, data, "x.csv")
    assert caught.value.code == "empty-file"


@pytest.mark.parametrize("filename", ["", "x.csv", "x.json", "x.bin"])
@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"%PDF-1.7\n%text follows\n",
        b"PK\x03\x04" + bytes(10) + b"[Content_Types].xml" + bytes(60),
        b"7z\xbc\xaf\x27\x1c" + bytes(60),
        random.Random(2).randbytes(5000),
        bytes(1000),
    ],
)
def test_detect_foreign_file_is_refused_with_what_is_known(
    tmp_path: Path, data: bytes, filename: str
) -> None:
    """A format that cannot be converted is refused, also under a name that could be."""
    with pytest.raises(Refusal) as caught:
        _detect(tmp_path, data, filename)
    assert caught.value.code == "unknown-format"
    assert caught.value.extra["known"] == list(KNOWN_FORMATS)
    said = str(caught.value.hint)
    assert ".xlsx, " in said
    assert "sheets" not in said


@pytest.mark.parametrize("filename", ["x.xlsx", "X.XLS", "x.ods"])
def test_detect_broken_workbook_goes_to_its_converter(tmp_path: Path, filename: str) -> None:
    """What is called a workbook and is nothing else is a broken one: its converter says so."""
    assert _detect(tmp_path, random.Random(2).randbytes(5000), filename) == "sheets"
    with pytest.raises(Refusal):
        _detect(tmp_path, b"%PDF-1.7\n" + bytes(100), filename)


@pytest.mark.parametrize(
    "data",
    [b"just some words\nin two lines\n", b"<p>some words</p>\n", b"BEGIN:VCARD\n"],
)
def test_detect_text_without_form_is_refused(tmp_path: Path, data: bytes) -> None:
    """A text that looks like nothing known is not guessed at."""
    with pytest.raises(Refusal) as caught:
        _detect(tmp_path, data, "notes.txt")
    assert caught.value.code == "unknown-format"


def test_detect_text_of_another_encoding_goes_to_its_converter(tmp_path: Path) -> None:
    """A CSV file that is not UTF-8 is a CSV file: the converter names the byte."""
    assert _detect(tmp_path, "a,b\ncafé,ü\n".encode("latin-1"), "x.csv") == "csv"
    assert _detect(tmp_path, "a,b\n1,2\n".encode("utf-16"), "x.csv") == "csv"


@pytest.mark.parametrize(
    ("data", "filename", "expected"),
    [
        (b"<id>,<name>\n<1>,<2>\n", "x.csv", "csv"),
        (b"<a>\t<b>\n1\t2\n", "x.tsv", "csv"),
        (b"From ,To\n1,2\n", "", "csv"),
        (b"From 2024,To 2025\n1,2\n", "", "csv"),
        (b"insert into,values\n1,2\n", "", "csv"),
        (b"BEGIN,END\n1,2\n", "", "csv"),
        (b"BEGIN:VCALENDAR,x\n1,2\n", "", "csv"),
        (b"a,b\n<table>,</table>\n", "x.html", "csv"),
        (b"a,b\n1,2\n", "x.xml", "csv"),
        (b"<p align=center><img></p>\n\n# Title\n", "README.md", "markdown"),
        (b"<table><tr><td>x</table>\n\n# Title\n", "README.md", "markdown"),
        (b"<?xml version='1.0'?><a/>", "x.csv", "xml"),
        (b"<table><tr><td>1\t2</table>", "x.tsv", "html"),
        (b"BEGIN:VCALENDAR\nVERSION:2.0\n", "x.csv", "icalendar"),
        (b"CREATE TABLE t (a, b);\nINSERT INTO t VALUES (1, 2);\n", "x.csv", "sql"),
        (b"<div>no xml", "x.xml", "xml"),
        (b"<p>1", "x.htm", "html"),
        (b"Subject: x\n\nhi\n", "x.eml", "mbox"),
        (b"ANALYZE;\n", "x.sql", "sql"),
        (b"nothing of the kind\n", "x.ics", "icalendar"),
    ],
)
def test_detect_marked_texts_and_tables_are_not_mistaken(
    tmp_path: Path, data: bytes, filename: str, expected: str
) -> None:
    """CSV is not taken for what its first cell looks like, nor another format for CSV."""
    assert _detect(tmp_path, data, filename) == expected


DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("geojson/featurecollection.geojson", "geojson"),
        ("ndjson/todos.ndjson", "ndjson"),
        ("sheets/founders.xlsx", "sheets"),
        ("sheets/dates.xls", "sheets"),
        ("sheets/ods_formats.ods", "sheets"),
        ("parquet/v0.7.1.parquet", "parquet"),
        ("arrow/v0.17.0.version.2-compression.lz4.feather", "arrow"),
    ],
)
def test_detect_knows_real_files_without_their_names(name: str, found: str) -> None:
    """The content alone tells the format of files that others made."""
    assert detect(DATA / name, filename="", media_type=None) == found


def test_detect_sheet_that_is_text_by_its_content(tmp_path: Path) -> None:
    """A table of text that is called .xls is read as what it is."""
    path = tmp_path / "in"
    path.write_bytes(b"id\tname\n1\tAda\n2\tGrace\n")
    assert detect(path, filename="export.xls", media_type="application/vnd.ms-excel") == "csv"
