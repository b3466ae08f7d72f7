"""A network that swallows what a PostgreSQL server answers."""

import socket
import threading
from contextlib import suppress

READABLE = {"sslmode": "disable", "gssencmode": "disable"}
"""What a connection is made with, so that COMMIT can be seen on its way."""


class Hole:
    """A port of 127.0.0.1 that passes everything on to a server, until it is told to keep the answers to itself.

    It does that as soon as a client sends COMMIT, and passes the COMMIT on.
    """

    def __init__(self, port):
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.is_open = True
        self.swallowed = threading.Event()
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            self._sockets += [client, server]
            silent = threading.Event()
            threading.Thread(target=self._pass, args=(client, server, silent), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client, silent), daemon=True).start()

    def _pass(self, client, server, silent):
        try:
            while data := client.recv(65_536):
                if self.is_open and b"COMMIT" in data and b"batchwrite_chunks" not in data[data.index(b"COMMIT") :]:
                    self.is_open = False
                    silent.set()
                    self.swallowed.set()
                server.sendall(data)
        except OSError:
            pass
        finally:
            server.close()

    def _answer(self, server, client, silent):
        try:
            while data := server.recv(65_536):
                if not silent.is_set():
                    client.sendall(data)
        except OSError:
            pass

    def close(self):
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # or the thread would wait on
        for each in self._sockets:
            each.close()
