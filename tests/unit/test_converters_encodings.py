from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from headrace.errors import Refusal
from ingest.converters import encodings
from ingest.converters.encodings import find_encoding, transcode
from ingest.detect import detect
from tests.unit.convert_kit import Loaded, refuse

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = [
    ("a,b\n1,café\n", "cp1252"),
    ("a,b\n1,Über straße\n2,Müller\n", "cp1252"),
    ("São Paulo,“quoted”\nGarcía,Pérez\n", "cp1252"),
    ("имя,город\nИван,Москва\nПётр,Казань\n", "cp1251"),
    ("zażółć gęślą jaźń, proszę państwa\nwszyscy ludzie rodzą się wolni i równi\n", "cp1250"),
    ("名前,市\n山田太郎,東京都\n", "cp932"),
    ("姓名,城市\n张三,北京\n李四,上海市\n", "gb18030"),
    ("姓名,城市\n張三,台北市\n", "big5"),
    ("이름\n서울특별시\n", "cp949"),
    ("όνομα\nΑθήνα\n", "cp1253"),
    ("Zürich,Genève\nBâle\n", "mac_roman"),
]


def _write(folder: Path, data: bytes) -> Path:
    path = folder / "in.csv"
    path.write_bytes(data)
    return path


def _read(path: Path, encoding: str) -> str:
    output = io.BytesIO()
    transcode(path, encoding, output)
    return output.getvalue().decode()


@pytest.mark.parametrize(("text", "encoding"), SAMPLES)
def test_encoding_of_old_files_is_found(tmp_path: Path, text: str, encoding: str) -> None:
    """A file of a code page is told by its bytes, also after a megabyte without any of them."""
    for before in ("", "x,y\n" * 300_000):
        path = _write(tmp_path, (before + text).encode(encoding))
        assert find_encoding(path) == (encoding, True)
        assert _read(path, encoding) == before + text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("marked", [True, False])
def test_encoding_of_utf16_is_found_with_and_without_a_mark(
    tmp_path: Path, encoding: str, marked: bool
) -> None:
    """UTF-16 of either order is read, a mark is no text, and the detection takes it for CSV."""
    text = "name,city\r\nAda,東京\r\n"
    path = _write(tmp_path, ("\ufeff" * marked + text).encode(encoding))
    assert find_encoding(path) == (encoding, not marked)
    assert find_encoding(path, "UTF-16") == (encoding, False)
    assert _read(path, encoding) == text
    assert detect(path, filename="x", media_type=None) == "csv"


@pytest.mark.parametrize(
    "data",
    [b"", b"a,b\n", "a,é\n".encode(), "\ufeffa,é\n".encode(), b"a,\x00b\n1,2\n", b"1,\x002\n",
     "é,".encode() + b"\xff\n", "🌊\n".encode() * 100_000, b"a\n" + "é".encode()],
)  # fmt: skip
def test_encoding_of_utf8_is_utf8(tmp_path: Path, data: bytes) -> None:
    """UTF-8 stays UTF-8 also where a byte or a character in it is wrong: that is refused later."""
    assert find_encoding(_write(tmp_path, data)) == ("utf-8", False)


@pytest.mark.parametrize("position", range(encodings.SEARCH_BYTES - 4, encodings.SEARCH_BYTES))
def test_encoding_of_utf8_is_found_wherever_the_sample_ends(tmp_path: Path, position: int) -> None:
    """A character that the end of the sample cuts is no wrong one."""
    data = "é".encode() + b"x" * position + "🌊".encode() * 100
    assert find_encoding(_write(tmp_path, data)) == ("utf-8", False)


@pytest.mark.parametrize(
    ("before", "bad", "encoding"),
    [
        ("é" * 10, b"\x81", "cp1252"),
        ("東京\n" * 700_000, b"\x81\x00", "cp932"),
        ("東京\n" * 700_000, b"\x00\xd8\x41\x00", "utf-16-le"),
        ("x" * (1024 * 1024 - 1), b"\xd0", "ascii"),
        ("東", b"\xff", "euc_jp"),
    ],
)
def test_byte_that_does_not_fit_an_encoding_is_refused_with_its_offset(
    tmp_path: Path, before: str, bad: bytes, encoding: str
) -> None:
    """A byte that the encoding does not have is never replaced: its place in the file is named."""
    start = before.encode(encoding)
    with pytest.raises(Refusal) as caught:
        _read(_write(tmp_path, start + bad + b"\n\n"), encoding)
    assert caught.value.code == "invalid-file"
    assert caught.value.extra == {"offset": len(start)}
    assert caught.value.line == before.count("\n") + 1


def test_bytes_of_no_encoding_are_refused_with_their_offset(tmp_path: Path) -> None:
    """Bytes that no code page makes sense of are refused rather than guessed at."""
    noise = bytes(range(128, 256)) * 3
    with pytest.raises(Refusal) as caught:
        find_encoding(_write(tmp_path, b"a,b\n" + noise))
    assert caught.value.extra == {"offset": 4}


# One record with the column "a" in each text format.
TEXTS = {
    "csv": "a\n{}\n",
    "json": '[{{"a": "{}"}}]\n',
    "ndjson": '{{"a": "{}"}}\n',
    "geojson": '{{"type": "Feature", "properties": {{"a": "{}"}}, "geometry": null}}\n',
    "yaml": "a: {}\n",
    "markdown": "---\na: {}\n---\n",
    "html": "<table><tr><th>a<th>b<tr><td>{}<td>1</table>\n",
    "xml": "<x><a>{}</a></x>\n",
    "icalendar": "BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:{}\nEND:VEVENT\nEND:VCALENDAR\n",
    "sql": "CREATE TABLE t (a);\nINSERT INTO t VALUES ('{}');\n",
}


def _value(loaded: Loaded) -> object:
    (record,) = loaded.records("events" if "events" in loaded.tables else "t")
    return record.get("a", record.get("summary"))


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize(
    ("encoding", "said"), [("cp1251", "windows-1251"), ("UTF-16", "utf-16-le"), ("UTF8", "utf-8")]
)
def test_encoding_that_is_said_is_honoured_by_each_text_format(
    kind: str, encoding: str, said: str
) -> None:
    """``?encoding=`` is what the file is read in, and the receipt says it."""
    loaded = Loaded(TEXTS[kind].format("Москва").encode(encoding), kind, encoding=encoding)
    assert (_value(loaded), loaded.converted.encoding) == ("Москва", said)
    assert not any("read as" in warning for warning in loaded.converted.warnings)


@pytest.mark.parametrize("kind", TEXTS)
def test_encoding_that_is_said_and_wrong_is_refused_by_each_text_format(kind: str) -> None:
    """A byte that does not fit is named by its offset, and never replaced."""
    data = TEXTS[kind].format("caf\xe9").encode("latin-1")
    for encoding in ("ascii", "utf-8"):
        refusal = refuse(data, kind, encoding=encoding)
        assert (refusal.code, refusal.extra) == ("invalid-file", {"offset": data.index(b"\xe9")})


@pytest.mark.parametrize("kind", ["csv", "json", "ndjson", "geojson", "yaml", "markdown"])
@pytest.mark.parametrize(
    ("encoding", "said", "guessed"),
    [
        ("utf-16", "utf-16-le", False),
        ("utf-16-be", "utf-16-be", True),
        ("cp1252", "windows-1252", True),
    ],
)
def test_encoding_is_found_for_each_format_that_declares_none(
    kind: str, encoding: str, said: str, guessed: bool
) -> None:
    """What is found out is said in the receipt, and a guess is a warning."""
    loaded = Loaded(TEXTS[kind].format("Über").encode(encoding), kind)
    assert (_value(loaded), loaded.converted.encoding) == ("Über", said)
    assert any("read as" in warning for warning in loaded.converted.warnings) == guessed


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-32", "utf-16-le", "cp1252"])
def test_encoding_that_is_said_is_what_the_format_is_found_by(
    tmp_path: Path, kind: str, encoding: str
) -> None:
    """A file that would look like bytes is known for what it is by its name and its encoding."""
    path = tmp_path / "in"
    path.write_bytes(TEXTS[kind].replace("\n", " \n").format("ü").encode(encoding))
    endings = {"icalendar": "ics", "markdown": "md"}
    name = f"x.{endings.get(kind, kind)}"
    found = detect(path, filename=name, media_type=None, encoding=encoding)
    assert found == ("json" if kind == "geojson" and found == "json" else kind)


def test_utf16_mark_decides_the_order_of_a_text_that_could_declare_it() -> None:
    """``encoding=utf-16`` leaves the order of the bytes to the mark."""
    data = "\ufeff<x><a>日本</a></x>".encode("utf-16-be")
    loaded = Loaded(data, "xml", encoding="utf-16")
    assert (loaded.tables["t"], loaded.converted.encoding) == ([("日本",)], "utf-16-be")
