"""A server on loopback that gives the answers it is told to, and remembers what it was asked. For tests of requests."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

SECRET = "a-secret-of-the-tests"
Asked = tuple[str, str, dict[str, str]]  # method, path, headers in lower case


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. ``cut``: how many bytes of the body are really sent before the connection is closed."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


def error(status: int, code: str) -> Answer:
    """What S3 says when it refuses; some servers repeat keys in it."""
    text = f"<Error><Code>{code}</Code><Message>{SECRET}</Message><AWSAccessKeyId>{SECRET}</AWSAccessKeyId></Error>"
    return Answer(status, text.encode(), {"Content-Type": "application/xml"})


class Answering(ThreadingHTTPServer):
    """Answers are used up in their order; ``asked`` holds (method, path, headers) of every request.

    An answer may be a function of what was asked.
    """

    daemon_threads = True

    def __init__(self, *answers: Answer | Callable[[list[Asked]], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = deque(answers)
        self.asked: list[Asked] = []

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to come here, and nothing of this machine's own profiles."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_address[1]}",
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Answering

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        one = self.server.answers.popleft() if self.server.answers else error(500, "NothingLeftToSay")
        one = one if isinstance(one, Answer) else one(self.server.asked)
        self.send_response(one.status)
        for name, value in {"ETag": '"e"', "Content-Length": str(len(one.body)), **one.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(one.body[: one.cut])
        self.close_connection = one.cut is not None

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


@contextmanager
def starting(patch: pytest.MonkeyPatch) -> Iterator[Callable[..., Answering]]:
    """What starts a server that gives these answers, and lets this process talk to it."""
    servers: list[Answering] = []

    def start(*answers: Any) -> Answering:
        servers.append(Answering(*answers))
        Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        for name, value in servers[-1].environment.items():
            patch.setenv(name, value)
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
