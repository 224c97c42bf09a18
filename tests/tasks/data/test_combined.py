"""The combined COCO file: nothing of it is lost, pycocotools reads it unchanged, and what is wrong is told."""

import json
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from tasks.data.coco import Coco
from tasks.data.combined import CombinedFile, KeypointSlots, flip_pairs, writing_combined
from tasks.geometry import mask_of_rle, rle_of
from tests.tasks.data.changed import put

SQUARE = np.zeros((20, 30), np.uint8)
SQUARE[4:9, 3:11] = 1


def content() -> dict[str, Any]:
    """Two images; masks of every form, two lists of keypoints, and keys that nobody knows."""
    compressed = coco_mask.encode(np.asfortranarray(SQUARE))["counts"].decode()
    base = {"iscrowd": 0, "area": 1.0}
    return {
        "images": [
            {"id": 7, "file_name": "b.png", "height": 20, "width": 30, "weather": {"rain": True}},
            {"id": "x1", "file_name": "a.png", "height": 20, "width": 30, "has": {"detection": True}},
        ],
        "annotations": [
            {**base, "id": 3, "image_id": 7, "category_id": 5, "bbox": [1.5, 2, 6, 10], "mood": "good",
             "segmentation": [[1.5, 2, 7.5, 2, 7.5, 12], [20, 2, 25, 2, 25, 7, 20, 7]],
             "keypoints": [5, 4.25, 2, 6, 4, 1, 0, 0, 0], "num_keypoints": 2},
            {**base, "id": 9, "image_id": "x1", "category_id": 2, "bbox": [3, 4, 8, 5],
             "segmentation": {"size": [20, 30], "counts": compressed}, "keypoints": [4, 5, 2], "num_keypoints": 1},
            {**base, "id": 1, "image_id": 7, "category_id": 2, "bbox": [3, 4, 8, 5], "iscrowd": 1,
             "segmentation": {"size": [20, 30], "counts": [64, *[5, 15] * 7, 5, 391]}},
        ],
        "categories": [
            {"id": 5, "name": "person", "keypoints": ["nose", "left_eye", "right_eye"], "skeleton": [[1, 2]]},
            {"id": 2, "name": "bolt", "keypoints": ["head"], "flip_pairs": []},
        ],
        "info": {"year": 2024},
        "mine": [1, 2],
    }  # fmt: skip


def written(path: Path, value: dict[str, Any]) -> Path:
    path.write_text(json.dumps(value))
    return path


def copy(source: Path, out: Path) -> Path:
    """Read and write, an image at a time."""
    file = CombinedFile(source)
    with writing_combined(out) as writer:
        writer.head = file.head
        for image, annotations in file:
            writer.add(image, annotations)
    return out


def test_there_and_back(tmp_path: Path) -> None:
    """Images in their order, annotations in theirs below each image, every key kept."""
    before = content()
    after = json.loads(copy(written(tmp_path / "a.json", before), tmp_path / "b.json").read_text())
    assert [one["id"] for one in after["annotations"]] == [3, 1, 9]
    assert {key: after[key] for key in before if key != "annotations"} == {
        k: before[k] for k in before if k != "annotations"
    }
    assert sorted(after["annotations"], key=lambda one: one["id"]) == sorted(
        before["annotations"], key=lambda one: one["id"]
    )
    again = copy(tmp_path / "b.json", tmp_path / "c.json")
    assert again.read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("name", ["coco_keypoints101/annotations_val.json", "coco_panoptic70/annotations.json"])
def test_real_files_there_and_back(shared: Path, tmp_path: Path, name: str) -> None:
    source = shared / "data" / name
    file = CombinedFile(source)
    with writing_combined(tmp_path / "b.json") as writer:
        writer.head = file.head
        for key, entry in file.entries():
            writer.add_entry(key, entry)
    before = json.loads(source.read_text())
    after = json.loads((tmp_path / "b.json").read_text())
    assert after == before
    assert [one["id"] for one in after["annotations"]] == [one["id"] for one in before["annotations"]]
    assert sum(len(annotations) for _, annotations in file) == file.annotations == len(before["annotations"])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_pycocotools_reads_it_unchanged(tmp_path: Path) -> None:
    value = content()
    value["images"][1]["id"] = value["annotations"][1]["image_id"] = 8
    path = copy(written(tmp_path / "a.json", value), tmp_path / "b.json")
    with redirect_stdout(StringIO()):
        coco = COCO(path)
        results = [{**one, "score": 0.5} for one in coco.dataset["annotations"] if not one["iscrowd"]]
        boxes = coco.loadRes([{k: one[k] for k in ("image_id", "category_id", "bbox", "score")} for one in results])
    assert [len(coco.getAnnIds(imgIds=[id])) for id in (7, 8)] == [2, 1]
    for one in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(one)
        assert (mask == mask_of_rle(rle_of(one["segmentation"], (20, 30)))).all()
    assert (coco.annToMask(coco.anns[9]) == SQUARE).all()
    assert (coco.annToMask(coco.anns[1]) == SQUARE).all()
    assert len(boxes.anns) == 2


def test_the_adapter_reads_it(tmp_path: Path) -> None:
    """Each category has keypoints of its own; an image that says so has no labels."""
    value = content()
    value["images"][1]["has"] = {"detection": False}
    written(tmp_path / "annotations.json", value)
    adapter = Coco(str(tmp_path), splits={"train": "train"})
    classes = adapter.classes()
    assert classes.keypoints == ("person.nose", "person.left_eye", "person.right_eye", "bolt.head")
    assert classes.flip_pairs == ((1, 2),)
    first, second = adapter.records(tmp_path / "out")
    assert second.objects is None
    assert first.objects is not None
    assert first.objects[0].keypoints == (5, 4.25, 2, 6, 4, 1, 0, 0, 0, 0, 0, 0)
    assert first.objects[1].keypoints == ()


def test_slots() -> None:
    one, other = content()["categories"]
    alone = KeypointSlots([one, {"id": 3, "name": "car"}, {**one, "id": 4, "name": "child"}])
    assert alone.names == ("nose", "left_eye", "right_eye")
    assert alone.skeleton == ((0, 1),)
    assert KeypointSlots([{**one, "skeleton": [[2, 3], [0, 1], [3, 4], "x", [1]]}]).skeleton == ((1, 2),)
    assert alone.placed({"category_id": 4, "keypoints": [1] * 9}) == (1,) * 9
    both = KeypointSlots([one, other])
    assert both.placed({"category_id": 2, "keypoints": [4, 5, 2]}) == (0,) * 9 + (4, 5, 2)
    assert flip_pairs({"keypoints": ["a", "b"], "flip_pairs": [[0, 1]]}) == ((0, 1),)


def test_nothing_is_there_when_it_fails(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.write_text("before")
    with pytest.raises(ValueError, match="expected finite"), writing_combined(out) as writer:
        writer.add({"id": 1}, [{"bbox": [float("nan")]}])
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("annotations", 0, "image_id", 8), "annotation 3 is of image 8; expected the id of one of images"),
        (put("annotations", 0, "category_id", 8), "annotation 3: is of category 8; expected"),
        (put("annotations", 1, "bbox", [1, 2, 3]), "annotation 9: has the bbox .*; expected four numbers"),
        (put("annotations", 0, "segmentation", [[1, 2, 3]]), "annotation 3: a polygon has the 3 values"),
        (put("annotations", 1, "segmentation", "counts", "1"), "annotation 9: .* runs add up"),
        (put("annotations", 2, "segmentation", "size", [5, 5]), "annotation 1: a mask is of 5 x 5 px"),
        (put("annotations", 0, "keypoints", [1, 2, 2]), "expected 3 times x, y, v .* 'person'"),
        (put("annotations", 1, "keypoints", [1, 2, 5]), "expected 1 times x, y, v with v of 0, 1, 2"),
        (put("images", 1, "id", 7), r"images\[1\] has the id of an image before it"),
        (put("categories", 1, "name", "person"), "two categories have the same name"),
        (put("categories", {}), "'categories' is '{}'; expected list"),
        (lambda value: value["images"][0].pop("height"), r"images\[0\]: has the keys .*; expected 'height'"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    value = content()
    change(value)
    with pytest.raises(ValueError, match=words):
        list(CombinedFile(written(tmp_path / "a.json", value)))
