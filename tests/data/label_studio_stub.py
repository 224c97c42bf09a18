"""A small HTTP server that keeps projects and tasks as Label Studio does, and breaks when it is told to."""

import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

TOKEN = "0123456789abcdef-a-token-of-the-tests"
Fault = Literal["busy", "broken", "cut", "done, then cut", "done, then 502"]


class StubStudio(ThreadingHTTPServer):
    """``faults`` are used up by the requests whose path holds their word, in their order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.projects: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []
        self.faults: deque[tuple[str, Fault]] = deque()
        self.asked: list[tuple[str, str]] = []  # method, path
        self.lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self, path: str) -> Fault | None:
        """What is to go wrong with this request."""
        if self.faults and self.faults[0][0] in path:
            return self.faults.popleft()[1]
        return None

    def answered(self, method: str, path: str, words: dict[str, str], body: Any) -> tuple[int, Any]:
        """Status and content."""
        parts = path.strip("/").split("/")
        if path == "/api/version":
            return 200, {"release": "1.23.2", "label-studio-os-package": {}}
        if path == "/api/projects" and method == "POST":
            self.projects.append({**body, "id": len(self.projects) + 1})
            return 201, self.projects[-1]
        if path == "/api/projects":
            found = [one for one in self.projects if words.get("title", "") in one["title"]]
            return self._page(found, words, "results", "count")
        if path == "/api/tasks":
            found = [one for one in self.tasks if one["project"] == int(words["project"])]
            return self._page(found, words, "tasks", "total")
        project = next((one for one in self.projects if str(one["id"]) == parts[2]), None)
        if project is None:
            return 404, {"detail": "No Project matches the given query."}
        if parts[-1] == "import":
            self.tasks += [
                {"id": len(self.tasks) + i, "project": project["id"], **one} for i, one in enumerate(body, 1)
            ]
            return 201, {"task_count": len(body)}
        project.update(body or {})
        return 200, project

    def _page(self, found: list[Any], words: dict[str, str], key: str, count: str) -> tuple[int, Any]:
        size, page = int(words["page_size"]), int(words.get("page", 1))
        part = found[size * (page - 1) : size * page]
        return (404, {"detail": "Invalid page."}) if page > 1 and not part else (200, {key: part, count: len(found)})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StubStudio

    def _answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        found = urlsplit(self.path)
        words = {name: values[-1] for name, values in parse_qs(found.query).items()}
        with self.server.lock:
            self.server.asked.append((self.command, self.path))
            fault = self.server.fault(self.path)
            if fault == "busy":
                return self._send(503, {"detail": "come again"})
            if fault == "broken":
                return self._send(500, {"detail": "broken"})
            if fault == "cut":
                self.close_connection = True
                return None
            if found.path != "/api/version" and self.headers.get("Authorization") != f"Token {TOKEN}":
                return self._send(401, {"detail": f"Invalid token {TOKEN}"})
            status, content = self.server.answered(self.command, found.path, words, body)
            if fault == "done, then 502":
                return self._send(502, {})
            if fault == "done, then cut":
                self.close_connection = True
                return None
            return self._send(status, content)

    def _send(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


@contextmanager
def stub_studio() -> Iterator[StubStudio]:
    """One server for the time of the block."""
    server = StubStudio()
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
