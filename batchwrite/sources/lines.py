"""Bytes to physical lines: line ends, encoding, byte order marks. Knows no format.

Lines are cut from the bytes and decoded one by one, so that a byte which is not in the encoding costs one line,
whose exact bytes survive. CR, LF and CRLF end a line, in any mixture.
"""

from __future__ import annotations

import codecs
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

from batchwrite.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from io import BufferedIOBase

    _Splitter = Callable[[bytes, bool], tuple[list[bytes], bytes]]

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A line longer than this is no line: it is handed on in pieces, each with a problem. Bounds the memory."""

PIECE_BYTES = 64 * 1024
"""Size of those pieces: a chunk of 1,000 of them stays below 64 MiB."""

_BLOCK_BYTES = 128 * 1024

_MARKS: dict[str, tuple[tuple[bytes, str], ...]] = {
    "utf-8": ((codecs.BOM_UTF8, "utf-8"),),
    "utf-16": ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
    "utf-32": ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
}
"""Byte order marks to strip, and the encoding without a mark that each stands for."""


class Line(NamedTuple):
    """One physical line.

    Attributes:
        number: Its number, from 1.
        raw: Its exact bytes, line end included.
        text: Its text; where bytes are not in the encoding they are replaced, so that the shape of the line can still
            be read. `None` for a piece of a line that is too long.
        problem: What is wrong with it, in words that quote nothing of it.
    """

    number: int
    raw: bytes
    text: str | None
    problem: str | None


class LineReader:
    """Iterates over the physical lines of a binary stream; the memory it takes depends on no more than one line.

    Args:
        stream: Where the bytes come from.
        encoding: Name of the encoding; a byte order mark at the beginning is stripped, and tells the byte order.

    Attributes:
        encoding: The encoding, with the byte order where it has one.
        mark: The byte order mark that was stripped, or nothing.
        number: Number of the last line that was handed on, or passed over.

    Raises:
        ConfigurationError: There is no such encoding, or the stream begins with the mark of another one.
        InputUnreadable: The stream raised it.
    """

    def __init__(self, stream: BufferedIOBase, encoding: str = "utf-8") -> None:
        name = _canonical_name(encoding)
        self._stream = stream
        self._held = self._read_beginning()
        self.number = 0
        self._first = 0
        self.mark, self.encoding = _find_mark(self._held, name)
        self._held = self._held[len(self.mark) :]
        self._split = _splitter(self.encoding)

    def __iter__(self) -> Iterator[Line]:
        for raw, whole in self._raw_lines():
            if self.number < self._first:
                continue
            yield self._decode(raw) if whole else Line(self.number, raw, None, f"longer than {MAX_LINE_BYTES:,} bytes")

    def pass_over(self, first: int) -> None:
        """Hand on no line from now on whose number is below this one."""
        self._first = first

    def _read_beginning(self) -> bytes:
        """Enough bytes to see a byte order mark, also from a pipe that gives one byte at a time."""
        beginning = b""
        while len(beginning) < 4 and (block := self._stream.read1(_BLOCK_BYTES)):
            beginning += block
        return beginning

    def _raw_lines(self) -> Iterator[tuple[bytes, bool]]:
        lines, tail = self._split(self._held, False)
        self._held = b""
        while True:
            yield from self._number(lines)
            if len(tail) > MAX_LINE_BYTES:
                tail = yield from self._pieces(tail)
            block = self._stream.read1(_BLOCK_BYTES)
            lines, tail = self._split(tail + block, not block)
            if not block:
                yield from self._number([*lines, tail] if tail else lines)
                return

    def _number(self, lines: list[bytes]) -> Iterator[tuple[bytes, bool]]:
        for raw in lines:
            self.number += 1
            yield raw, True

    def _pieces(self, tail: bytes) -> Generator[tuple[bytes, bool], None, bytes]:
        """Hand on a line that is too long, in pieces that add up to it; return what follows it."""
        self.number += 1
        while True:
            cut = (len(tail) - 1) // PIECE_BYTES * PIECE_BYTES  # leaves something: it may be half of a CRLF
            for start in range(0, cut, PIECE_BYTES):
                yield tail[start : start + PIECE_BYTES], False
            block = self._stream.read1(_BLOCK_BYTES)
            lines, tail = self._split(tail[cut:] + block, not block)
            if lines or not block:
                last, *others = lines or [tail]
                yield last, False
                return b"".join(others) + tail if lines else b""

    def _decode(self, raw: bytes) -> Line:
        try:
            text = raw.decode(self.encoding)
        except UnicodeError:
            return Line(self.number, raw, raw.decode(self.encoding, "replace"), f"not {self.encoding} text")
        return Line(self.number, raw, text, "contains a NUL character" if "\0" in text else None)


def _canonical_name(encoding: str) -> str:
    try:
        encoding.encode("ascii")
        "\r\n".encode(encoding)  # raises LookupError also for the codecs that are no text encodings: base64, rot13
        name = codecs.lookup(encoding).name
    except (LookupError, UnicodeError, ValueError) as error:
        raise ConfigurationError(f"there is no text encoding {encoding!r}") from error
    return "utf-8" if name == "utf-8-sig" else name


def _find_mark(beginning: bytes, name: str) -> tuple[bytes, str]:
    for mark, plain in _MARKS.get(name, ()):
        if beginning.startswith(mark):
            return mark, plain
    if name == "utf-8" and beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigurationError("the input begins with the byte order mark of UTF-16: name the encoding utf-16")
    if name in {"utf-16", "utf-32"}:
        return b"", f"{name}-{'le' if sys.byteorder == 'little' else 'be'}"
    return b"", name


def _splitter(encoding: str) -> _Splitter:
    """How bytes in this encoding are cut into lines: (data, at the end of input) -> (whole lines, unfinished tail)."""
    carriage_return, line_feed = "\r".encode(encoding), "\n".encode(encoding)
    if (carriage_return, line_feed) == (b"\r", b"\n"):
        return _split_single_bytes
    return _wide_splitter(carriage_return, line_feed)


def _split_single_bytes(data: bytes, at_end: bool) -> tuple[list[bytes], bytes]:
    lines = data.splitlines(keepends=True)
    # A carriage return at the end of the data may be the first half of a CRLF.
    if not lines or lines[-1].endswith(b"\n") or (at_end and lines[-1].endswith(b"\r")):
        return lines, b""
    tail = lines.pop()
    return lines, tail


def _wide_splitter(carriage_return: bytes, line_feed: bytes) -> _Splitter:
    """For UTF-16, UTF-32 and EBCDIC: units of several bytes, or other line ends; slower, and matched unit by unit."""
    first, second, unit = re.escape(carriage_return), re.escape(line_feed), b".{%d}" % len(line_feed)
    line = re.compile(b"(?s:(?:(?!%b|%b)%b)*+(?:%b%b|%b|%b))" % (first, second, unit, first, second, first, second))

    def split(data: bytes, at_end: bool) -> tuple[list[bytes], bytes]:
        lines: list[bytes] = []
        start = 0
        while found := line.match(data, start):
            if not at_end and len(data) - found.end() < len(line_feed) and found[0].endswith(carriage_return):
                break  # it may be the first half of a CRLF
            lines.append(found[0])
            start = found.end()
        return lines, data[start:]

    return split
