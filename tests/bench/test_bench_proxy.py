"""The proxy: what goes through it arrives whole and late, and round trips are counted."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchwrite.bench.proxy import DelayProxy

pytestmark = pytest.mark.xdist_group("machine")

DELAY = 0.05


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65_536):
            self.request.sendall(data)


class ThreadingUnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture(params=["tcp", "unix"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, int] | str]:
    path = str(tmp_path / "echo")
    server: socketserver.BaseServer
    if request.param == "tcp":
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)
        server.daemon_threads = True
    else:
        server = ThreadingUnixServer(path, Echo)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address if request.param == "tcp" else path
    server.shutdown()
    thread.join()
    server.server_close()


def received(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.recv(1 << 20)
        assert piece, "the connection was closed"
        data += piece
    return data


def test_each_direction_takes_as_long_as_it_should(target):
    with DelayProxy(target, DELAY) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as client:
        begin = time.monotonic()
        client.sendall(b"hello")
        assert received(client, 5) == b"hello"
        assert time.monotonic() - begin >= 2 * DELAY


def test_round_trips_are_counted_and_what_does_not_wait_is_not(target):
    with DelayProxy(target, DELAY) as proxy:
        assert proxy.round_trips == 0
        with socket.create_connection(("127.0.0.1", proxy.port)) as client:
            for number in range(1, 4):
                client.sendall(b"ask")
                received(client, 3)
                assert proxy.round_trips == number
            for _ in range(5):
                client.sendall(b"ask")  # long before the first answer comes
            received(client, 15)
            assert proxy.round_trips == 4
        with socket.create_connection(("127.0.0.1", proxy.port)) as another:
            another.sendall(b"ask")
            received(another, 3)
        assert proxy.round_trips == 5


def test_much_data_arrives_whole_and_the_delay_is_paid_once(target):
    data = bytes(range(256)) * 40_000
    pieces = len(data) // 65_536
    with DelayProxy(target, DELAY) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as client:
        begin = time.monotonic()
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        assert received(client, len(data)) == data
        sender.join()
        # A delay for each piece would be this long; what it really takes is a fraction of a second.
        assert time.monotonic() - begin < pieces * DELAY


def test_the_end_is_passed_on(target):
    with DelayProxy(target, 0) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.sendall(b"last")
        client.shutdown(socket.SHUT_WR)
        assert received(client, 4) == b"last"
        assert client.recv(1) == b""


def test_a_target_that_is_not_there_closes_the_connection(tmp_path):
    with (
        DelayProxy(str(tmp_path / "nobody"), 0) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as client,
    ):
        assert client.recv(1) == b""


def test_it_ends_with_the_block():
    with DelayProxy(("127.0.0.1", 1), 0) as proxy:
        port = proxy.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises(RuntimeError, match="not running"):
        _ = proxy.round_trips
