"""Requests to Label Studio: what is tried again and what is not, and sentences that hold no token."""

import pickle
from collections.abc import Iterator

import pytest

from tasks.data import label_server
from tasks.data.label_server import LabelServer, LabelServerError, UnclearAnswer
from tests.data.label_studio_stub import TOKEN, Fault, StubStudio, stub_studio
from tests.tasks.data.answering import Answer, Answering, starting


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_server, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(label_server, "FIRST_PATIENCE", 0.2)
    monkeypatch.setattr(label_server, "PATIENCE", 5.0)


@pytest.fixture
def studio() -> Iterator[StubStudio]:
    with stub_studio() as server:
        yield server


def told(server: Answering) -> str:
    """What is told about a server that answers so."""
    with pytest.raises(LabelServerError) as error:
        LabelServer(f"http://127.0.0.1:{server.server_address[1]}", TOKEN).check()
    assert TOKEN not in str(error.value)
    return str(error.value)


def test_lists_come_in_pages_and_each_entry_once(studio: StubStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_server, "PAGE", 3)
    server = LabelServer(studio.url + "/", TOKEN)
    assert server.check() == "1.23.2"
    project = server.new_project("one", "<View/>")
    server.new_project("one more", "<View/>")
    assert server.projects("one") == [project] == [server.project(1)]
    server.add_tasks(project, [{"data": {"image_id": str(i)}} for i in range(7)])
    assert [one["data"]["image_id"] for one in server.tasks(project)] == [str(i) for i in range(7)]
    assert server.set_config(project, "<View><Image/></View>").config == "<View><Image/></View>"
    studio.faults.append(("page=2", "busy"))
    assert len(server.tasks(project)) == 7


def test_what_changes_nothing_is_tried_again(studio: StubStudio) -> None:
    server = LabelServer(studio.url, TOKEN)
    project = server.new_project("one", "")
    studio.faults.extend([("/api/tasks", "busy"), ("/api/tasks", "cut"), ("/api/tasks", "broken")])
    assert server.tasks(project) == []
    studio.faults.append(("/api/projects/1", "done, then cut"))
    assert server.set_config(project, "x").config == "x"


@pytest.mark.parametrize("fault", ["broken", "cut", "done, then cut", "done, then 502"])
def test_what_may_have_been_done_is_not_sent_again(studio: StubStudio, fault: Fault) -> None:
    server = LabelServer(studio.url, TOKEN)
    project = server.new_project("one", "")
    studio.faults.append(("/import", fault))
    with pytest.raises(UnclearAnswer):
        server.add_tasks(project, [{"data": {}}])
    assert sum(path.endswith("/import") for _, path in studio.asked) == 1
    assert len(studio.tasks) == fault.startswith("done")


def test_a_server_that_is_away_is_given_up() -> None:
    with stub_studio() as studio:
        url = studio.url
    with pytest.raises(LabelServerError, match=r"no answer for \d+ s \(Connection refused\); start the server"):
        LabelServer(url, TOKEN).check()


def test_a_token_that_is_refused_is_not_told(studio: StubStudio) -> None:
    with pytest.raises(LabelServerError, match=r"refuses the token of LABEL_STUDIO_API_KEY \(401\)") as error:
        LabelServer(studio.url, "another-token").check()
    assert "token-of" not in str(error.value)
    server = LabelServer(studio.url, TOKEN)
    assert TOKEN not in repr(server)
    with pytest.raises(TypeError, match="holds a token"):
        pickle.dumps(server)
    with pytest.raises(LabelServerError, match="has no project 5"):
        server.project(5)


def test_what_is_no_label_studio(monkeypatch: pytest.MonkeyPatch) -> None:
    with starting(monkeypatch) as start:
        assert "answers no JSON; expected a Label Studio" in told(start(Answer(200, b"<html>")))
        assert "is no Label Studio; expected one: correct LABEL_STUDIO_URL" in told(start(Answer(404, b"")))
        assert "is no Label Studio" in told(start(Answer(200, b'{"version": 3}')))
        moved = Answer(301, b"", {"Location": "https://user:secret@elsewhere.example:8080/x"})
        assert "leads on to https://elsewhere.example:8080; expected" in told(start(moved))
        release = Answer(200, b'{"label-studio-os-package": {}}')
        refused = Answer(400, f'{{"validation_errors": {{"title": "{TOKEN}"}}}}'.encode())
        assert "/api/projects: is refused (400: {'title': '...'})" in told(start(release, refused))


def test_a_personal_access_token_is_changed_for_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with starting(monkeypatch) as start:
        server = start(
            Answer(200, b'{"label-studio-os-package": {}, "release": "2"}'),
            Answer(200, b'{"access": "short"}'),
            Answer(),
        )
        assert LabelServer(f"http://127.0.0.1:{server.server_address[1]}", "a.personal.token").check() == "2"
        assert [path for _, path, _ in server.asked][1] == "/api/token/refresh"
        assert server.asked[2][2]["authorization"] == "Bearer short"


def test_address_and_token_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(label_server.URL, raising=False)
    monkeypatch.delenv(label_server.KEY, raising=False)
    with pytest.raises(LabelServerError, match="LABEL_STUDIO_URL: is not set"):
        LabelServer.of_environment()
    with pytest.raises(LabelServerError, match="LABEL_STUDIO_API_KEY: is not set"):
        LabelServer.of_environment("http://here:1")
    monkeypatch.setenv(label_server.KEY, "two\nlines")
    with pytest.raises(LabelServerError, match="is not a token"):
        LabelServer.of_environment("http://here:1")
    monkeypatch.setenv(label_server.KEY, TOKEN)
    assert LabelServer.of_environment("http://here:1/").url == "http://here:1"
    for url in ("here:1", "ftp://here", "http://me:secret@here"):
        with pytest.raises(LabelServerError, match="is no address of a server") as error:
            LabelServer.of_environment(url)
        assert "secret" not in str(error.value)


def test_a_server_with_a_queue_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    project = label_server.Project(3, "one", "")
    with starting(monkeypatch) as start:
        queued, working = Answer(201, b'{"import": 7}'), Answer(200, b'{"status": "in_progress"}')
        server = start(
            queued, working, Answer(200, b'{"status": "completed"}'), queued, Answer(200, b'{"status": "failed"}')
        )
        asker = LabelServer(f"http://127.0.0.1:{server.server_address[1]}", TOKEN)
        asker.add_tasks(project, [{"data": {}}])
        assert [path for _, path, _ in server.asked[1:]] == ["/api/projects/3/imports/7"] * 2
        with pytest.raises(LabelServerError, match="could not import tasks"):
            asker.add_tasks(project, [{"data": {}}])
