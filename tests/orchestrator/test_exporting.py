"""Labels as files: what a manifest and a run hold, and no more; what cannot be written is told in one sentence."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.errors import ConfigError, MtalError, RunError
from orchestrator.exporting import Wanted, bought, export_coco, export_tasks, run_manifest
from orchestrator.pool import HUMAN
from orchestrator.preparing import prepare
from orchestrator.store import RunFolder
from tasks.data.coco import Coco
from tasks.data.engine_parts import EngineParts
from tasks.data.label_studio import LabelStudio
from tasks.data.manifest import Manifest
from tasks.data.streets import Streets
from tests.data.coco import write_coco
from tests.data.label_studio import write_label_studio


def export(source: Path, out: Path, **wanted: Any) -> dict[str, Any]:
    """The combined COCO file that is written."""
    told: list[tuple[Any, ...]] = []
    counts = export_coco(str(source), str(out), Wanted(**wanted), lambda *one: told.append(one))
    content: dict[str, Any] = json.loads(out.read_text())
    assert counts == {name: len(content[name]) for name in ("images", "annotations")}
    assert len(told) == len(content["images"])
    return content


def same_records(first: Manifest, second: Manifest) -> None:
    """The same images with the same labels, whatever their ids are."""
    pairs = [{one.uri: one for one in each.records(each.rows())} for each in (first, second)]
    base = first.base
    named = {str((base / uri).resolve()): one for uri, one in pairs[0].items()}
    again = {str((second.base / uri).resolve()): one for uri, one in pairs[1].items()}
    assert named.keys() == again.keys()
    for path, one in named.items():
        other = again[path]
        assert (one.size, one.split, one.group, one.objects) == (other.size, other.split, other.group, other.objects)
        assert (one.segmentation is None) == (other.segmentation is None)


def test_masks_keypoints_and_crowds_come_back(tmp_path: Path) -> None:
    """COCO, a manifest, a combined file, a manifest again: every object is the same."""
    adapter = Coco(str(write_coco(tmp_path / "set")), "annotations/instances_{split}2017.json", "{split}2017")
    prepare(adapter, tmp_path / "first")
    content = export(tmp_path / "first", tmp_path / "labels.json")
    person, car, _ = content["categories"]
    assert person["keypoints"] == ["nose", "left_eye", "right_eye"]
    assert person["flip_pairs"] == [[1, 2]]
    assert person["skeleton"] == [[1, 2], [1, 3]]
    assert "keypoints" not in car  # only people have them
    one = next(a for a in content["annotations"] if a["category_id"] == 1)
    assert (one["bbox"], one["area"], one["num_keypoints"]) == ([2, 3, 6, 10], 60, 2)
    assert Counter(one["iscrowd"] for one in content["annotations"]) == {0: 12, 1: 6}
    prepare(Coco(str(tmp_path), "labels.json"), tmp_path / "second")
    same_records(Manifest.open(tmp_path / "first"), Manifest.open(tmp_path / "second"))


def test_maps_come_back(tmp_path: Path) -> None:
    """The values of semantic maps keep their classes: the file is its own class list."""
    prepare(Streets(images=4, validation=2, test=2, size=(64, 96)), tmp_path / "first")
    content = export(tmp_path / "first", tmp_path / "labels.json", splits=("train", "test"))
    assert {one["split"] for one in content["images"]} == {"train", "test"}
    whole = export(tmp_path / "first", tmp_path / "labels.json")
    assert all(one["has"]["segmentation"] for one in whole["images"])
    adapter = Coco(str(tmp_path), "labels.json", class_list="labels.json", group="group")
    prepare(adapter, tmp_path / "second")
    first, second = Manifest.open(tmp_path / "first"), Manifest.open(tmp_path / "second")
    assert second.lut[:254] == first.lut[:254]
    assert second.classes == first.classes
    same_records(first, second)


def test_numbers_are_short_and_exact(tmp_path: Path) -> None:
    """As float32 keeps them: 143.44 and not 143.44000244140625; and x + width is the same float32 again."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 2000, (200, 2, 2)).round(2), axis=1).reshape(-1, 4)
    boxes = [[x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)] for x1, y1, x2, y2 in corners.tolist()]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 2000, "width": 2000}],
        "annotations": [{"id": i, "image_id": 1, "category_id": 1, "bbox": box} for i, box in enumerate(boxes)],
        "categories": [{"id": 1, "name": "x"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    Image.new("L", (2000, 2000)).save(tmp_path / "a.png")
    prepare(Coco(str(tmp_path)), tmp_path / "first")
    found = [one["bbox"] for one in export(tmp_path / "first", tmp_path / "labels.json")["annotations"]]
    assert np.abs(np.array(found) - boxes).max() <= 2e-4  # ulp of float32 at 2000
    assert [one[:2] for one in found] == [one[:2] for one in boxes]
    prepare(Coco(str(tmp_path), "labels.json"), tmp_path / "second")
    first, second = (Manifest.open(tmp_path / name).records(np.array([0]))[0].objects for name in ("first", "second"))
    assert first == second


def test_what_a_run_has_bought(tiny_run: Path, tmp_path: Path) -> None:
    """Of an arm: the images of its ledger, whose labels people gave; of the run: all of its data."""
    run = tiny_run / "runs" / "tiny"
    manifest = run_manifest(RunFolder(run))
    everything = export(run, tmp_path / "all.json")
    assert len(everything["images"]) == len(manifest)
    content = export(run, tmp_path / "arm.json", arm="boxmask")
    pool = bought(RunFolder(run), "boxmask", 0)
    assert len(content["images"]) == pool.labeled.sum() == 6 + 2 * 2
    ids = manifest.ids(manifest.rows_of(pool.keys[(pool.source == HUMAN).any(1)]))
    assert sorted(one["record"] for one in content["images"]) == sorted(ids)
    assert {one["source"] for one in content["annotations"]} == {"human"}
    with_val = export(run, tmp_path / "arm.json", arm="boxmask", splits=("train", "val"))
    assert len(with_val["images"]) == len(content["images"]) + len(manifest.rows("val"))
    with pytest.raises(RunError, match="has no arm 'nothing' under seed 0"):
        export(run, tmp_path / "arm.json", arm="nothing")


def test_tasks_and_their_configuration(tmp_path: Path) -> None:
    root = write_label_studio(tmp_path / "set")
    prepare(LabelStudio(str(root), images="images"), tmp_path / "data")
    count, config = export_tasks(
        str(tmp_path / "data"), str(tmp_path / "tasks.json"), Wanted(), lambda *told: None, "/d/"
    )
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert (count, len(tasks), config) == (4, 4, tmp_path / "tasks.xml")
    assert sorted(one["data"]["image"] for one in tasks) == [
        f"/d/set/images/{n}.png" for n in ("four", "one", "three", "two")
    ]
    assert sorted(len(one.get("predictions", [])) for one in tasks) == [0, 1, 1, 1]
    assert "crowd" not in config.read_text()
    direct = export(root / "export.json", tmp_path / "direct.json")
    assert direct["images"][0]["file_name"] == "set/images/one.png"
    assert export_tasks(str(tmp_path / "direct.json"), str(tmp_path / "t.json"), Wanted(), lambda *told: None)[0] == 4


@pytest.mark.slow
def test_engine_parts_come_back_from_label_studio(tmp_path: Path) -> None:
    """Polygons of one and of several parts, brushes, boxes, keypoints, splits, scenes and depth: all the same."""
    prepare(EngineParts(images=4, validation=1, test=1, size=(72, 96), objects=(5, 6)), tmp_path / "first")
    export_tasks(str(tmp_path / "first"), str(tmp_path / "first/export.json"), Wanted(), lambda *told: None, "", True)
    adapter = LabelStudio(str(tmp_path / "first"), "export.json", "export.xml", images="images", group="group")
    prepare(adapter, tmp_path / "second")
    content = export(tmp_path / "first" / "export.json", tmp_path / "first" / "combined.json")
    prepare(Coco(str(tmp_path / "first"), "combined.json", group="group"), tmp_path / "third")
    first, *others = (Manifest.open(tmp_path / name) for name in ("first", "second", "third"))
    forms = {(one.rle is None, len(one.polygons) > 1) for r in first.records(first.rows()) for one in r.objects or ()}
    assert {(True, False), (False, False)} <= forms
    assert all(one["depth_file"].startswith("depth/") and one["has"]["depth"] for one in content["images"])
    for other in others:
        assert other.classes == first.classes
        same_records(first, other)
        depths = [{(m.base / str(one.depth)).resolve() for one in m.records(m.rows())} for m in (first, other)]
        assert depths[0] == depths[1]


@pytest.mark.parametrize(
    ("source", "out", "wanted", "words"),
    [
        ("nothing", "x.json", {}, r"nothing: is neither a manifest, .*; expected one of them"),
        ("data", "data", {}, "--out data: is a folder"),
        ("set/export.json", "set/export.json", {}, "is what is read; expected another file"),
        ("data", "x.json", {"splits": ("tset",)}, "has no split 'tset'; expected one of train, val, test"),
        ("data", "x.json", {"arm": "random"}, "data: is no run folder; expected one, as --arm random"),
        ("set/export.json", "x.json", {"splits": ("val",)}, "is no manifest; expected one, as --splits"),
        ("set/broken.json", "x.json", {}, "broken.json: is not JSON at byte 1"),
        ("set/label_config.xml", "x.json", {}, "is neither a manifest"),
        ("data", "ftp://x/y.json", {}, "is a ftp:// uri; expected a local path or s3"),
    ],
)
def test_what_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, out: str, wanted: dict[str, Any], words: str
) -> None:
    root = write_label_studio(tmp_path / "set")
    (root / "broken.json").write_text("{oh")
    prepare(LabelStudio(str(root), images="images"), tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ConfigError, match=words):
        export_coco(source, out, Wanted(**wanted), lambda *told: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_run_whose_data_are_gone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "experiment.yaml").write_text("name: run")
    with pytest.raises(MtalError, match=r"has no reference\.json yet"):
        export(tmp_path / "run", tmp_path / "x.json")
    (tmp_path / "run" / "reference.json").write_text(json.dumps({"inputs": {"data": {"manifest": "0"}}}))
    with pytest.raises(MtalError, match=r"its data are not in .* any more"):
        export(tmp_path / "run", tmp_path / "x.json")
