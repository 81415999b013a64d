"""What files begin with: enough to tell a format, without the library that reads it."""

from __future__ import annotations

import re

PARQUET = b"PAR1"
PARQUET_ENCRYPTED = b"PARE"
ARROW_FILE = b"ARROW1\0\0"
FEATHER_1 = b"FEA1"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ZIP = b"PK\x03\x04"
_ARROW_STREAM = re.compile(rb"\xff\xff\xff\xff..[\x00-\x0f]\x00", re.DOTALL)  # a length
_OPEN_DOCUMENT = b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet"
_OFFICE_NAME = re.compile(rb"\[Content_Types\]\.xml|_rels/|docProps/|xl/|customXml/")
_NAME_AT = 30  # bytes: where a zip's first name begins
# The streams of a workbook, of an encrypted one, and of older ones, as the directory names them.
OLE_NAMES = tuple(name.encode("utf-16-le") for name in ("Workbook", "Book", "EncryptedPackage"))
_GEOJSON = re.compile(r'\{\s*("[^"]*"\s*:\s*[^{\[]*?,\s*)*"type"\s*:\s*"Feature(Collection)?"')
_GEOMETRY = re.compile(
    r'\{\s*"type"\s*:\s*"((Multi)?(Point|LineString|Polygon)"\s*,\s*"coordinates"'
    r'|GeometryCollection"\s*,\s*"geometries")'
)


def recognise_parquet(head: bytes, _text: str | None) -> bool:
    """Say whether a file is Parquet, also one that is encrypted."""
    return head.startswith((PARQUET, PARQUET_ENCRYPTED))


def recognise_arrow(head: bytes, _text: str | None) -> bool:
    """Say whether a file is Arrow's file or stream, or Feather."""
    return head.startswith((ARROW_FILE, FEATHER_1)) or bool(_ARROW_STREAM.match(head))


def recognise_sheets(head: bytes, _text: str | None) -> bool:
    """Say whether a file is a workbook: of Excel, old or new, or OpenDocument."""
    if head.startswith(OLE):  # the directory may stand far from the start: the converter looks
        return True
    if not head.startswith(ZIP):
        return False
    if head.startswith(_OPEN_DOCUMENT, _NAME_AT):
        return True
    return bool(_OFFICE_NAME.match(head, _NAME_AT)) and b"xl/" in head


def recognise_geojson(head: bytes, text: str | None) -> bool:
    """Say whether a text is a feature, a geometry, a collection or a sequence of features."""
    if head.startswith(b"\x1e"):
        return True
    if text is None:
        return False
    stripped = text.lstrip()
    return bool(_GEOJSON.match(stripped) or _GEOMETRY.match(stripped))
