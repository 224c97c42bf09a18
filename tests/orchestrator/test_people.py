"""People in the loop: a run waits for them, what they labeled is what it learns, and everything may be typed twice."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.store import read_json, read_table
from tasks.data import label_server
from tasks.data.manifest import Manifest, write_manifest
from tests.data.label_studio_stub import TOKEN, StubStudio, stub_studio
from tests.tiny import write_tiny

Typed = Callable[..., tuple[int, str]]
RUN = "runs/tiny"
PUSH = ("label", "push", RUN, "--prefix", "/d/", "--min-score", "0")
PULL = ("label", "pull", RUN, "--out", "labels.json")


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubStudio]:
    with stub_studio() as server:
        monkeypatch.setenv(label_server.URL, server.url)
        monkeypatch.setenv(label_server.KEY, TOKEN)
        yield server


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types a command; its exit code and what it printed, which never holds the token."""
    monkeypatch.chdir(tmp_path)

    def type_(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main(words)
        printed = "".join(capsys.readouterr())
        assert TOKEN not in printed
        return int(end.value.code or 0), printed

    return type_


def label(task: dict[str, Any], *, skipped: bool = False) -> None:
    """One box of a car, 20 x 10 px, whatever is in the image; or nothing."""
    data = task["data"]
    size = {"original_width": data["width"], "original_height": data["height"], "image_rotation": 0}
    percent = {"x": 50.0, "y": 25.0, "width": 2000 / data["width"], "height": 1000 / data["height"], "rotation": 0}
    value = {**percent, "rectanglelabels": ["car"]}
    box = {"id": "b", "type": "rectanglelabels", "from_name": "box", "to_name": "image", "value": value, **size}
    number = len(task.setdefault("annotations", []))
    answer = {"id": number, "result": [box], "was_cancelled": skipped, "updated_at": f"2026-01-0{number + 1}"}
    task["annotations"].append(answer)


@pytest.mark.slow
def test_a_run_waits_for_people_and_goes_on_with_their_labels(studio: StubStudio, typed: Typed, tmp_path: Path) -> None:
    arms = {"random": {"strategy": "random"}}
    active = {"initial": 0.4, "budget": {"amount": 2}, "cycles": 2, "oracle": "label_studio"}
    write_tiny(tmp_path / "tiny.yaml", "runs", arms=arms, active=active)
    run = ("run", "tiny.yaml", "--address", "none")
    code, told = typed(*run)
    assert code == 3
    assert "random, seed 0: 2 images of cycle 0 wait for labels: type mtal label push" in told
    assert typed(*run)[0] == 3  # it does not choose anew
    assert "is not set" not in typed(*PUSH)[1]
    assert "0 new tasks; 2 were there already" in typed(*PUSH)[1]
    assert [one["data"]["rank"] for one in studio.tasks] == [1, 2]
    assert {one["data"]["cycle"] for one in studio.tasks} == {0}
    assert all(one["predictions"] for one in studio.tasks)
    label(studio.tasks[0])
    code, told = typed(*PULL)
    assert (code, "1 of 2 images are not labeled yet" in told) == (0, True)
    assert typed(*run)[0] == 3
    label(studio.tasks[1], skipped=True)
    assert "1 of 2 images are bought; type the same mtal run again" in typed(*PULL)[1]
    folder = tmp_path / RUN / "random" / "seed_0"
    assert read_table(folder / "cycle_0" / "bought.parquet")["id"].to_pylist() == [studio.tasks[0]["data"]["image_id"]]
    before = (tmp_path / "labels.json").read_bytes()
    assert "bought" not in typed(*PULL)[1]
    assert (tmp_path / "labels.json").read_bytes() == before

    code, told = typed(*run)
    assert (code, "images of cycle 1 wait" in told) == (3, True)
    assert read_json(folder / "cycle_1" / "cycle.json")["labeled"] == {"detection": 7, "segmentation": 7}
    typed(*PUSH)
    assert len({one["data"]["image_id"] for one in studio.tasks}) == len(studio.tasks) <= 4
    assert "0 of 2 images are bought" in typed(*PULL, "--partial")[1] or len(studio.tasks) == 3
    assert typed(*run)[0] == 0
    assert typed("export", "coco", RUN, "--arm", "random", "--out", "bought.json")[0] == 0
    content = json.loads((tmp_path / "bought.json").read_text())
    image = next(one for one in content["images"] if one["record"] == studio.tasks[0]["data"]["image_id"])
    (box,) = [one for one in content["annotations"] if one["image_id"] == image["id"]]
    assert box["bbox"][2:] == pytest.approx([20, 10], abs=1e-3)
    data = next((tmp_path / "runs" / "data").glob("*/manifest.parquet"))
    given = Manifest(data, [folder / "cycle_0" / "labels.parquet"])
    row = given.ids(given.rows()).index(image["record"])
    assert len(given.record(row).objects or ()) == 1
    assert given.record(row).segmentation == Manifest.open(data).record(row).segmentation


@pytest.mark.slow
def test_of_a_pool_that_is_hardly_labeled_people_label_more(studio: StubStudio, typed: Typed, tmp_path: Path) -> None:
    """It starts with the five labels there are; the data set itself has none to sell."""
    active = {"initial": 0.4, "budget": {"amount": 2}, "cycles": 1}
    arms = {"random": {"strategy": "random"}}
    write_tiny(tmp_path / "tiny.yaml", "runs", arms=arms, active=active, tasks={"detection": {}})
    run = ("run", "tiny.yaml", "--address", "none")
    typed("prepare", "tiny.yaml")
    labeled = keep_labels(next((tmp_path / "runs" / "data").glob("*/manifest.parquet")), 5)
    code, told = typed(*run)
    assert code == 2
    assert "11 of the pool's 16 images have no detection label, and the data set is to reveal it" in told
    people = ("--set", "active.initial=labeled", "--set", "active.oracle=label_studio")
    assert "each arm starts with 5, buys" in typed(*run, *people, "--dry-run")[1]
    assert typed(*run, *people)[0] == 3
    chosen = read_table(tmp_path / RUN / "random" / "seed_0" / "cycle_0" / "chosen.parquet")["id"].to_pylist()
    assert len(chosen) == 2
    assert not set(chosen) & labeled
    typed(*PUSH)
    for task in studio.tasks:
        label(task)
    typed(*PULL)
    assert typed(*run, *people)[0] == 0
    cycle = read_json(tmp_path / RUN / "random" / "seed_0" / "cycle_1" / "cycle.json")
    assert cycle["labeled"] == {"detection": 7}


def keep_labels(path: Path, count: int) -> set[str]:
    """Leave the objects of so many images of the pool in a manifest; their ids."""
    manifest = Manifest.open(path)
    records = manifest.records(manifest.rows())
    kept = {one.id for one in [r for r in records if r.split == "train"][:count]}
    rows = [r if r.split != "train" or r.id in kept else replace(r, objects=None) for r in records]
    write_manifest(path, rows, manifest.classes, manifest.lut, manifest.size)
    return kept


def test_what_cannot_be_pushed(studio: StubStudio, typed: Typed, tiny_run: Path, tmp_path: Path) -> None:
    run = str(tiny_run / RUN)
    code, told = typed("label", "push", "nothing")
    assert (code, "is neither a run folder nor a .parquet file" in told) == (2, True)
    assert "has several arms; expected one of random, boxmask" in typed("label", "push", run)[1]
    assert "has no seed 7" in typed("label", "push", run, "--arm", "random", "--seed", "7")[1]
    assert "has chosen nothing in cycle 9" in typed("label", "push", run, "--arm", "random", "--cycle", "9")[1]
    assert "is a local file, which the server cannot reach" in typed("label", "push", run, "--arm", "random")[1]
    outside = ("--arm", "random", "--prefix", "/d/", "--root", str(tmp_path))
    assert "lies outside of" in typed("label", "push", run, *outside)[1]
    studio.projects.append(
        {
            "id": 1,
            "title": "mine",
            "label_config": '<View><PolygonLabels name="p"><Label value="cat"/></PolygonLabels></View>',
        }
    )
    told = typed("label", "push", run, "--arm", "random", "--prefix", "/d/", "--project", "mine")[1]
    assert "offers the labels cat; expected car" in told
    assert studio.tasks == []
