"""A real Label Studio, both ways: push, label as a person would, pull, train; killed on the way, nothing is twice."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from orchestrator.checkpoints import Card, build, save_model
from orchestrator.cli import main
from orchestrator.components import Component
from orchestrator.config import Train
from orchestrator.labeling import push
from orchestrator.people import Choice, Drawn, There, send
from orchestrator.preparing import prepare
from orchestrator.worker import Worker
from orchestrator.workers import FitJob, Setup
from tasks.classes import ClassMap
from tasks.data import label_server
from tasks.data.coco import Coco
from tasks.data.label_server import LabelServer
from tasks.data.manifest import NAME, Manifest, ObjectRecord, Record, write_manifest
from tests.data.label_studio import HEIGHT, WIDTH, keypoint, rectangle, square
from tests.label_studio.server import TOKEN, LabelStudioServer

pytestmark = [pytest.mark.label_studio, pytest.mark.long, pytest.mark.timeout(1200)]
CLASSES = ClassMap(("arm", "bolt"), (), (-1, -1), ("arm.left", "arm.right"), ())
Typed = Callable[..., str]


@pytest.fixture
def typed(server: LabelStudioServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    """Types a command that knows the server; what it printed. The token is in none of it."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)

    def type_(*words: object, code: int = 0) -> str:
        with pytest.raises(SystemExit) as end:
            main([str(one) for one in words])
        printed = "".join(capfd.readouterr())
        assert int(end.value.code or 0) == code, printed
        assert TOKEN not in printed
        return printed

    return type_


def pool(folder: Path, count: int) -> Path:
    """A prepared pool of small images, and a list that puts them in an order of its own; the list."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(folder / "images" / f"{i:04d}.jpg")
    arm = ObjectRecord((10, 10, 40, 40), 0, keypoints=(12, 12, 2, 30, 30, 2))
    records = [
        Record(f"{i:04d}", f"images/{i:04d}.jpg", (HEIGHT, WIDTH), "train", objects=(arm,)) for i in range(count)
    ]
    write_manifest(folder / NAME, records, CLASSES, [255] * 256, (64, 128))
    manifest = Manifest.open(folder)
    ids = manifest.ids(manifest.rows())
    ranks = (rng.permutation(count) + 1).tolist()
    columns = {"id": ids, "key": pa.array(manifest.keys(), pa.uint64()), "least.rank": ranks}
    values = [1 - rank / count for rank in ranks]
    pq.write_table(pa.table({**columns, "least.value": values, "least.parts.doubt": values}), folder / "list.parquet")
    return folder / "list.parquet"


def asked(method: str, path: str, body: Any = None) -> Any:
    """What a person's browser asks of the server."""
    headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(os.environ["LABEL_STUDIO_URL"] + path, data, headers, method=method), timeout=120) as answer:
        return json.loads(answer.read() or "null")


def tasks_of(title: str) -> list[dict[str, Any]]:
    asker = LabelServer.of_environment()
    (project,) = asker.projects(title)
    return asker.tasks(project)


def labeled_as_a_person(task: int, shift: float = 0) -> dict[str, Any]:
    """An arm as a box, a polygon and two keypoints that belong together, and a bolt."""
    regions = [
        rectangle("box", "arm", (10 + shift, 10, 40, 30)),
        square("part", "arm", 10 + shift, 10, 30, parentID="box"),
        keypoint("left", "arm.left", 12 + shift, 12, parentID="box"),
        keypoint("right", "arm.right", 35 + shift, 35, "kp_hidden", parentID="box"),
        square("bolt", "bolt", 120, 40, 12),
    ]
    kinds = {"box": "rectanglelabels", "poly": "polygonlabels", "kp": "keypointlabels", "kp_hidden": "keypointlabels"}
    results = [{**one, "type": kinds[one["from_name"]]} for one in regions]
    answer: dict[str, Any] = asked("POST", f"/api/tasks/{task}/annotations", {"result": results})
    return answer


def test_fifty_picks_go_there_are_labeled_come_back_and_are_trained_on(
    server: LabelStudioServer, typed: Typed, tmp_path: Path
) -> None:
    scores = pool(tmp_path / "fifty", 60)
    model = tmp_path / "first" / "model.pt"
    save_model(model, build(Component("small", {"width": 16}), CLASSES, ("detection",)),
               Card(Component("small", {"width": 16}), ("detection",), CLASSES, (64, 128), 0))  # fmt: skip
    words = ["label", "push", scores, "--data", scores.parent, "--checkpoint", model, "--min-score", "0"]
    words += ["--top", 50, "--prefix", "/data/local-files/?d=", "--root", scores.parent]
    assert "50 new tasks" in typed(*words)
    tasks = tasks_of("fifty least")
    assert [one["data"]["rank"] for one in tasks] == list(range(1, 51))
    first = asked("GET", f"/api/tasks/{tasks[0]['id']}")
    assert len(first["predictions"]) == 1
    assert {one["type"] for one in first["predictions"][0]["result"]} == {"rectanglelabels"}
    data = first["data"]
    assert (data["strategy"], data["scores"]["value"], data["image_id"]) == ("least", data["score"], data["record"])
    assert "0 new tasks; 50 were there already" in typed(*words)
    assert len(tasks_of("fifty least")) == 50

    for one in tasks[:48]:
        labeled_as_a_person(one["id"])
    changed = labeled_as_a_person(tasks[0]["id"], shift=5)
    later = labeled_as_a_person(tasks[1]["id"], shift=9)
    asked("PATCH", f"/api/annotations/{changed['id']}", {"result": later["result"]})  # a person corrects it
    asked("POST", f"/api/tasks/{tasks[48]['id']}/annotations", {"result": [], "was_cancelled": True})

    out = tmp_path / "labels.json"
    back = ["label", "pull", scores, "--data", scores.parent, "--out", out]
    assert "48 images, 96 annotations; 1 tasks are not finished, 1 were skipped" in typed(*back)
    before = out.read_bytes()
    typed(*back)
    assert out.read_bytes() == before
    content = json.loads(before)
    by_task = {one["ls_task_id"]: one for one in content["images"]}
    arms = {one["image_id"]: one for one in content["annotations"] if one["category_id"] == 1}
    for number, shift in ((0, 9), (1, 9), (2, 0)):
        arm = arms[by_task[str(tasks[number]["id"])]["id"]]
        assert arm["bbox"] == pytest.approx([10 + shift, 10, 30, 30])
        assert arm["keypoints"] == pytest.approx([12 + shift, 12, 2, 35 + shift, 35, 1])
        assert (arm["source"], len(arm["segmentation"])) == ("human", 1)

    prepare(Coco(str(tmp_path), "labels.json", size=(64, 128)), tmp_path / "prepared")
    setup = Setup(
        manifest=str(tmp_path / "prepared"), tasks={"detection": {}}, model=Component("small", {"width": 16}),
        weighting=Component("equal"), batch=4, shard=64, threads=1, cache=0, gpu=False, code="",
    )  # fmt: skip
    rows = np.arange(48)
    fit = FitJob(str(tmp_path / "fit"), Train(steps=1, batch=4), rows, np.ones((48, 1), bool), 1, 0, 0)
    assert Worker(setup).fit(fit).skipped == 0


def test_a_push_of_five_hundred_through_two_kills(
    server: LabelStudioServer, typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = pool(tmp_path / "many", 500)
    words = ["label", "push", scores, "--data", scores.parent, "--prefix", "/d/"]
    kill_once = [150, 350]

    def killing(*arguments: Any) -> Any:
        """The push, in whose middle the server dies with a request in its hands."""
        *given, told = arguments

        def seen(done: int, total: int) -> None:
            if kill_once and done >= kill_once[0]:
                del kill_once[0]
                Thread(target=die).start()
            told(done, total)

        return push(*given, seen)  # type: ignore[arg-type]

    def die() -> None:
        time.sleep(0.15)
        server.kill()
        if not kill_once:  # the second time it comes back by itself, and the push waits for it
            server.start()

    monkeypatch.setattr("orchestrator.people.push", killing)
    monkeypatch.setattr(label_server, "PATIENCE", 2.0)
    told = typed(*words, code=2)
    assert f"error: {os.environ['LABEL_STUDIO_URL']}: no answer for" in told
    server.start()
    between = len(tasks_of("many least"))
    assert 100 <= between < 500
    monkeypatch.setattr(label_server, "PATIENCE", 300.0)
    assert "new tasks" in typed(*words)
    assert kill_once == []
    tasks = tasks_of("many least")
    assert len(tasks) == 500
    assert set(Counter(one["data"]["image_id"] for one in tasks).values()) == {1}
    assert [one["data"]["rank"] for one in tasks] == list(range(1, 501))


def test_a_personal_access_token_is_understood(server: LabelStudioServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other kind of token, which new servers give: it is changed for a short-lived one."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(label_server.KEY, asked("POST", "/api/token/")["token"])
    assert LabelServer.of_environment().check() == "1.23.2"


def test_projects_that_are_not_there(server: LabelStudioServer, typed: Typed, tmp_path: Path) -> None:
    scores = pool(tmp_path / "few", 3)
    words = ["label", "pull", scores, "--data", scores.parent, "--out", tmp_path / "labels.json", "--project"]
    assert "has no project 9999; expected one that this token may see" in typed(*words, 9999, code=2)
    assert "has no project called 'nothing'" in typed(*words, "nothing", code=2)
    assert not (tmp_path / "labels.json").exists()
    done, _ = send(Choice(str(scores), data=str(scores.parent)), 2, There(prefix="/d/"), Drawn(), lambda *_: None)
    assert (done.new, done.known) == (2, 0)
