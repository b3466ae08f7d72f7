"""Opening the input: a file or standard input, decompressed as its first bytes ask."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import sys
import zlib
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from batchwrite.sources.record import InputUnreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMPRESSION_SUFFIXES = (".gz", ".xz", ".bz2", ".zst")
"""Endings of file names that say how the file is compressed; only its first bytes are believed."""

_MAGIC_BYTES = 6
_FEED_BYTES = 1024
"""How much a zstd decompressor is fed at once. It cannot be told how much to give back: a block of a dozen bytes may
stand for 128 KiB, so that a kilobyte is at most some 10 MiB."""


class InputFile(io.BufferedIOBase):
    """The decompressed bytes of an input, whose errors are all `InputUnreadable`.

    Attributes:
        size: Size of the file in bytes as it lies on the disk, `None` for a pipe.
    """

    def __init__(self, raw: BinaryIO, name: str) -> None:
        self._raw = raw
        self._name = name
        self.size = _regular_size(raw)
        magic = self._guarded(lambda: _read_exactly(raw, _MAGIC_BYTES))
        self._plain = io.BufferedReader(_Rejoined(magic, raw))
        self._kind, self._stream = _decompressed(magic, self._plain)

    def readable(self) -> bool:
        """Yes."""
        return True

    def read1(self, size: int = -1, /) -> bytes:
        """Up to `size` decompressed bytes, nothing at the end.

        Raises:
            InputUnreadable: The device failed, or the compressed data is damaged or cut short.
        """
        return self._guarded(lambda: self._stream.read1(size))

    @property
    def position(self) -> int:
        """Bytes taken from the file so far, as it lies on the disk."""
        return self._raw.tell() if self.size is not None else 0

    def _guarded(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except EOFError as error:
            raise InputUnreadable(f"{self._name}: the {self._kind} data is cut short") from error
        except _damage_errors() as error:
            raise InputUnreadable(f"{self._name}: the {self._kind} data is damaged") from error
        except OSError as error:
            # bz2 reports damage as an OSError without a number.
            reason = error.strerror or f"the {self._kind} data is damaged"
            raise InputUnreadable(f"{self._name}: {reason}") from error


@contextmanager
def open_input(path: str | os.PathLike[str]) -> Iterator[InputFile]:
    """Open a file for reading, compressed (gzip, xz, bzip2, zstd) or not.

    Args:
        path: The file; `-` is standard input, which is left open.

    Raises:
        InputUnreadable: There is no such file, it cannot be read, or the library that decompresses it is missing.
    """
    if os.fspath(path) == "-":
        yield InputFile(sys.stdin.buffer, "standard input")
        return
    try:
        file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputUnreadable(f"{os.fspath(path)}: {error.strerror}") from error
    with file:
        yield InputFile(file, os.fspath(path))


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes have been taken, with these put back: a pipe cannot seek."""

    def __init__(self, beginning: bytes, rest: BinaryIO) -> None:
        self._beginning = beginning
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._beginning[: len(buffer)]
        if data:
            self._beginning = self._beginning[len(data) :]
        else:
            data = _read_some(self._rest, len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _ZstdStream(io.RawIOBase):
    """Decompresses zstd frames one after the other; unlike `zstandard`'s own reader it sees where data is cut short."""

    def __init__(self, stream: BinaryIO, new_decompressor: Callable[[], Any]) -> None:
        self._stream = stream
        self._new_decompressor = new_decompressor
        self._decompressor: Any = None
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ready:
            if not (data := self._stream.read(_FEED_BYTES)):
                if self._decompressor is not None:
                    raise EOFError
                return 0
            self._ready = self._decompress(data)
        data, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def _decompress(self, data: bytes) -> bytes:
        pieces = []
        while data:
            self._decompressor = self._decompressor or self._new_decompressor()
            pieces.append(self._decompressor.decompress(data))
            data = b""
            if self._decompressor.eof:
                data = self._decompressor.unused_data
                self._decompressor = None
        return b"".join(pieces)


def _decompressed(magic: bytes, plain: Any) -> tuple[str, Any]:
    if magic.startswith(b"\x1f\x8b"):
        return "gzip", gzip.GzipFile(fileobj=plain)
    if magic.startswith(b"\xfd7zXZ\x00"):
        return "xz", lzma.LZMAFile(plain)
    if magic.startswith(b"BZh"):
        return "bzip2", bz2.BZ2File(plain)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd", io.BufferedReader(_ZstdStream(plain, _zstd_decompressor()))
    return "", plain


def _zstd_decompressor() -> Callable[[], Any]:
    with suppress(ImportError):  # in the standard library from Python 3.14 on
        factory: Callable[[], Any] = import_module("compression.zstd").ZstdDecompressor
        return factory
    try:
        zstandard = import_module("zstandard")
    except ImportError as error:
        raise InputUnreadable('the input is zstd-compressed: pip install "batchwrite[zst]" to read it') from error
    return lambda: zstandard.ZstdDecompressor().decompressobj()


def _damage_errors() -> tuple[type[Exception], ...]:
    """What the decompressors raise for damaged data; of the zstd libraries, only one that has been imported can."""
    loaded = [sys.modules[name] for name in ("compression.zstd", "zstandard") if name in sys.modules]
    return (zlib.error, lzma.LZMAError, gzip.BadGzipFile, *(module.ZstdError for module in loaded))


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := _read_some(stream, size - len(data))):
        data += more
    return data


def _read_some(stream: BinaryIO, size: int) -> bytes:
    """What is there, without waiting for the whole size: a pipe gives its lines as they come."""
    return stream.read1(size) if isinstance(stream, io.BufferedReader) else stream.read(size)


def _regular_size(stream: BinaryIO) -> int | None:
    try:
        status = os.fstat(stream.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
