"""From a combined COCO file to tasks and back: the same, to 1e-9 px."""

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tasks.data.combined import CombinedFile
from tasks.data.label_config import config_of
from tasks.data.label_studio import LabelStudio, combined_entries, write_combined
from tasks.data.label_tasks import results_of, task_of, write_tasks

ROUNDING = 1e-9  # px
IMAGES = 25  # of each file: more take long


def accepted(root: Path, file: CombinedFile) -> LabelStudio:
    """The tasks of a file, each prediction accepted as it is, and exported again."""
    tasks = []
    for number, (image, annotations) in enumerate(islice(file, IMAGES), start=1):
        one = task_of(image, annotations, file.categories)
        answer = {"id": number, "result": one.pop("predictions", [{"result": []}])[0]["result"]}
        tasks.append({"id": number, **one, "annotations": [answer]})
    write_tasks(root / "export.json", tasks)
    (root / "label_config.xml").write_text(config_of(file.categories, with_crowd=True))
    return LabelStudio(str(root))


def opened(part: list[float]) -> list[float]:
    """A polygon without the point that repeats its first one."""
    return [float(v) for v in (part[:-2] if part[:2] == part[-2:] else part)]


def check_same(a: Any, b: Any, where: str = "") -> None:
    """The same in all but the last digits of numbers."""
    if isinstance(a, Mapping):
        assert set(a) == set(b), where
        for key in a:
            check_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            check_same(x, y, f"{where}[{i}]")
    elif isinstance(a, float):
        assert abs(a - b) <= ROUNDING * max(1.0, abs(a)), where  # areas are larger
    else:
        assert a == b, where


def test_a_real_project_there_and_back(shared: Path, tmp_path: Path) -> None:
    """All keys: boxes and drawn rectangles, parts, masks, keypoints, order, ids of the first regions."""
    joint = LabelStudio(str(shared / "data" / "labelstudio" / "joint"), images="images")
    write_combined(joint, tmp_path / "a.json")
    file = CombinedFile(tmp_path / "a.json")
    (tmp_path / "back").mkdir()
    again = [(image, found) for image, found, _ in combined_entries(accepted(tmp_path / "back", file))]
    assert len(again) == 10
    for (image, annotations), (image_again, found) in zip(file, again, strict=True):
        assert image_again["id"] == image["id"]
        check_same(annotations, found, image["file_name"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coco_keypoints101/annotations_train.json", "coco_panoptic70/annotations.json"])
def test_real_annotations_there_and_back(shared: Path, tmp_path: Path, name: str) -> None:
    """Masks are the same pixels; the box that was given is the rectangle; crowds stay crowds."""
    file = CombinedFile(shared / "data" / name)
    source = accepted(tmp_path, file)
    names = {one["id"]: one["name"] for one in file.categories}
    back = {one["id"]: one["name"] for one in source.categories}
    seen = 0
    for (_, annotations), (_, found, left_out) in zip(islice(file, IMAGES), combined_entries(source), strict=True):
        assert left_out == []
        assert len(annotations) == len(found)
        for one, other in zip(annotations, found, strict=True):
            assert (back[other["category_id"]], other["iscrowd"]) == (names[one["category_id"]], one["iscrowd"])
            check_same([float(v) for v in one["bbox"]], other.get("ls_box", other["bbox"]), "bbox")
            check_same(one.get("num_keypoints", 0), other.get("num_keypoints", 0))
            if one.get("num_keypoints"):
                check_same([float(v) for v in one["keypoints"]], [float(v) for v in other["keypoints"]])
            if not isinstance(one["segmentation"], dict):
                check_same([opened(part) for part in one["segmentation"]], other["segmentation"])
            elif isinstance(one["segmentation"]["counts"], str):
                assert one["segmentation"] == other["segmentation"]
            seen += 1
    assert seen > 150


def test_regions() -> None:
    """By hand: 50 % of 200 px is 100; the rectangle is the parent; what is not labeled is no region."""
    category = {"id": 1, "name": "arm", "keypoints": ["left", "right", "arm.mid"]}
    one = {
        "id": 7, "category_id": 1, "bbox": [0, 0, 100, 50], "score": 0.5, "iscrowd": 0,
        "segmentation": [[0, 0, 100, 0, 100, 40]], "keypoints": [10, 10, 1, 0, 0, 0, 20, 20, 2], "num_keypoints": 2,
    }  # fmt: skip
    box, part, left, mid = results_of(one, category, (100, 200))
    assert box["value"] == {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["arm"]}
    assert part["value"]["points"] == [[0, 0], [50, 0], [50, 40]]
    assert (left["from_name"], left["value"]["keypointlabels"], left["value"]["x"]) == ("kp_hidden", ["arm.left"], 5)
    assert (mid["from_name"], mid["value"]["keypointlabels"]) == ("kp", ["arm.mid"])
    assert [r["id"] for r in (box, part, left, mid)] == ["a7", "a7.1", "a7.2", "a7.3"]
    assert [r.get("parentID") for r in (box, part, left, mid)] == [None, "a7", "a7", "a7"]
    assert all(r["score"] == 0.5 and r["original_width"] == 200 and r["to_name"] == "image" for r in (box, part, left))
    same = {**one, "bbox": [0, 0, 100, 40]}  # the bounds: no rectangle is drawn
    assert [r["from_name"] for r in results_of(same, category, (100, 200))] == ["poly", "kp_hidden", "kp"]


def test_tasks(tmp_path: Path) -> None:
    image = {"id": 3, "file_name": "x/a.png", "height": 100, "width": 200, "split": "val"}
    found = [{"id": i, "category_id": 1, "bbox": [0, 0, 10, 10], "score": score} for i, score in ((1, 0.2), (2, 0.4))]
    one = task_of(image, found, [{"id": 1, "name": "arm"}], "/data/local-files/?d=", model="v1")
    assert one["data"] == {
        "image": "/data/local-files/?d=x/a.png",
        "image_id": 3,
        "height": 100,
        "width": 200,
        "split": "val",
    }
    assert one["predictions"][0]["score"] == pytest.approx(0.3)
    assert one["predictions"][0]["model_version"] == "v1"
    assert task_of({**image, "has": {"detection": False}}, [], []).keys() == {"data"}
    assert write_tasks(tmp_path / "tasks.json", iter([one, one])) == 2
    assert json.loads((tmp_path / "tasks.json").read_text()) == [one, one]
    assert write_tasks(tmp_path / "tasks.json", []) == 0
    assert json.loads((tmp_path / "tasks.json").read_text()) == []
