"""Which texts are numbers: those that a number can be turned back into, and no others."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

MAX_INTEGER = 2**63 - 1  # SQLite's INTEGER has 64 bits
MIN_INTEGER = -(2**63)
MAX_EXACT_INTEGER = 2**53  # up to here every integer is a double
EXACT_DIGITS = 15  # this many decimal digits always come back from a double (DBL_DIG)
_MAX_REAL_CHARACTERS = 400  # more than that is not a measurement

# No sign but a minus, no leading zero, no exponent, no minus zero. Also read by RE2 (pyarrow).
INTEGER_PATTERN = r"^(-?[1-9][0-9]*|0)$"
REAL_PATTERN = r"^(-?[1-9][0-9]*(\.[0-9]+)?|-?0\.[0-9]*[1-9][0-9]*|0(\.0+)?)$"

_INTEGER = re.compile(r"-?[1-9][0-9]{0,18}|0")
_REAL = re.compile(REAL_PATTERN[1:-1])


def parse_integer(text: str) -> int | None:
    """Give the 64-bit integer that is written as exactly this text, or None."""
    if not _INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if MIN_INTEGER <= value <= MAX_INTEGER else None


def parse_real(text: str) -> float | None:
    """Give the double that has the same value as this plain decimal text, or None.

    Zeros at the end may be missing when the double is written again: the value is the same.
    """
    if len(text) > _MAX_REAL_CHARACTERS or not _REAL.fullmatch(text):
        return None
    if "." not in text:
        return float(text) if abs(int(text)) <= MAX_EXACT_INTEGER else None
    value = float(text)
    return value if same_value(text, value) else None


def same_value(text: str, value: float) -> bool:
    """Say whether the shortest text of a double has the same value as the text it was read from."""
    shortest = repr(value)
    try:
        return shortest == text or Decimal(shortest) == Decimal(text)
    except InvalidOperation:  # an exponent of more than 18 digits
        return False
