"""Requests to a Label Studio server: bounded retries, errors in one sentence, the token in requests and nowhere else.

Tested with Label Studio 1.23.2. Both kinds of its tokens are understood: the old ones, and personal access tokens,
which are changed for short-lived ones.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from random import SystemRandom
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

URL, KEY = "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"  # names of the variables of the environment
PATIENCE = 120.0  # seconds for which a server that has answered before may be away; then the error is raised
FIRST_PATIENCE = 10.0  # the same for one that has not answered yet: the address may be wrong
LONGEST_PAUSE = 5.0  # seconds between two tries
PAGE = 100  # entries of a list that are asked for at a time
_TIMEOUT = 300.0  # seconds for one answer: an import of many predictions takes its time
_FRESH = 30.0  # seconds for which a short-lived token is surely good
_BUSY = (408, 425, 429)
_LOOKS = 3  # times that a list is read anew when it changes meanwhile


class LabelServerError(Exception):
    """A server that cannot be used as it is; its text is one sentence."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status  # of HTTP; 0 = there was none


class UnclearAnswer(Exception):
    """Nobody knows whether a request was carried out: look before it is sent again."""


@dataclass(frozen=True)
class Project:
    """A project of the server."""

    id: int
    title: str
    config: str  # its labelling configuration, XML


class _Away(Exception):
    """The server did not answer, or only that it cannot now."""

    def __init__(self, why: str, is_unclear: bool) -> None:
        super().__init__(why)
        self.is_unclear = is_unclear  # the request may have been carried out


class _NoRedirect(HTTPRedirectHandler):
    """The token goes to the address that was given, and to no other one."""

    def redirect_request(self, *_: Any) -> None:
        return None


class LabelServer:
    """One server, asked by one person's token."""

    def __init__(self, url: str, token: str) -> None:
        found = urlsplit(url)
        if found.scheme not in ("http", "https") or not found.hostname or "@" in found.netloc:
            raise LabelServerError(
                f"{URL}: is no address of a server; expected one such as http://127.0.0.1:8080, without a password"
            )
        self.url = url.rstrip("/")
        self._token, self._access, self._since = token, "", 0.0
        self._has_answered = False
        is_here = found.hostname in ("localhost", "127.0.0.1", "::1")
        self._opener = build_opener(_NoRedirect, *([ProxyHandler({})] if is_here else []))

    @staticmethod
    def of_environment(url: str = "") -> "LabelServer":
        """That of LABEL_STUDIO_URL (or ``url``), with the token of LABEL_STUDIO_API_KEY. LabelServerError else."""
        url = url or os.environ.get(URL, "")
        token = os.environ.get(KEY, "").strip()
        if not url:
            raise LabelServerError(f"{URL}: is not set; expected the address of a Label Studio: set it, or give --url")
        if not token or not token.isascii() or not token.isprintable():
            raise LabelServerError(
                f"{KEY}: is {'not a token' if token else 'not set'}; expected the access token of a person: copy it "
                f"from Account & Settings of {_shown(url)}"
            )
        return LabelServer(url, token)

    def __repr__(self) -> str:
        return f"LabelServer({self.url!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a LabelServer holds a token and is not pickled; make one from the environment there")

    # ---- what can be asked ----

    def check(self) -> str:
        """Its version, after it has let us in. LabelServerError where it is no Label Studio or refuses the token."""
        no_server = f"{self.url}: answers, but is no Label Studio; expected one: correct {URL}"
        try:
            found = self._ask("GET", "/api/version")
        except LabelServerError as error:
            raise LabelServerError(no_server, error.status) if error.status == 404 else error from None
        if not isinstance(found, Mapping) or "label-studio-os-package" not in found:
            raise LabelServerError(no_server)
        self._ask("GET", "/api/projects?page_size=1&include=id")
        return str(found.get("release", ""))

    def project(self, id: int) -> Project:
        """A project by its number. LabelServerError where there is none."""
        try:
            return _project(self._ask("GET", f"/api/projects/{id}"))
        except LabelServerError as error:
            if error.status != 404:
                raise
            raise LabelServerError(
                f"{self.url}: has no project {id}; expected one that this token may see: correct --project", 404
            ) from None

    def projects(self, title: str) -> list[Project]:
        """The projects with exactly this title."""
        words = urlencode({"title": title, "include": "id,title,label_config"})
        kept = ("id", "title", "label_config")
        found = [_project(one) for one in self._listed(f"/api/projects?{words}", "results", "count", kept)]
        return [one for one in found if one.title == title]

    def new_project(self, title: str, config: str) -> Project:
        """A new project. UnclearAnswer where it may be there or not."""
        return _project(self._ask("POST", "/api/projects", {"title": title, "label_config": config}))

    def set_config(self, project: Project, config: str) -> Project:
        """A project with another labelling configuration."""
        return _project(self._ask("PATCH", f"/api/projects/{project.id}", {"label_config": config}))

    def tasks(self, project: Project, with_annotations: bool = False) -> list[dict[str, Any]]:
        """The id and the data of all tasks of a project, by their number; and what people have labeled."""
        words = {"project": project.id, "ordering": "id", "resolve_uri": "false"}
        if with_annotations:
            words["fields"] = "all"
        found = self._listed(f"/api/tasks?{urlencode(words)}", "tasks", "total", ("id", "data", "annotations"))
        for one in found:
            for key, kind in (("data", dict), ("annotations", list)):
                if not isinstance(one.get(key) or kind(), kind):
                    raise LabelServerError(
                        f"{self.url}: task {one['id']} has strange {key}; expected Label Studio's: look at it there"
                    )
        return sorted(found, key=lambda one: int(one["id"]))

    def add_tasks(self, project: Project, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Add tasks with their predictions, all or none. UnclearAnswer where they may be there or not."""
        answer = self._ask("POST", f"/api/projects/{project.id}/import", tasks)
        number = answer.get("import") if isinstance(answer, Mapping) else None
        if number is not None:  # servers with a queue answer before they have done it
            self._await_import(project, int(number))

    def _await_import(self, project: Project, number: int) -> None:
        end = time.monotonic() + _TIMEOUT
        while time.monotonic() < end:
            state = self._ask("GET", f"/api/projects/{project.id}/imports/{number}")
            if state.get("status") == "failed":
                raise LabelServerError(
                    f"{self.url}: could not import tasks ({str(state.get('error'))[:200]}); expected it to: look at "
                    f"project {project.id}"
                )
            if state.get("status") == "completed":
                return
            time.sleep(0.5)
        raise UnclearAnswer

    # ---- how it is asked ----

    def _listed(self, path: str, key: str, count: str, kept: Sequence[str]) -> list[dict[str, Any]]:
        """These keys of all entries of a list, each once, a page at a time; read anew where it changed meanwhile."""
        found: dict[int, dict[str, Any]] = {}
        for _ in range(_LOOKS):
            found, total, page = {}, 1, 0
            while len(found) < total:
                page += 1
                try:
                    answer = self._ask("GET", f"{path}&page={page}&page_size={PAGE}")
                except LabelServerError as error:
                    if error.status == 404 and page > 1:
                        break  # behind the last page
                    raise
                entries: Any = answer.get(key) if isinstance(answer, Mapping) else None
                has_all = isinstance(entries, list) and type(answer.get(count)) is int
                if not has_all or not all(map(_has_id, entries)):
                    raise LabelServerError(
                        f"{self.url}{urlsplit(path).path}: answers no list of {key} with numbers and their {count!r}; "
                        f"expected a Label Studio: correct {URL}"
                    )
                found |= {one["id"]: {k: one[k] for k in kept if k in one} for one in entries}
                total = answer[count]
                if not entries:
                    break
            if len(found) == total or not total:
                break
        return list(found.values())

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to one request, tried again with growing pauses while the server cannot answer.

        What may have been carried out already is tried again only where that changes nothing (not POST).
        """
        pause, start = 0.25, time.monotonic()
        while True:
            try:
                answer = self._once(method, path, body)
            except _Away as away:
                if away.is_unclear and method == "POST":
                    raise UnclearAnswer from None
                waited = time.monotonic() - start
                if waited > (PATIENCE if self._has_answered else FIRST_PATIENCE):
                    raise LabelServerError(
                        f"{self.url}: no answer for {waited:.0f} s ({away}); start the server, or correct {URL}"
                    ) from None
            else:
                self._has_answered = True
                return answer
            time.sleep(pause * SystemRandom().uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _once(self, method: str, path: str, body: Any) -> Any:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        is_open = path in ("/api/version", "/api/token/refresh")
        if not is_open:
            headers["Authorization"] = self._authorization()
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        request = Request(self.url + path, data, headers, method=method)
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as answer:
                text = answer.read()
        except HTTPError as error:
            with error:
                if error.code == 401 and self._access and time.monotonic() - self._since > _FRESH:
                    self._access = ""  # its time is over: the next try asks for another one
                    raise _Away("its token has run out", False) from None
                raise self._refused(error, path) from None
        except URLError as error:
            raise _Away(_why(error.reason), not isinstance(error.reason, ConnectionRefusedError)) from None
        except (HTTPException, OSError) as error:  # an answer that broke off
            raise _Away(_why(error), True) from None
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise LabelServerError(
                f"{self.url}{urlsplit(path).path}: answers no JSON; expected a Label Studio: correct {URL}", 200
            ) from None

    def _authorization(self) -> str:
        """The header that says who asks. A personal access token (three parts) is changed for a short-lived one."""
        if self._token.count(".") != 2:
            return f"Token {self._token}"
        if not self._access:
            answer = self._once("POST", "/api/token/refresh", {"refresh": self._token})
            self._access = str(answer.get("access", "")) if isinstance(answer, Mapping) else ""
            self._since = time.monotonic()
        return f"Bearer {self._access}"

    def _refused(self, error: HTTPError, path: str) -> Exception:
        """What an answer with an error means, as we say it: without the words of the request."""
        status, where = error.code, f"{self.url}{urlsplit(path).path}"
        if status >= 500 or status in _BUSY:
            return _Away(str(status), status >= 500)
        if status in (401, 403):
            return LabelServerError(
                f"{self.url}: refuses the token of {KEY} ({status}); expected one of a person who may do this: copy it "
                f"from Account & Settings there, or have this kind of token allowed",
                status,
            )
        if 300 <= status < 400:
            return LabelServerError(
                f"{self.url}: leads on to {_shown(error.headers.get('Location', ''))}; expected the server itself: set "
                f"{URL} to that",
                status,
            )
        try:
            told = json.loads(error.read(1 << 16))
            said = str(told.get("validation_errors") or told.get("detail") or "")
        except (ValueError, AttributeError, OSError, HTTPException):
            said = ""
        said = said.replace(self._token, "...")[:300]
        return LabelServerError(f"{where}: is refused ({status}{': ' if said else ''}{said})", status)


def _has_id(entry: object) -> bool:
    return isinstance(entry, Mapping) and type(entry.get("id")) is int


def _project(found: Any) -> Project:
    if not _has_id(found):
        raise LabelServerError(f"a project without an id was answered; expected a Label Studio: correct {URL}")
    return Project(found["id"], str(found.get("title", "")), str(found.get("label_config") or ""))


def _why(error: object) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror) if strerror else type(error).__name__


def _shown(url: str) -> str:
    """An address without what may be secret in it."""
    found = urlsplit(url)
    return f"{found.scheme}://{found.hostname or ''}{f':{found.port}' if found.port else ''}"
