from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import Refusal
from headrace.wishes import Wishes
from ingest.converters import Conversion, Converted, TableRows, ndjson
from ingest.converters.json_records import convert

DATA = Path(__file__).parents[1] / "data"


def _load(folder: Path, text: str | bytes, kind: str, **wishes: Any) -> Converted:
    path = folder / "in"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    (folder / "out.db").unlink(missing_ok=True)
    return convert(
        Conversion(
            input=path, output=folder / "out.db", format=kind, table="t", wishes=Wishes(**wishes)
        )
    )


def _refuse(folder: Path, text: str | bytes, kind: str, **wishes: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        _load(folder, text, kind, **wishes)
    return caught.value


def _read(folder: Path, sql: str = "SELECT * FROM t") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "out.db")) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize("kind", ["json", "ndjson"])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": {"b": 1, "b": 1}}', "twice"),
        ('{"a": 01}', "broken"),
        (r'{"a": "\ud800"}', "surrogate"),
        ('{"a": 1} {"a": 2}', "broken"),
    ],
)
def test_json_that_would_lose_something_is_refused(
    tmp_path: Path, kind: str, line: str, words: str
) -> None:
    """What JSON does not have, and a key that occurs twice, is refused, wherever it stands."""
    lines = ['{"a": 0}', line, '{"a": 3}']
    text = "\n".join(lines) if kind == "ndjson" else f"[{','.join(lines)}]"
    refusal = _refuse(tmp_path, text, kind)
    assert refusal.code == "invalid-file"
    assert words in refusal.detail
    assert kind == "json" or refusal.line == 2 or words == "surrogate"


@pytest.mark.parametrize("kind", ["json", "ndjson"])
@pytest.mark.parametrize(
    "number",
    [
        "1.00000000000000000001",
        "1e400",
        "123456789012345678901234567890",
        "-0.1e-400",
        f"1e{'9' * 400}",
        f"0e-{'9' * 400}",
    ],
)
def test_json_number_within_a_value_keeps_its_text(tmp_path: Path, kind: str, number: str) -> None:
    """A number that nothing holds stays a number of JSON, digit by digit."""
    text = f'{{"a": {{"é": [{number}, null, true]}}}}'
    _load(tmp_path, text if kind == "ndjson" else f"[{text}]", kind)
    assert _read(tmp_path) == [(f'{{"é": [{number}, null, true]}}',)]


@pytest.mark.parametrize("kind", ["json", "ndjson"])
def test_json_nested_too_deeply_is_refused(tmp_path: Path, kind: str) -> None:
    """Nesting that would exhaust the stack is a limit, and no crash."""
    text = '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"
    assert (
        _refuse(tmp_path, text if kind == "ndjson" else f"[{text}]", kind).code == "limit-exceeded"
    )


_BAD_LINES = {
    3: ('{"a": 2', "cannot be read: the JSON is broken: expecting ',' delimiter"),
    4: ("[1]", "cannot be read: it is no JSON object, but an array"),
    7: ('{"a": NaN}', "cannot be read: NaN is not JSON"),
    9: ('{"a": 1, "a": 2}', "cannot be read: an object has the key 'a' twice"),
}


def _with_bad_lines(last: int) -> str:
    lines = [_BAD_LINES.get(n, (f'{{"a": {n}}}', ""))[0] for n in range(1, last + 1)]
    lines[5 - 1] = ""
    return "\n".join(lines)


def test_ndjson_with_bad_lines_is_refused_with_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All bad lines of the file are named, wherever they stand; at most ten."""
    monkeypatch.setattr(ndjson, "BLOCK_BYTES", 16)
    refusal = _refuse(tmp_path, _with_bad_lines(50), "ndjson")
    assert (refusal.code, refusal.line, refusal.column) == ("invalid-file", 3, 8)
    assert refusal.detail == f"line 3 {_BAD_LINES[3][1]}; lines 4, 7, 9 are wrong as well"
    assert refusal.extra["lines"] == [3, 4, 7, 9]
    assert "on_bad_rows=quarantine" in str(refusal.hint)
    many = _refuse(tmp_path, '{"a": 1}\n' + "x\n" * 30, "ndjson")
    assert many.extra["lines"] == list(range(2, 12))
    assert many.detail.endswith("are wrong as well, perhaps more")


def test_ndjson_in_quarantine_keeps_bad_lines_beside_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other lines are loaded, and each bad one is kept with its number, text and reason."""
    monkeypatch.setattr(ndjson, "BLOCK_BYTES", 16)
    converted = _load(tmp_path, _with_bad_lines(20), "ndjson", on_bad_rows="quarantine")
    assert converted.tables == (TableRows(name="t", rows=15), TableRows(name="t_rejects", rows=4))
    assert converted.warnings == ("4 bad rows were left out, and are in the table 't_rejects'",)
    assert _read(tmp_path) == [(n,) for n in range(1, 21) if n not in {*_BAD_LINES, 5}]
    assert _read(tmp_path, "SELECT * FROM t_rejects") == [
        (line, raw, reason) for line, (raw, reason) in _BAD_LINES.items()
    ]


def test_ndjson_in_quarantine_without_a_good_line_is_refused(tmp_path: Path) -> None:
    """A file that has nothing but bad lines is no NDJSON; one with none has no rejects."""
    refusal = _refuse(tmp_path, "x\ny\n", "ndjson", on_bad_rows="quarantine")
    assert (refusal.code, refusal.extra["lines"]) == ("invalid-file", [1, 2])
    converted = _load(tmp_path, '{"a": 1}\n', "ndjson", on_bad_rows="quarantine")
    assert converted.tables[1] == TableRows(name="t_rejects", rows=0)


@pytest.mark.parametrize("kind", ["json", "ndjson"])
def test_json_objects_become_columns_by_wish(tmp_path: Path, kind: str) -> None:
    """With nested=flatten the keys of objects are columns; two values for one are refused."""
    text = '{"a": {"b": {"c": 1}, "d": [2]}, "e": {}}'
    _load(tmp_path, text if kind == "ndjson" else f"[{text}]", kind, nested="flatten")
    assert _read(tmp_path, "SELECT a_b_c, a_d, e FROM t") == [(1, "[2]", "{}")]
    refusal = _refuse(tmp_path, '{"a": {"b": 1}, "a_b": 2}', kind, nested="flatten")
    assert refusal.code == "invalid-file"


@pytest.mark.parametrize(
    "late", ['{"a": "x"}', '{"a": 1.5}', '{"a": [1]}', '{"b": 1}', '{"a": 1e3}']
)
def test_ndjson_block_of_another_kind_fits_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """What Arrow reads and what Python reads are one table, in the order of the lines."""
    monkeypatch.setattr(ndjson, "BLOCK_BYTES", 64)
    lines = [*(f'{{"a": {n}}}' for n in range(50)), late, *(f'{{"a": {n}}}' for n in range(50))]
    converted = _load(tmp_path, "\n".join(lines), "ndjson")
    assert converted.tables == (TableRows(name="t", rows=101),)
    values = [row[0] for row in _read(tmp_path, "SELECT a FROM t")]
    wanted = json.loads(late).get("a")
    assert [float(v) for v in values[:50] + values[51:]] == [float(n) for n in range(50)] * 2
    assert values[50] == (wanted if not isinstance(wanted, list) else "[1]")


@pytest.mark.parametrize(("first", "late"), [("true", "1"), ("1", "true"), ("[2.5, 3]", '"x"')])
def test_ndjson_block_of_another_kind_leaves_each_value_its_json_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, late: str
) -> None:
    """``true`` is not 1, and 3 not 3.0, also where Arrow has read a block of its own."""
    monkeypatch.setattr(ndjson, "BLOCK_BYTES", 64)
    values = [part.strip() for part in first.strip("[]").split(",")] * 20
    lines = [f'{{"a": {value}}}' for value in (*values, late)]
    _load(tmp_path, "\n".join(lines), "ndjson")
    assert [row[0] for row in _read(tmp_path)] == [*values, late.strip('"')]


def test_ndjson_dates_stay_as_they_are_written(tmp_path: Path) -> None:
    """Texts that look like dates are texts, also in a column that comes late."""
    lines = ['{"a": "2024-01-31"}', '{"a": "2024-01-31T10:00:00Z", "b": "2024-02-01 00:00:00"}']
    _load(tmp_path, "\n".join(lines), "ndjson")
    assert _read(tmp_path) == [
        ("2024-01-31", None),
        ("2024-01-31T10:00:00Z", "2024-02-01 00:00:00"),
    ]


@pytest.mark.parametrize("encoding", [None, "utf-8"])
def test_ndjson_of_bad_utf8_is_refused_with_its_place(tmp_path: Path, encoding: str | None) -> None:
    """A byte that is no UTF-8 is refused with its line."""
    data = '{"a": "éé"}\n'.encode() + b'{"a": "\xff"}\n'
    refusal = _refuse(tmp_path, data, "ndjson", encoding=encoding)
    assert (refusal.code, refusal.line) == ("invalid-file", 2)
    assert refusal.extra == {"offset": data.index(b"\xff")}


FEATURE = (
    '{"type": "Feature", "id": 7, "properties": {"name": "x"},'
    ' "geometry": {"type": "Polygon", "coordinates": [[[1, 2], [3.5, -4], [1, 2]]]}}'
)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("geojson", f'{{"features": [{FEATURE}], "type": "FeatureCollection"}}'),
        ("json", f'{{"type": "FeatureCollection", "features": [{FEATURE}]}}'),
        ("geojson", FEATURE),
        ("geojson", f"\x1e{FEATURE}\n"),
        ("ndjson", FEATURE),
    ],
)
def test_geojson_feature_is_a_row(tmp_path: Path, kind: str, text: str) -> None:
    """In each form a feature is a row: id, properties, geometry, and the box around it."""
    _load(tmp_path, text, kind)
    sql = "SELECT id, name, geometry, min_lon, min_lat, max_lon, max_lat FROM t"
    ((*plain, geometry, west, south, east, north),) = _read(tmp_path, sql)
    assert plain == [7, "x"]
    assert json.loads(geometry) == json.loads(FEATURE)["geometry"]
    assert (west, south, east, north) == (1.0, -4.0, 3.5, 2.0)


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "LineString", "coordinates": [[1.5, 2], [3, 4]]}',
        '{"coordinates": [[1.5, 2], [3, 4]], "type": "LineString"}',
        '{"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [3, 4]}]}',
    ],
)
def test_geojson_geometry_alone_is_a_row_with_its_box(tmp_path: Path, text: str) -> None:
    """GeoJSON may be a geometry without a feature; what is only called so is JSON."""
    _load(tmp_path, text, "geojson")
    row = _read(tmp_path, "SELECT geometry, min_lon, min_lat, max_lon, max_lat FROM t")
    least = [3.0, 4.0] if "Collection" in text else [1.5, 2.0]
    assert [json.loads(row[0][0]), *row[0][1:]] == [json.loads(text), *least, 3.0, 4.0]
    _load(tmp_path, '{"type": "Point", "x": 1}', "json")
    assert _read(tmp_path) == [("Point", 1)]


@pytest.mark.parametrize("kind", ["geojson", "ndjson"])
def test_geojson_property_keeps_its_name(tmp_path: Path, kind: str) -> None:
    """A property called id or geometry keeps that name, and nothing takes its place."""
    features = [FEATURE, '{"type": "Feature", "id": 1, "properties": {"id": 2}, "geometry": null}']
    whole = f'{{"type": "FeatureCollection", "features": [{",".join(features)}]}}'
    _load(tmp_path, "\n".join(features) if kind == "ndjson" else whole, kind)
    assert _read(tmp_path, "SELECT feature_id, id, min_lon FROM t") == [
        (7, None, 1.0),
        (1, 2, None),
    ]


@pytest.mark.parametrize(
    "coordinates", ["[]", '["a", {"x": 1}]', '[["a", null], {"x": 1}]', "[1e400, 2]", "1", "[1]"]
)
def test_geojson_geometry_that_cannot_be_drawn_is_kept(tmp_path: Path, coordinates: str) -> None:
    """A geometry without sensible coordinates has no box, and stays as it is written."""
    geometry = f'{{"type": "Polygon", "coordinates": {coordinates}}}'
    _load(tmp_path, f'{{"type": "Feature", "properties": null, "geometry": {geometry}}}', "geojson")
    assert _read(tmp_path, "SELECT geometry, min_lon, max_lat FROM t") == [(geometry, None, None)]


@pytest.mark.parametrize(
    ("features", "code"),
    [("[]", "no-rows"), ("{}", "no-rows"), ("[1]", "invalid-file"),
     ('[{"type": "Feature", "properties": [], "geometry": null}]', "invalid-file")],
)  # fmt: skip
def test_geojson_without_features_is_refused(tmp_path: Path, features: str, code: str) -> None:
    """A collection of nothing, or of other things, is refused."""
    text = f'{{"type": "FeatureCollection", "features": {features}}}'
    assert _refuse(tmp_path, text, "geojson").code == code


def test_geojson_of_others_is_read(tmp_path: Path) -> None:
    """A file that was not made here is read; what is left out of a collection is said."""
    text = (DATA / "geojson" / "featurecollection.geojson").read_bytes()
    assert _load(tmp_path, text, "geojson").tables == (TableRows(name="t", rows=3),)
    assert _read(tmp_path, "SELECT min_lon, max_lat, prop1 FROM t")[2] == (
        100.0,
        1.0,
        '{"this": "that"}',
    )
    text = b'{"type": "FeatureCollection", "name": "x", "features": [' + FEATURE.encode() + b"]}"
    assert "'name'" in _load(tmp_path, text, "geojson").warnings[0]


@pytest.mark.parametrize(
    ("name", "kind", "rows"),
    [("json/us-state-capitals.json", "json", 50), ("ndjson/todos.ndjson", "ndjson", 300)],
)
def test_json_of_others_is_read(tmp_path: Path, name: str, kind: str, rows: int) -> None:
    """Each value of a file that was not made here is what Python's json reads."""
    data = (DATA / name).read_bytes()
    _load(tmp_path, data, kind)
    text = data.decode()
    records = json.loads(text) if kind == "json" else list(map(json.loads, text.splitlines()))
    assert len(records) == rows
    assert _read(tmp_path) == [tuple(record.values()) for record in records]
