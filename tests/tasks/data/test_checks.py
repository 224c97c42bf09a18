"""Each fault of a data set is found, named, and costs no more than it must."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.classes import ClassMap
from tasks.data.checks import IMAGE_KINDS, OBJECT_KINDS, Checked, Together, check_record
from tasks.data.manifest import ObjectRecord, Record
from tasks.geometry import rle_of_mask

CLASSES = ClassMap(("car", "cat"), ("road", "car"), (1, -1), ("left", "right"), ((0, 1),))
LUT = (0, 1, *(-1,) * 253, 255)
GOOD = ObjectRecord((2, 2, 10, 8), 0)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A record without a fault, with its files in ``tmp_path``."""
    noise = np.random.default_rng(0).integers(0, 255, (16, 24, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    Image.fromarray(np.full((16, 24), 255, np.uint8)).save(tmp_path / "s.png")
    np.save(tmp_path / "d.npy", np.zeros((16, 24), np.float32))
    return Record("a", "a.jpg", (16, 24), "train", "scene", (GOOD,), "s.png", "d.npy")


def check(record: Record, folder: Path) -> Checked:
    return check_record(record, folder, CLASSES, LUT)


def test_nothing_is_wrong(record: Record, tmp_path: Path) -> None:
    assert check(record, tmp_path) == Checked(record)
    bare = replace(record, objects=None, segmentation=None, depth=None)
    assert check(bare, tmp_path) == Checked(bare)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("fault", "kind", "file", "words"),
    [
        ("missing image", "missing", "a.jpg", "a.jpg: no such file; expected"),
        ("cut image", "undecodable", "a.jpg", "a.jpg: cannot be decoded"),
        ("wrong size", "size", "a.jpg", "is 16 x 24 px (H x W, as shown); expected 24 x 16"),
        ("missing map", "missing", "s.png", "s.png: no such file"),
        ("cut map", "semantic", "s.png", "s.png: cannot be decoded"),
        ("map of another size", "semantic", "s.png", "is 4 x 4 px (H x W, as shown); expected 16 x 24"),
        ("map of other values", "semantic", "s.png", "holds the values [2, 9], which no class has"),
        ("depth of another size", "depth", "d.npy", "is 16 x 20 px"),
        ("labels that an adapter could not read", "labels", "a.jpg", "boxes.json: is not JSON"),
        ("remote image", "undecodable", "gs://b/a.jpg", "is a gs:// uri; expected a local path or s3://bucket/path"),
    ],
)
def test_faults_that_cost_the_image(
    record: Record, tmp_path: Path, fault: str, kind: str, file: str, words: str
) -> None:
    if fault == "missing image":
        (tmp_path / "a.jpg").unlink()
    elif fault == "cut image":
        truncate(tmp_path / "a.jpg")
    elif fault == "wrong size":
        record = replace(record, size=(24, 16), segmentation=None, depth=None)
    elif fault == "missing map":
        (tmp_path / "s.png").unlink()
    elif fault == "cut map":
        truncate(tmp_path / "s.png")
    elif fault == "map of another size":
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "s.png")
    elif fault == "map of other values":
        Image.fromarray(np.resize(np.array([0, 9, 2, 255], np.uint8), (16, 24))).save(tmp_path / "s.png")
    elif fault == "depth of another size":
        np.save(tmp_path / "d.npy", np.zeros((16, 20), np.float32))
    elif kind == "labels":
        record = replace(record, fault="boxes.json: is not JSON")
    else:
        record = replace(record, uri="gs://b/a.jpg")
    found = check(record, tmp_path)
    assert found.record is None
    assert [(one.kind, one.id, one.file) for one in found.findings] == [(kind, "a", file)]
    assert words in found.findings[0].sentence
    assert kind in IMAGE_KINDS


def test_every_fault_of_an_image_is_listed(record: Record, tmp_path: Path) -> None:
    for name in ("a.jpg", "s.png", "d.npy"):
        (tmp_path / name).unlink()
    assert [one.file for one in check(record, tmp_path).findings] == ["a.jpg", "s.png", "d.npy"]


def test_a_lut_beyond_the_classes_is_found(record: Record, tmp_path: Path) -> None:
    Image.fromarray(np.ones((16, 24), np.uint8)).save(tmp_path / "s.png")
    found = check_record(record, tmp_path, CLASSES, (0, 5, *LUT[2:]))
    assert "holds class 5; expected 0..1 or 255" in found.findings[0].sentence


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"label": -1}, "class", "has a class that the class list does not hold; expected one of 2 classes"),
        ({"label": 2}, "class", "expected one of 2 classes"),
        ({"box": (2, 2, float("nan"), 8)}, "box", "box (2, 2, nan, 8) is not finite"),
        ({"box": (2, 2, float("inf"), 8)}, "box", "is not finite"),
        ({"box": (2, 2, 2, 8)}, "box", "box (2, 2, 2, 8) has no area in the image; expected x1 < x2"),
        ({"box": (8, 2, 2, 8)}, "box", "has no area"),
        ({"box": (-0.5, 2, 0, 8)}, "box", "has no area in the image"),
        ({"box": (2, 2, 25.1, 8)}, "box", "leaves the image of 16 x 24 px (H x W) by more than 1 px"),
        ({"box": (-1.1, 2, 5, 8)}, "box", "leaves the image"),
        ({"rle": rle_of_mask(np.ones((24, 16), np.uint8))}, "mask", "is of 24 x 16 px; expected the image's 16 x 24"),
        ({"rle": {"size": [16, 24], "counts": b"0d0:"}}, "mask", "add up to 30 px; expected the image's 384"),
        ({"rle": {"size": [16, 24], "counts": None}}, "mask", "correct or delete the mask"),
        ({"polygons": ((1, 2, 3, 4),)}, "mask", "has the 4 values"),
        ({"keypoints": (1, 1, 2)}, "keypoints", "expected 2 times x, y, v"),
        ({"keypoints": (1, 1, 3, 0, 0, 0)}, "keypoints", "v of 0, 1, 2"),
    ],
)
def test_faults_that_cost_the_object(
    record: Record, tmp_path: Path, change: dict[str, Any], kind: str, words: str
) -> None:
    bad = replace(GOOD, **change)
    found = check(replace(record, objects=(GOOD, bad, GOOD)), tmp_path)
    assert found.record == replace(record, objects=(GOOD, GOOD))
    assert [(one.kind, one.file) for one in found.findings] == [(kind, "a.jpg")]
    assert found.findings[0].sentence.startswith("object 1: box (")
    assert words in found.findings[0].sentence
    assert kind in OBJECT_KINDS


def test_boxes_a_pixel_outside_are_cut_at_the_border(record: Record, tmp_path: Path) -> None:
    found = check(replace(record, objects=(replace(GOOD, box=(-1.0, -0.5, 25.0, 16.2)), GOOD)), tmp_path)
    assert found.findings == ()
    assert found.clipped == 1
    assert found.record is not None
    assert found.record.objects is not None
    assert [one.box for one in found.record.objects] == [(0, 0, 24, 16), GOOD.box]


def test_faults_across_images(record: Record) -> None:
    together = Together()
    assert together.check(record) == []
    assert together.check(replace(record, id="b")) == []
    assert together.check(replace(record, id="c", group="", split="val")) == []
    assert together.check(replace(record, id="d", group="", split="test")) == []
    (scene,) = together.check(replace(record, id="e", split="val"))
    assert (scene.kind, scene.id) == ("scene", "e")
    assert "is in 'val', and its scene 'scene' began in 'train'; expected a scene in one split" in scene.sentence
    (twice,) = together.check(replace(record, id="b", uri="other.jpg"))
    assert (twice.kind, twice.file) == ("duplicate", "other.jpg")
    assert "has the id 'b', as an image before it; expected one id" in twice.sentence
    (split,) = together.check(replace(record, id="f", split="valid"))
    assert "has the split 'valid'; expected one of train, val, test" in split.sentence


def test_ids_of_one_key_are_found(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.data.checks.key_of", lambda id: 7)
    together = Together()
    together.check(record)
    (found,) = together.check(replace(record, id="b"))
    assert "has the 64-bit key of the id 'a'" in found.sentence
