"""mtal place: its files, its page, its sentences, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pacsv
import pytest
import torch
from PIL import Image

from orchestrator.checkpoints import Card, save_model
from orchestrator.cli import main
from orchestrator.components import Component
from orchestrator.placement_page import MARKER, PAGE, TABLE, Where, place_parts, sentences, summary, table_of
from orchestrator.placing import Rules, Tally, matched, parts_found, parts_labeled
from orchestrator.preparing import prepare
from orchestrator.store import read_table
from tasks.data.engine_parts import EngineParts
from tasks.nets.rcnn import rcnn
from tests.orchestrator.test_placing import CLASSES, SIZE, TRIO, card, detections, labeled, record, triple

SMALL = EngineParts(images=2, validation=1, test=3, size=(64, 96), objects=(2, 3))
TASKS = ("detection", "instances", "keypoints")
MODEL = {"backbone": "small", "width": 8, "anchor": 4.0, "proposals": 20, "samples": 16}


def silent(*told: object) -> None:
    pass


def write_checkpoint(path: Path, tasks: tuple[str, ...] = TASKS) -> Path:
    """A network of fresh weights: it finds much, and nothing well."""
    torch.manual_seed(0)
    network = rcnn(SMALL.classes(), tasks, **MODEL)  # type: ignore[arg-type]
    save_model(path, network, Card(Component("rcnn", MODEL), tasks, SMALL.classes(), SMALL.size, 7))
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    prepare(SMALL, folder / "data")
    write_checkpoint(folder / "model.pt")
    return folder


def test_rows_and_sentences() -> None:
    one = record([labeled(5), labeled(25, up=False)])
    parts = parts_found(detections([triple(5)], [5], [0.9]), SIZE, SIZE, TRIO, Rules(), np.full(SIZE, 0.5))
    placed = matched(one, parts, parts_labeled(one, TRIO, Rules()))
    first, second = table_of([placed], CLASSES).to_pylist()
    assert (first["verdict"], first["truth"], first["outer"], first["side"]) == ("correct", "correct", "arm.b", "left")
    assert (first["axis_deg"], first["outer_deg"]) == (0.0, -90.0)
    assert (first["keypoint_2"], first["x_2"], first["y_2"], first["depth_2"]) == ("arm.b", 30.0, 6.0, 0.5)
    assert (first["offset_2"], first["mask_depth_half_range"], first["point_depth_half_range"]) == (-4.0, 0.0, 0.0)
    assert (second["verdict"], second["truth"], second["score"]) == ("missed", "wrong", None)
    tally = Tally()
    tally.add(placed)
    found = summary(tally, Rules(), Where(Path("m.pt"), Path("d")), card())
    assert found["confusion"]["wrong"] == {"correct": 0, "missed": 1, "wrong": 0}
    assert sentences(found) == [
        "1 parts in 1 images: 1 correct",
        "accuracy: 50.0 % (1 of 2 labeled parts, of which 1 lie wrong; 1 missed and 0 without a verdict count as "
        "errors; 0 found where no part is labeled)",
        "depth of 1 parts, half of what lies between nearest and farthest: 0.0 mm under the mask, 0.0 mm over the "
        "keypoints",
    ]


@pytest.mark.slow
def test_all_files_are_written(site: Path, tmp_path: Path) -> None:
    """By a network that knows nothing: every labeled part is in the table, once."""
    out = tmp_path / "placed"
    where = Where(site / "model.pt", site / "data", pictures=2)
    found = place_parts(where, Rules(score=0.3), out, silent)
    assert sorted(p.name for p in out.iterdir()) == [PAGE, "pictures", MARKER, "placements.csv", TABLE]
    assert len(list((out / "pictures").iterdir())) == 2
    assert json.loads((out / MARKER).read_text()) == found
    assert found["images"] == 3
    assert (found["step"], found["labeled"] > 2) == (7, True)
    table = read_table(out / TABLE)
    truths = [one for one in table["truth"].to_pylist() if one in ("correct", "wrong")]
    assert len(truths) == found["labeled"]
    assert pacsv.read_csv(out / "placements.csv").num_rows == table.num_rows
    page = (out / PAGE).read_text()
    assert "data:image/png;base64," in page
    assert "What was said, and what is true" in page
    assert not list(tmp_path.glob(".placed*"))


@pytest.mark.slow
def test_a_folder_of_images_has_no_accuracy(site: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (120, 80), (90, 90, 90)).save(tmp_path / "photos" / "a.jpg")
    found = place_parts(Where(site / "model.pt", tmp_path / "photos"), Rules(score=0.99), tmp_path / "out", silent)
    assert (found["images"], found["labeled"], found["accuracy"]) == (1, 0, None)
    assert sentences(found) == ["0 parts in 1 images: none"]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["place", *words])
    return int(end.value.code or 0)


def test_bad_input_is_one_sentence(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = str(site / "model.pt"), str(site / "data")
    write_checkpoint(tmp_path / "boxes.pt", ("detection",))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    out = str(tmp_path / "out")
    cases: list[tuple[list[str], str]] = [
        ([str(tmp_path / "no.pt"), "--data", data], "no.pt: no such checkpoint"),
        ([str(tmp_path / "boxes.pt"), "--data", data], "has no task instances"),
        ([model, "--data", str(tmp_path / "nothing")], "nothing: no such folder; expected a folder of images"),
        ([model, "--data", data, "--split", "tset"], "--split tset: no such split; expected one of train, val, test"),
        ([model, "--data", data, "--reference", "nan"], "--reference nan: expected degrees"),
        (
            [model, "--data", data, "--depth", str(tmp_path / "gone")],
            "gone: no such folder; expected one of depth maps",
        ),
        ([model, "--data", data, "--out", str(tmp_path / "full")], "is there already, and not empty"),
    ]
    for words, sentence in cases:
        assert run(*words, *([] if "--out" in words else ["--out", out])) == 2, words
        told: Any = " ".join(capsys.readouterr().err.split())
        assert sentence in told
        assert told.startswith("error: ")
    assert not Path(out).exists()
    assert (tmp_path / "full" / "x").read_text() == "mine"
