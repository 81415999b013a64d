"""JSON text: decoding without loss, and reading an array item by item."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn

from headrace.errors import Refusal
from ingest.converters.lossless import same_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK_CHARACTERS = 1024 * 1024
SPACE = " \t\n\r"
_SHORT_NUMBER = 16  # characters: a plain number of that length is a double without loss
_MAX_SHOWN = 40  # characters of a key
_CUT_TOKEN = 16  # characters: longer than any literal or escape that the end of a chunk can cut


class ExactNumber(float):
    """A JSON number that no double holds: a NaN, so that nobody calculates with it, and its text.

    JSON has no NaN of its own: that is how ``encode_json`` notices one.
    """

    text: str

    @classmethod
    def of(cls, text: str) -> ExactNumber:
        """Keep a number as it is written."""
        number = cls("nan")
        number.text = text
        return number


class _NotJsonError(Exception):
    """Python would read it, and lose something, or take what JSON does not have."""

    def refuse(self, line: int) -> Refusal:
        """Give the refusal of a value that begins in this line."""
        return Refusal("invalid-file", str(self), line=line)


def lossless_float(text: str) -> float:
    """Give the double that a JSON number stands for, or its text where a double would lose some."""
    value = float(text)
    if len(text) <= _SHORT_NUMBER and "e" not in text and "E" not in text:
        return value
    return value if same_value(text, value) else ExactNumber.of(text)


def encode_json(value: Any) -> str:
    """Give the JSON text of what was decoded; numbers that no double holds as they were."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return _encode_exact(value)


def _encode_exact(value: Any) -> str:
    """Encode a value that has exact numbers somewhere, as ``json.dumps`` writes it."""
    if isinstance(value, ExactNumber):
        return value.text
    if isinstance(value, dict):
        members = (
            f"{json.dumps(k, ensure_ascii=False)}: {_encode_exact(v)}" for k, v in value.items()
        )
        return f"{{{', '.join(members)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_encode_exact, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _object_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object whose keys are all different."""
    made = dict(pairs)
    if len(made) != len(pairs):
        counted = Counter(key for key, _ in pairs)
        raise _NotJsonError(twice(counted.most_common(1)[0][0]))
    return made


def twice(key: str) -> str:
    """Say that an object has a key twice; a long one is cut."""
    shown = repr(key[:_MAX_SHOWN]) + ("…" if len(key) > _MAX_SHOWN else "")
    return f"an object has the key {shown} twice"


def _no_constant(name: str) -> NoReturn:
    """Refuse what Python reads and JSON does not have: NaN and Infinity."""
    raise _NotJsonError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    parse_float=lossless_float, parse_constant=_no_constant, object_pairs_hook=_object_once
)


def decode_json(text: str, *, first_line: int = 1) -> Any:
    """Decode one whole JSON text that begins in this line of the file.

    Raises:
        Refusal: ``invalid-file`` with line and column; ``limit-exceeded`` for an endless number.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as exc:
        raise _syntax_error(exc, first_line=first_line, first_column=1) from exc
    except ValueError as exc:
        raise _huge_integer(first_line) from exc
    except _NotJsonError as exc:
        raise exc.refuse(first_line) from exc


def _syntax_error(exc: json.JSONDecodeError, *, first_line: int, first_column: int) -> Refusal:
    """Turn Python's error into a refusal with the place in the whole file."""
    return Refusal(
        "invalid-file",
        f"the JSON is broken: {exc.msg[0].lower()}{exc.msg[1:]}",
        line=first_line + exc.lineno - 1,
        column=exc.colno + (first_column - 1 if exc.lineno == 1 else 0),
    )


def _huge_integer(line: int) -> Refusal:
    """Refuse an integer of thousands of digits (Python's guard against quadratic time)."""
    return Refusal(
        "limit-exceeded",
        "a number has more than 4,300 digits",
        line=line,
        extra={"limit": "value"},
    )


class JsonReader:
    """Reads an array item by item, or an object member by member, and keeps only the text in hand.

    An item that the end of the text in hand cuts off is tried again with twice as much text.
    """

    def __init__(self, read: Callable[[int], str]) -> None:
        self._read = read
        self._text = ""
        self._at = 0  # everything before is done
        self._line, self._column = 1, 1  # of the first character of the text in hand
        self._done = 0  # characters dropped so far
        self._done_bytes = 0
        self._ended = False

    def items(self) -> Iterator[tuple[Any, int]]:
        """Give each item, and how many characters of the file are read when it ends.

        Raises:
            Refusal: as ``decode_json``.
        """
        self._expect("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield self.value(), self._done + self._at
            if self._expect(",]") == "]":
                return

    def keys(self) -> Iterator[str]:
        """Give each key of an object; its value has to be read before the next one is asked for.

        Raises:
            Refusal: as ``decode_json``.
        """
        self._expect("{")
        if self.peek() == "}":
            self._at += 1
            return
        seen: set[str] = set()
        while True:
            if self.peek() != '"':
                raise self._broken("expecting property name enclosed in double quotes")
            key = self.value()
            if key in seen:
                raise self._broken(twice(key))
            seen.add(key)
            self._expect(":")
            yield key
            if self._expect(",}") == "}":
                return

    def offset(self) -> int:
        """Give the bytes before the next character, after a mark at the file's start."""
        self.peek()
        return self._done_bytes + len(self._text[: self._at].encode())

    def end(self) -> None:
        """Refuse whatever comes after the value."""
        if self.peek():
            raise self._broken("extra data")

    def value(self) -> Any:
        """Decode the next value whole."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as exc:
                if self._is_cut(exc) and not self._ended:
                    self._fill()  # then the same error, if it is one, has the right place
                    continue
                raise _syntax_error(exc, first_line=self._line, first_column=self._column) from exc
            except ValueError as exc:
                line = self._line + self._text.count("\n", 0, self._at)
                raise _huge_integer(line) from exc
            except _NotJsonError as exc:
                raise exc.refuse(self._line + self._text.count("\n", 0, self._at)) from exc
            if end == len(self._text) and isinstance(value, int | float) and self._fill():
                continue  # a number may go on
            self._at = end
            return value

    def _is_cut(self, exc: json.JSONDecodeError) -> bool:
        """Say whether an error may come from the end of the text in hand, and not from the file."""
        near_end = exc.pos >= len(self._text) - _CUT_TOKEN
        return near_end or exc.msg.startswith("Unterminated string")

    def peek(self) -> str:
        """Skip white space, and give the next character; empty at the end of the file."""
        while True:
            while self._at < len(self._text):
                if (character := self._text[self._at]) not in SPACE:
                    return character
                self._at += 1
            if not self._fill():
                return ""

    def _expect(self, characters: str) -> str:
        """Step over one of these characters, and give it."""
        character = self.peek()
        if not character or character not in characters:
            wanted = " or ".join(repr(one) for one in characters)
            raise self._broken(f"expecting {wanted}")
        self._at += 1
        return character

    def _broken(self, message: str) -> Refusal:
        """Give the refusal for what stands at this place."""
        exc = json.JSONDecodeError(message, self._text, self._at)
        return _syntax_error(exc, first_line=self._line, first_column=self._column)

    def _fill(self) -> bool:
        """Drop what is done, and read at least as much as is left; False at the end of the file."""
        done = self._text[: self._at]
        if newlines := done.count("\n"):
            self._line += newlines
            self._column = len(done) - done.rindex("\n")
        else:
            self._column += len(done)
        self._done += self._at
        self._done_bytes += len(done.encode())
        rest = self._text[self._at :]
        more = self._read(max(CHUNK_CHARACTERS, len(rest)))
        self._text, self._at = rest + more, 0
        self._ended = not more
        return bool(more)
