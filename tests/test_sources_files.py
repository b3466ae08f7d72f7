import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from batchwrite.errors import ConfigurationError
from batchwrite.sources import InputUnreadable, LineReader, open_input
from batchwrite.sources.lines import MAX_LINE_BYTES, PIECE_BYTES, Line

TEXT = b"a,b\n" + b"".join(b"%d,some text\n" % number for number in range(5_000))
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
each_compression = pytest.mark.parametrize("kind", list(COMPRESSORS))


def read_all(path: Path | str) -> bytes:
    with open_input(path) as file:
        return b"".join(iter(lambda: file.read1(1 << 16), b""))


def lines_of(data: bytes, encoding: str = "utf-8") -> list[Line]:
    return list(LineReader(io.BufferedReader(io.BytesIO(data)), encoding))


# Opening


def test_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "plain.gz").write_bytes(TEXT)  # its name is not believed
    assert read_all(tmp_path / "plain.gz") == TEXT


@pytest.mark.parametrize("content", [b"", b"a", b"\x1f", b"BZ"])
def test_a_tiny_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tiny").write_bytes(content)
    assert read_all(tmp_path / "tiny") == content


@each_compression
def test_a_compressed_file(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file.csv").write_bytes(COMPRESSORS[kind](TEXT))
    assert read_all(tmp_path / "file.csv") == TEXT


@each_compression
def test_compressed_parts_one_after_the_other(tmp_path: Path, kind: str) -> None:
    compress = COMPRESSORS[kind]
    (tmp_path / "file.csv").write_bytes(compress(TEXT) + compress(b"more\n") + compress(TEXT))
    assert read_all(tmp_path / "file.csv") == TEXT + b"more\n" + TEXT


@each_compression
@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_compressed_data_that_is_cut_short(tmp_path: Path, kind: str, share: float) -> None:
    whole = COMPRESSORS[kind](os.urandom(200_000))
    (tmp_path / "cut").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputUnreadable, match=f"cut: the {kind} data is cut short"):
        read_all(tmp_path / "cut")


@each_compression
def test_compressed_data_that_is_damaged(tmp_path: Path, kind: str) -> None:
    whole = bytearray(COMPRESSORS[kind](os.urandom(200_000)))
    whole[len(whole) // 2 : len(whole) // 2 + 2_000] = b"\xaa" * 2_000
    (tmp_path / "bad").write_bytes(whole)
    with pytest.raises(InputUnreadable, match=f"bad: the {kind} data is (damaged|cut short)"):
        read_all(tmp_path / "bad")


@each_compression
def test_damage_comes_after_the_good_lines(tmp_path: Path, kind: str) -> None:
    compress = COMPRESSORS[kind]
    (tmp_path / "cut").write_bytes(compress(TEXT) + compress(os.urandom(1_000))[:-5])
    seen: list[Line] = []
    with open_input(tmp_path / "cut") as file, pytest.raises(InputUnreadable):
        seen.extend(LineReader(file))
    assert b"".join(line.raw for line in seen).startswith(TEXT)


@pytest.mark.slow
@each_compression
def test_memory_is_bounded_however_well_it_is_compressed(tmp_path: Path, kind: str) -> None:
    part = (b"the same line, again, " * 50 + b"\n") * 2_000
    (tmp_path / "bomb").write_bytes(COMPRESSORS[kind](part) * 30)
    tracemalloc.start()
    with open_input(tmp_path / "bomb") as file:
        count = sum(1 for _ in LineReader(file))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 60_000
    assert peak < 25_000_000


def test_zstd_without_a_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(COMPRESSORS["zstd"](TEXT))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    with pytest.raises(InputUnreadable, match=r'pip install "batchwrite\[zst\]"'):
        read_all(tmp_path / "file")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable, match="nowhere: No such file or directory"):
        read_all(tmp_path / "nowhere")


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable, match="Is a directory"):
        read_all(tmp_path)


def test_size_and_position_are_those_on_the_disk(tmp_path: Path) -> None:
    compressed = gzip.compress(TEXT)
    (tmp_path / "file").write_bytes(compressed)
    with open_input(tmp_path / "file") as file:
        assert file.size == len(compressed)
        while file.read1(1 << 16):
            pass
        assert file.position == len(compressed)


def test_standard_input_from_a_pipe_that_trickles() -> None:
    program = (
        "from batchwrite.sources import open_input, LineReader\n"
        "with open_input('-') as file:\n"
        "    for line in LineReader(file):\n"
        "        print(line.number, line.text.strip(), file.size, flush=True)\n"
    )
    data = gzip.compress(b"one\ntwo\n")
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        for byte in data:
            process.stdin.write(bytes([byte]))
            process.stdin.flush()
        process.stdin.close()
        assert process.stdout.read() == b"1 one None\n2 two None\n"


def test_a_pipe_gives_its_lines_as_they_come() -> None:
    """The first lines are there before the end is: a reader that waits for a full block would hang here."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "wb", buffering=0) as feed:
        feed.write(b"header\nfirst\nsec")
        lines = iter(LineReader(pipe))
        assert [next(lines).text, next(lines).text] == ["header\n", "first\n"]
        closing = threading.Timer(0, lambda: (feed.write(b"ond\n"), feed.close()))
        closing.start()
        assert [line.text for line in lines] == ["second\n"]
        closing.join()


# Lines and encodings


def test_line_ends() -> None:
    lines = lines_of(b"a\nb\r\nc\rd\n\re\r\n\x0b\x0c\x1c\x85\n", "latin-1")
    assert [line.raw for line in lines] == [b"a\n", b"b\r\n", b"c\r", b"d\n", b"\r", b"e\r\n", b"\x0b\x0c\x1c\x85\n"]
    assert [line.number for line in lines] == list(range(1, 8))


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "utf-16-be", "utf-32", "cp037", "shift-jis"])
@given(st.lists(st.text("ab\r\n\u0a0dਊ", max_size=5), max_size=6), st.integers(1, 7))
def test_lines_are_cut_the_same_in_every_encoding_and_by_any_block(encoding: str, texts: list[str], block: int) -> None:
    text = "".join(texts)
    if encoding in {"latin-1", "cp037", "shift-jis"}:
        text = text.replace("\u0a0d", "x").replace("ਊ", "y")

    class Trickle(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            return self.read(block)

    lines = list(LineReader(Trickle(text.encode(encoding)), encoding))  # type: ignore[arg-type]
    assert [line.text for line in lines] == list(io.StringIO(text, newline=""))
    assert not any(line.problem for line in lines)


@pytest.mark.parametrize(
    ("encoding", "mark", "found"),
    [
        ("utf-8", b"\xef\xbb\xbf", "utf-8"),
        ("utf-8-sig", b"\xef\xbb\xbf", "utf-8"),
        ("UTF8", b"", "utf-8"),
        ("utf-16", b"\xff\xfe", "utf-16-le"),
        ("utf-16", b"\xfe\xff", "utf-16-be"),
        ("utf-16-le", b"", "utf-16-le"),
        ("utf-32", b"\x00\x00\xfe\xff", "utf-32-be"),
    ],
)
def test_byte_order_marks(encoding: str, mark: bytes, found: str) -> None:
    reader = LineReader(io.BytesIO(mark + "ä\n€".encode(found)), encoding)  # type: ignore[arg-type]
    assert (reader.mark, reader.encoding) == (mark, found)
    assert [line.text for line in reader] == ["ä\n", "€"]


@pytest.mark.parametrize(
    ("encoding", "good", "bad"),
    [
        ("utf-8", "ä\n".encode(), b"x\xffy\n"),
        ("ascii", b"a\n", b"\xe4\n"),
        ("cp1252", b"\xe4\n", b"\x81\n"),
        ("utf-16-le", "ä\n".encode("utf-16-le"), b"x\0\x00\xd8y\0\n\0"),
        ("utf-16-be", "ä\n".encode("utf-16-be"), b"\0x\xdc\x00\0y\0\n"),
        ("utf-32-le", "ä\n".encode("utf-32-le"), b"x\0\0\0\xff\xff\xff\xff\n\0\0\0"),
    ],
)
def test_a_byte_that_is_not_in_the_encoding_costs_its_line_and_is_kept(encoding: str, good: bytes, bad: bytes) -> None:
    lines = lines_of(good + bad + good, encoding)
    assert [line.raw for line in lines] == [good, bad, good]
    assert [line.problem for line in lines] == [None, f"not {encoding} text", None]


def test_half_a_unit_at_the_end() -> None:
    lines = lines_of("a\nb".encode("utf-16-le") + b"\x20", "utf-16-le")
    assert [line.problem for line in lines] == [None, "not utf-16-le text"]
    assert lines[1].raw == b"b\0\x20"


def test_a_nul_is_a_problem() -> None:
    assert [line.problem for line in lines_of(b"a\nb\0c\nd\n")] == [None, "contains a NUL character", None]


@pytest.mark.parametrize("encoding", ["nonsense", "base64", "rot13", "\0", "undefined", "ütf"])
def test_no_such_encoding(encoding: str) -> None:
    with pytest.raises(ConfigurationError, match="there is no text encoding"):
        lines_of(b"a", encoding)


def test_utf_16_that_is_read_as_utf_8_is_told() -> None:
    with pytest.raises(ConfigurationError, match="name the encoding utf-16"):
        lines_of("a,b\n".encode("utf-16"))


@pytest.mark.slow
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("surplus", [1, PIECE_BYTES, 5 * PIECE_BYTES + 17])
def test_a_line_that_is_too_long_comes_in_pieces_and_the_rest_goes_on(line_end: bytes, surplus: int) -> None:
    long = b"x" * (MAX_LINE_BYTES + 128 * 1024 + surplus) + line_end
    lines = lines_of(b"a\n" + long + b"b\n" + b"c\n")
    pieces = [line for line in lines if line.text is None]
    assert b"".join(line.raw for line in pieces) == long
    assert max(len(line.raw) for line in pieces) <= PIECE_BYTES + 128 * 1024
    assert {line.number for line in pieces} == {2}
    assert {line.problem for line in pieces} == {"longer than 16,777,216 bytes"}
    assert [(line.number, line.text) for line in lines if line.text] == [(1, "a\n"), (3, "b\n"), (4, "c\n")]


@pytest.mark.slow
def test_a_line_that_never_ends() -> None:
    lines = lines_of(b"x" * (MAX_LINE_BYTES + 1_000_000))
    assert sum(len(line.raw) for line in lines) == MAX_LINE_BYTES + 1_000_000


def test_sources_can_be_imported_without_a_zstd_library() -> None:
    assert "zstandard" not in vars(import_module("batchwrite.sources.files"))
