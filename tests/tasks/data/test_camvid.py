"""The CamVid adapter reads the real folder structure."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.preparing import prepare
from tasks.data.camvid import Camvid
from tasks.data.manifest import Manifest
from tasks.data.samples import Cache, Samples
from tests.data.camvid import CLASSES, HEIGHT, WIDTH, write_camvid


def test_classes_and_their_relation(tmp_path: Path) -> None:
    adapter = Camvid(str(write_camvid(tmp_path)), size=(12, 16))
    classes = adapter.classes()
    assert classes.detection == ("car", "pedestrian", "bicyclist", "sign_symbol")
    assert classes.segmentation == CLASSES
    assert [classes.segmentation[i] for i in classes.det_to_seg] == list(classes.detection)
    assert adapter.semantic_lut() == (*range(11), *(-1,) * 244, 255)
    assert adapter.size == (12, 16)


def test_records_keep_the_published_split_and_a_scene_stays_in_one(tmp_path: Path) -> None:
    records = list(Camvid(str(write_camvid(tmp_path / "set"))).records(tmp_path))
    assert [r.split for r in records] == ["train"] * 4 + ["val", "test"]
    assert records[4].id == "0016E5_000004"
    assert (records[2].group, records[4].group) == ("0016E5/train", "0016E5/val")
    assert records[1].uri == "set/images/train/0006R0_000001.jpg"
    assert records[1].segmentation == "set/semantic/train/0006R0_000001.png"
    assert records[1].size == (HEIGHT, WIDTH)
    assert records[1].objects is not None
    assert [(o.box, o.label, o.crowd) for o in records[1].objects] == [((5, 12, 13, 18), 0, False)]


def test_faults_of_the_files_are_named(tmp_path: Path) -> None:
    root = write_camvid(tmp_path)
    listed = json.loads((root / "classes.json").read_text())
    listed["classes"][3]["id"] = 300
    (root / "classes.json").write_text(json.dumps(listed))
    with pytest.raises(ValueError, match=r"classes.json: classes\[3\] has id 300; expected 0..254"):
        Camvid(str(root)).semantic_lut()
    content = json.loads((root / "annotations.json").read_text())
    del content["images"][2]["split"]
    (write_camvid(root) / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"annotations.json: images\[2\]: has the keys id, .*; expected 'split' \(str\)"
    ):
        list(Camvid(str(root)).records(tmp_path))
    (root / "annotations.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"annotations.json: no such file"):
        Camvid(str(root)).classes()


def test_the_real_one(shared: Path, tmp_path: Path) -> None:
    adapter = Camvid(str(shared / "data" / "camvid11"))
    records = list(adapter.records(tmp_path))
    assert len(records) == 530
    assert sum(len(r.objects or ()) for r in records) == 5008
    assert all(0 <= o.label < 4 for r in records for o in r.objects or ())
    assert len({r.group for r in records}) == 5


@pytest.mark.slow
def test_every_image_of_the_real_one_is_read(shared: Path, tmp_path: Path) -> None:
    report = prepare(Camvid(str(shared / "data" / "camvid11")), tmp_path)
    assert (report.kept, report.objects, report.clipped, report.counts.total()) == (530, 5008, 0, 0)
    assert report.splits == {"train": 367, "val": 101, "test": 62}
    manifest = Manifest.open(tmp_path)
    samples = Samples(manifest, ("detection", "instances", "segmentation"), cache=Cache(0))
    for row in manifest.rows().tolist():
        maps: Any = samples[row].targets
        assert len(maps["instances"].rles) == len(maps["detection"].labels)
        assert set(maps["segmentation"].unique().tolist()) <= {*range(11), 255}
