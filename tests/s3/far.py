"""A way to the server that takes its time, and counts what goes along it: storage as it is in another building."""

import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

REQUEST = re.compile(rb"(GET|PUT|POST|HEAD|DELETE) (\S*) HTTP/1\.1\r\n")
ANSWER = re.compile(rb"(?:HTTP/1\.1 100 [^\r]*\r\n\r\n)?HTTP/1\.1 [2-5]")  # "100 Continue" alone is not yet one
LIST = re.compile(r"^GET /[^/?]+/?\?.*list-type=2")


class Far:
    """Passes TCP connections of loopback on to ``port``, each request ``seconds`` late."""

    def __init__(self, port: int, seconds: float = 0.0) -> None:
        self._port, self.seconds = port, seconds
        self._door = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._lock, self._is_open = threading.Lock(), True
        self._threads: list[threading.Thread] = []
        self._ends: list[socket.socket] = []
        self._waiting = 0
        self.most = 0  # requests that were waiting for their answers at one time
        self.asked: list[str] = []  # "GET /bucket/key?query" of every request

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._door.getsockname()[1]}"

    @property
    def counts(self) -> Counter[str]:
        """Requests of each kind: listings as LIST, the others by their method."""
        return Counter("LIST" if LIST.match(one) else one.partition(" ")[0] for one in self.asked)

    def forget(self) -> None:
        """Count from nothing again."""
        with self._lock:
            self.asked, self.most = [], 0

    def __enter__(self) -> "Far":
        self._start(self._serve)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing of it is left: no socket, no thread."""
        self._is_open = False
        for one in [self._door, *self._ends]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=30)
        for one in [self._door, *self._ends]:
            one.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _serve(self) -> None:
        while self._is_open:
            with suppress(OSError):  # the door was closed, or the server is away
                client, _ = self._door.accept()
                self._ends.append(client)
                server = socket.create_connection(("127.0.0.1", self._port))
                self._ends.append(server)
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._start(self._pass, client, server, True)
                self._start(self._pass, server, client, False)

    def _pass(self, source: socket.socket, target: socket.socket, is_asking: bool) -> None:
        """Copy one direction until it ends."""
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if is_asking:
                    self._count(data)
                elif ANSWER.match(data):
                    with self._lock:
                        self._waiting -= 1
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _count(self, data: bytes) -> None:
        found = REQUEST.match(data)
        if found is None:  # more of a body
            return
        with self._lock:
            self.asked.append(f"{found[1].decode()} {found[2].decode()}")
            self._waiting += 1
            self.most = max(self.most, self._waiting)
        time.sleep(self.seconds)
