"""Push and pull of tasks: whatever breaks, each image is there once, and labels come back the same."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orchestrator import labeling
from orchestrator.errors import ConfigError, RunError
from orchestrator.labeling import address_of, answers_of, pick_task, project_of, push, write_labels
from orchestrator.picks import Pick
from tasks.data import label_server
from tasks.data.label_config import config_of
from tasks.data.label_server import LabelServer
from tasks.data.objects import S3Path
from tests.data.label_studio import CONFIG, square
from tests.data.label_studio_stub import TOKEN, Fault, StubStudio, stub_studio


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubStudio]:
    monkeypatch.setattr(label_server, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(labeling, "_SETTLE", 0.01)
    with stub_studio() as server:
        yield server


def tasks(count: int) -> list[dict[str, Any]]:
    return [
        pick_task(Pick(f"i{n}", Path(f"{n}.png"), (100, 200), {"rank": n}), f"/d/{n}.png", (), None, "")
        for n in range(count)
    ]


@pytest.mark.parametrize(
    "faults",
    [
        [("/import", "done, then cut")],
        [("/import", "cut"), ("/import", "done, then 502"), ("/import", "busy")],
        [("/import", "done, then cut"), ("/api/tasks", "busy"), ("/api/tasks", "cut"), ("/import", "broken")],
    ],
)
def test_each_task_is_there_once_whatever_breaks(studio: StubStudio, faults: list[tuple[str, Fault]]) -> None:
    server = LabelServer(studio.url, TOKEN)
    project = project_of(server, "", "one", CONFIG)
    studio.faults.extend(faults)
    told: list[tuple[int, int]] = []
    done = push(server, project, tasks(130), lambda *one: told.append(one))
    assert (done.new, done.known, told[-1]) == (130, 0, (130, 130))
    assert [one["data"]["image_id"] for one in studio.tasks] == [f"i{n}" for n in range(130)]
    assert not studio.faults
    again = push(server, project, tasks(140), lambda *_: None)
    assert (again.new, again.known, len(studio.tasks)) == (10, 130, 140)


ODD: tuple[Any, ...] = (None, True, -1, 10**30, "", "a", [], [5], [None], {}, {"a": 1}, {"image_id": [], "key": None})


@pytest.mark.parametrize("key", ["id", "data", "annotations"])
@pytest.mark.parametrize("value", ODD, ids=str)
def test_a_task_of_another_form_is_a_sentence_or_is_passed_over(studio: StubStudio, key: str, value: Any) -> None:
    server = LabelServer(studio.url, TOKEN)
    project = project_of(server, "", "one", CONFIG)
    push(server, project, tasks(3), lambda *_: None)
    studio.tasks[1][key] = value
    with suppress(RunError), labeling.server_faults():  # any other error fails
        answers = answers_of(server, project)
        push(server, project, tasks(4), lambda *_: None)
        assert sum(map(len, (answers.finished, answers.unfinished, answers.skipped, answers.foreign))) == 3


def test_a_server_that_breaks_off_for_ever_is_given_up(studio: StubStudio) -> None:
    server = LabelServer(studio.url, TOKEN)
    project = project_of(server, "", "one", CONFIG)
    studio.faults.extend([("/import", "cut")] * (labeling.TRIES + 1))
    with pytest.raises(RunError, match="breaks off again and again"):
        push(server, project, tasks(3), lambda *_: None)


def test_an_image_that_is_there_twice_is_told(studio: StubStudio) -> None:
    server = LabelServer(studio.url, TOKEN)
    project = project_of(server, "", "one", CONFIG)
    server.add_tasks(project, tasks(1) * 2)
    with pytest.raises(RunError, match="has the image 'i0' in the tasks 1 and 2"):
        push(server, project, tasks(2), lambda *_: None)


def test_the_project_is_found_or_made_once(studio: StubStudio) -> None:
    server = LabelServer(studio.url, TOKEN)
    studio.faults.append(("/api/projects?title", "busy"))
    made = project_of(server, "", "one", CONFIG)
    assert project_of(server, "1", "", CONFIG) == project_of(server, "one", "", "") == made
    studio.faults.append(("/api/projects", "busy"))
    studio.projects.append({"id": 2, "title": "one"})
    with pytest.raises(RunError, match=r"has 2 projects called 'one' \(1, 2\); expected one"):
        project_of(server, "", "one", CONFIG)
    studio.projects[0]["label_config"] = "<View/>"
    assert project_of(server, "1", "", CONFIG).config == CONFIG
    with pytest.raises(RunError, match=r"offers the labels arm, bolt, .*; expected cat, too"):
        project_of(server, "1", "", config_of([{"id": 1, "name": "cat"}]))
    with pytest.raises(RunError, match="nothing says which classes a new one has"):
        project_of(server, "two", "", "")


def test_an_unclear_new_project_is_looked_for(studio: StubStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    server = LabelServer(studio.url, TOKEN)
    plain = studio.fault
    created: list[str] = []

    def fault(path: str) -> Fault | None:
        if path == "/api/projects" and not created:
            created.append(path)
            return "done, then cut"
        return plain(path)

    monkeypatch.setattr(studio, "fault", fault)
    assert project_of(server, "", "one", CONFIG).id == 1
    assert (len(studio.projects), len(created)) == (1, 1)


def test_labels_come_back_the_latest_of_each_and_the_same_bytes(studio: StubStudio, tmp_path: Path) -> None:
    server = LabelServer(studio.url, TOKEN)
    project = project_of(server, "", "one", CONFIG)
    server.add_tasks(project, [*tasks(4), {"data": {"image": "x.png"}}])

    def answer(id: int, x: float, updated: str, **more: Any) -> dict[str, Any]:
        return {
            "id": id,
            "result": [square("s", "bolt", x, 10, 20)],
            "updated_at": updated,
            "was_cancelled": False,
            **more,
        }

    studio.tasks[0]["annotations"] = [answer(1, 30, "2026-02-02"), answer(2, 50, "2026-01-01")]
    studio.tasks[1]["annotations"] = [answer(3, 5, "2026-01-01", was_cancelled=True)]
    studio.tasks[2]["annotations"] = [answer(4, 5, "2026-01-01", was_cancelled=True), answer(5, 70, "2026-01-01")]
    out = tmp_path / "labels.json"
    paths = {f"i{n}": tmp_path / "images" / f"{n}.png" for n in range(4)}

    def pull() -> labeling.Pulled:
        return write_labels(project, answers_of(server, project), out, lambda data: paths[data["image_id"]])

    found = pull()
    assert (found.finished, found.unfinished, found.skipped, found.foreign, found.annotations) == (2, 1, 1, 1, 2)
    assert str(found) == "2 images, 2 annotations; 1 tasks are not finished, 1 were skipped, 1 are not mtal's"
    first = out.read_bytes()
    content = json.loads(first)
    assert [(one["record"], one["file_name"]) for one in content["images"]] == [
        ("i0", "images/0.png"),
        ("i2", "images/2.png"),
    ]
    assert [one["bbox"] for one in content["annotations"]] == [[30, 10, 20, 20], [70, 10, 20, 20]]
    assert {one["source"] for one in content["annotations"]} == {"human"}
    pull()
    assert out.read_bytes() == first
    studio.tasks[0]["annotations"][1]["updated_at"] = "2026-03-03"
    pull()
    assert json.loads(out.read_text())["annotations"][0]["bbox"] == [50, 10, 20, 20]
    studio.tasks[2]["annotations"][1]["result"] = [{"id": "q", "from_name": "poly", "value": 3}]
    with pytest.raises(ValueError, match="region q: has the value '3'"):
        pull()
    assert json.loads(out.read_text())["annotations"][0]["bbox"] == [50, 10, 20, 20]


def test_where_the_server_finds_an_image(tmp_path: Path) -> None:
    assert address_of(S3Path("bucket", "a/b.png"), "", tmp_path) == "s3://bucket/a/b.png"
    assert address_of(tmp_path / "a b&c.png", "/data/local-files/?d=", tmp_path) == "/data/local-files/?d=a%20b%26c.png"
    with pytest.raises(ConfigError, match="is a local file"):
        address_of(tmp_path / "a.png", "", tmp_path)
    with pytest.raises(ConfigError, match="lies outside of"):
        address_of(tmp_path / "a.png", "/d/", tmp_path / "b")


def test_a_task_says_why_it_was_chosen() -> None:
    pick = Pick("a", Path("a.png"), (100, 200), {"rank": 3, "scores": {"value": 0.5}, "strategy": "least"})
    boxes = [{"id": 1, "category_id": 1, "bbox": [20, 10, 40, 20], "score": 0.7}]
    task = pick_task(pick, "/d/a.png", [{"id": 1, "name": "arm"}], boxes, "net")
    assert task["data"]["rank"] == 3
    assert task["data"]["image_id"] == "a"
    assert len(task["data"]["key"]) == 16
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("net", 0.7)
    assert prediction["result"][0]["value"]["rectanglelabels"] == ["arm"]
    assert "predictions" not in pick_task(pick, "/d/a.png", (), None, "")
