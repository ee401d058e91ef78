"""A line to a server that breaks in a chosen moment: a proxy on the loopback."""

import contextlib
import select
import socket
import threading


class Line:
    """Carries bytes both ways. With `cut` set, it breaks behind the first message of a client that holds them."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.cut = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._to) as server:
            while True:
                for source in select.select([client, server], [], [])[0]:
                    if not (data := source.recv(65536)):
                        return
                    broken = source is client and self.cut and self.cut in data
                    if broken:
                        self.cut = b""
                        client.shutdown(socket.SHUT_RDWR)  # what the server answers to this finds nobody
                    (server if source is client else client).sendall(data)
                    if broken:
                        server.shutdown(socket.SHUT_WR)
                        server.recv(65536)
                        return
