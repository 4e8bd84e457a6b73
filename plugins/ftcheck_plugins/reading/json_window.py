"""The text of a JSON file, a part of it at a time: one value after the other, each with its place.

Python's own JSON scanner reads the values, so that what is a value, and which, is what `json.loads` says.
ijson 3.6 (yajl) was tried: it does not tell where in the file a value begins and ends, and a row's digest is
made of the bytes between; it refuses NaN and 1e400, and makes a question mark of half a character (a lone
surrogate's escape).
"""

import codecs
import json
import re
from typing import Any, BinaryIO, NamedTuple

CHUNK = 1 << 18
"""Bytes that are read at a time, at the least: a value that is longer doubles it."""
UNSURE = 16
"""Characters at the end of a part where what looks wrong, or finished, may look otherwise with the next part:
half an escape (a pair of surrogates has 12), half a word (`-Infinity` has 9), half a number."""
NEAR = 4096
"""Characters that a fault shows of the text."""
SPACE = re.compile(r"[ \t\n\r]*")
AROUND = {sign: re.compile(rf"[ \t\n\r]*{re.escape(sign)}[ \t\n\r]*") for sign in "[,]"}
DECODER = json.JSONDecoder()


class Place(NamedTuple):
    """A place in a file: line and column from 1 (columns are characters), and bytes from 0."""

    line: int
    column: int
    offset: int


class Fault(Exception):
    """What keeps a text from being JSON: code and words of a `RowError`, the place, the bytes there."""

    def __init__(self, code: str, message: str, place: Place, near: str) -> None:
        super().__init__(message)
        self.code, self.message, self.place = code, message, place
        self.near = _bytes(near)


class Value(NamedTuple):
    """A value that was read, and its bytes in the file.

    It is `doubtful` where the bytes are not UTF-8, or may spell half a character (a lone surrogate).
    """

    value: Any
    content: bytes
    doubtful: bool


class JsonWindow:
    """A file's text from where it was read to. What was passed is forgotten: memory does not grow with it.

    Bytes that are not UTF-8 stay in the text as surrogates (`surrogateescape`): a text that encodes strictly
    has none. `line` counts from 1, `offset` in bytes from 0; both are those of the next character.
    """

    def __init__(self, handle: BinaryIO, limit: int, line: int = 1, offset: int = 0) -> None:
        """`handle` is where a line begins, `line` and `offset`. No value has more than `limit` characters."""
        self._handle, self._limit = handle, limit
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._at, self._whole = "", 0, False
        self._line_start = 0
        self.line, self.offset = line, offset

    @property
    def column(self) -> int:
        """The column of the next character, from 1."""
        return self._at - self._line_start + 1

    def peek(self) -> str:
        """The next character that is not white space; empty at the end of the file."""
        while True:
            end = SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing too
            if end > self._at:
                self._pass(end, end - self._at)
            if end < len(self._text):
                return self._text[end]
            if not self._more():
                return ""

    def take(self, sign: str) -> bool:
        """Pass over a sign and the white space around it, if it is next."""
        both = AROUND[sign].match(self._text, self._at)
        if both is not None and both.end() < len(self._text):
            self._pass(both.end(), both.end() - self._at)
            return True
        if self.peek() != sign:
            return False
        self._pass(self._at + 1, 1)
        self.peek()
        return True

    def value(self) -> Value:
        """The value that begins here; what follows it is next. Raises `Fault`, and passes nothing."""
        while True:
            size = len(self._text) - self._at
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._may_go_on(error):
                    raise self.fault(
                        f"not valid JSON: {error.msg[0].lower()}{error.msg[1:]}", error.pos
                    ) from None
            except RecursionError:
                raise self.fault("not readable: nested too deeply") from None
            except ValueError:
                raise self.fault("holds a number with more digits than Python reads (4,300)") from None
            else:
                size = end - self._at
                if size <= self._limit and (self._whole or end + UNSURE <= len(self._text)):
                    return self._value(value, end)
            if size > self._limit:
                raise self.fault(f"not readable: a value longer than {self._limit >> 20} MiB")
            self._more()

    def _value(self, value: Any, end: int) -> Value:
        text = self._text[self._at : end]
        try:
            content, doubtful = text.encode("utf-8"), "\\u" in text and "\\ud" in text.lower()
        except UnicodeEncodeError:
            content, doubtful = _bytes(text), True
        self._pass(end, len(content))
        return Value(value, content, doubtful)

    def rest_of_line(self) -> bytes | None:
        """What stands before the end of the line, which is not passed; None where that is over the limit."""
        start = self._at
        while (end := self._text.find("\n", start)) < 0:
            start = len(self._text) - self._at
            if start > self._limit:
                return None
            if not self._more():
                end = len(self._text)
                break
        return _bytes(self._text[self._at : end])

    def skip_to_line(self, sign: str) -> bool:
        """Pass over all before the next line that begins with a sign; False where there is none."""
        wanted = f"\n{sign}"
        while (found := self._text.find(wanted, self._at)) < 0:
            self._skip(max(self._at, len(self._text) - len(sign)))
            if not self._more():
                return False
        self._skip(found + 1)
        return True

    def fault(self, message: str, position: int | None = None) -> Fault:
        """A fault here, or at a position of the text; where a byte is not UTF-8, it is that."""
        position = self._at if position is None else position
        lines = self._text.count("\n", self._at, position)
        start = self._text.rfind("\n", self._at, position) + 1 if lines else self._line_start
        offset = self.offset + len(_bytes(self._text[self._at : position]))
        place = Place(self.line + lines, position - start + 1, offset)
        near = self._text[position : position + NEAR]
        if "\udc80" <= near[:1] <= "\udcff":
            return Fault("encoding", f"not UTF-8: byte 0x{ord(near[0]) - 0xDC00:02x}", place, near)
        return Fault("json", message, place, near)

    def _skip(self, end: int) -> None:
        self._pass(end, len(_bytes(self._text[self._at : end])))

    def _pass(self, end: int, size: int) -> None:
        """Go on at `end`, `size` bytes from here."""
        lines = self._text.count("\n", self._at, end)
        if lines:
            self.line += lines
            self._line_start = self._text.rfind("\n", self._at, end) + 1
        self.offset += size
        self._at = end

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether it may only be the end of this part that is wrong."""
        if self._whole:
            return False
        return error.msg.startswith("Unterminated string") or error.pos + UNSURE > len(self._text)

    def _more(self) -> bool:
        """Read on, and forget what was passed; False where there was nothing more already."""
        if self._whole:
            return False
        rest = self._text[self._at :]
        raw = self._handle.read(max(CHUNK, min(len(rest), self._limit)))
        self._whole = not raw
        self._text = rest + self._decoder.decode(raw, final=not raw)
        self._line_start -= self._at
        self._at = 0
        return True


def _bytes(text: str) -> bytes:
    """The bytes that stand in the file."""
    return text.encode("utf-8", "surrogateescape")
