"""The COCO adapter reads the layouts that are about, and says what is wrong with a file."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.preparing import prepare
from tasks.data.coco import UNLISTED, Coco, object_of, read_coco
from tasks.data.manifest import Manifest
from tasks.data.samples import Samples
from tasks.geometry import mask_box, mask_of_rle, rle_area
from tests.data.coco import HEIGHT, WIDTH, write_coco

INSTANCES = "annotations/instances_{split}2017.json"
PANOPTIC = "annotations/panoptic_{split}2017.json"


def coco(root: Path, **fields: Any) -> Coco:
    """The adapter of ``write_coco``'s tree."""
    return Coco(str(root), **{"annotations": INSTANCES, "images": "{split}2017", "panoptic": PANOPTIC, **fields})


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    adapter = coco(write_coco(tmp_path))
    classes = adapter.classes()
    assert classes.detection == ("person", "car", "truck")
    assert classes.segmentation == ("person", "car", "truck", "road")
    assert classes.det_to_seg == (0, 1, 2)
    assert (classes.keypoints, classes.flip_pairs) == (("nose", "left_eye", "right_eye"), ((1, 2),))
    lut = adapter.semantic_lut()
    assert [lut[v] for v in (1, 3, 8, 149, 255, 0, UNLISTED)] == [0, 1, 2, 3, 255, -1, -1]
    assert coco(tmp_path, panoptic="").classes().det_to_seg == (-1, -1, -1)


def test_supercategories_as_classes(tmp_path: Path) -> None:
    adapter = coco(write_coco(tmp_path), level="super")
    classes = adapter.classes()
    assert (classes.detection, classes.segmentation) == (("person", "vehicle"), ("person", "vehicle", "ground"))
    assert classes.det_to_seg == (0, 1)
    assert [adapter.semantic_lut()[v] for v in (1, 3, 8, 149)] == [0, 1, 1, 2]
    assert [o.label for o in next(adapter.records(tmp_path / "out")).objects or ()] == [0, 1, 1]


def test_objects_of_every_form(tmp_path: Path) -> None:
    records = list(coco(write_coco(tmp_path / "set")).records(tmp_path / "out"))
    assert Counter(r.split for r in records) == {"train": 4, "val": 2}
    first = records[0]
    assert first.id == "train2017/000000000001.jpg"
    assert Path(first.uri).is_absolute()
    assert first.size == (HEIGHT, WIDTH)
    assert first.objects is not None
    person, car, trucks = first.objects
    assert (person.box, person.label, person.crowd) == ((2, 3, 8, 13), 0, False)
    assert person.polygons == ((2, 3, 8, 3, 8, 13, 2, 13),)
    assert person.keypoints == (5, 4, 2, 6, 4, 1, 0, 0, 0)
    assert car.rle is not None
    assert trucks.rle is not None
    assert mask_box(mask_of_rle(car.rle)) == car.box == (12, 5, 20, 11)
    assert (trucks.crowd, rle_area(trucks.rle), mask_box(mask_of_rle(trucks.rle))) == (True, 16, (22, 0, 26, 4))


def test_panoptic_pngs_become_semantic_ones(tmp_path: Path) -> None:
    records = list(coco(write_coco(tmp_path / "set")).records(tmp_path / "out"))
    assert records[0].segmentation == "semantic/panoptic_train2017/000000000001.png"
    made = tmp_path / "out" / records[0].segmentation
    values = np.asarray(Image.open(made))
    assert values[16, 0] == 149
    assert values[4, 3] == 1
    assert values[6, 13] == 3
    assert values[0, 0] == 255
    before = made.stat().st_mtime_ns
    list(coco(tmp_path / "set").records(tmp_path / "out"))
    assert made.stat().st_mtime_ns == before  # not made again


def test_objects_from_panoptic_alone(tmp_path: Path) -> None:
    with_boxes = next(coco(write_coco(tmp_path / "set")).records(tmp_path / "out"))
    alone = next(coco(tmp_path / "set", annotations="").records(tmp_path / "out"))
    assert [(o.box, o.label, o.crowd) for o in alone.objects or ()] == [
        (o.box, o.label, o.crowd) for o in with_boxes.objects or ()
    ]


def test_a_segment_that_is_not_listed_is_no_class(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "set") / "annotations" / "panoptic_train2017.json"
    content = json.loads(path.read_text())
    del content["annotations"][0]["segments_info"][3]
    path.write_text(json.dumps(content))
    first = next(coco(tmp_path / "set").records(tmp_path / "out"))
    assert np.asarray(Image.open(tmp_path / "out" / str(first.segmentation)))[16, 0] == UNLISTED


@pytest.mark.parametrize("fault", ["missing", "cut"])
def test_a_bad_panoptic_png_is_left_for_prepare(tmp_path: Path, fault: str) -> None:
    png = write_coco(tmp_path / "set") / "annotations" / "panoptic_train2017" / "000000000001.png"
    if fault == "missing":
        png.unlink()
    else:
        png.write_bytes(png.read_bytes()[:60])
    assert next(coco(tmp_path / "set").records(tmp_path / "out")).segmentation == str(png)


def test_shares_of_train_are_hashed_by_scene(tmp_path: Path) -> None:
    write_coco(tmp_path)
    path = tmp_path / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    one = content["images"][0]
    content["images"] = [{**one, "id": i, "file_name": f"{i}.jpg", "scene": f"s{i // 5}"} for i in range(400)]
    content["annotations"] = []
    path.write_text(json.dumps(content))
    fields: dict[str, Any] = {"splits": {"train": "train"}, "panoptic": "", "validation": 0.25, "test": 0.25}
    images = list(coco(tmp_path, **fields).records(tmp_path))
    counts = Counter(r.split for r in images)
    assert 70 < counts["val"] < 130
    assert 70 < counts["test"] < 130
    assert [r.split for r in images] == [r.split for r in coco(tmp_path, **fields).records(tmp_path / "elsewhere")]
    scenes = list(coco(tmp_path, **fields, group="scene").records(tmp_path))
    assert len({(r.group, r.split) for r in scenes}) == 80
    assert len({r.split for r in scenes}) == 3


def test_a_split_of_the_file_wins_and_semantic_folders(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    path = root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["images"][0] |= {"split": "test", "sem_file_name": "maps/a.png"}
    path.write_text(json.dumps(content))
    plain = Coco(str(root), "annotations/instances_train2017.json", "train2017")
    first, second = list(plain.records(tmp_path))[:2]
    assert (first.split, first.segmentation) == ("test", "maps/a.png")
    assert (second.split, second.segmentation) == ("train", None)
    first = next(replace(plain, semantic="semantic").records(tmp_path))
    assert first.segmentation == "semantic/000000000001.png"


def _drop(*keys: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


def _put(*keys: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in keys[:-2]:
            content = content[key]
        content[keys[-2]] = keys[-1]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _drop("categories"),
            r"instances_train2017.json: has the keys images, annotations; expected 'categories' \(list\)",
        ),
        (_drop("images", 1, "file_name"), r"images\[1\]: has the keys .*; expected 'file_name' \(str\)"),
        (_put("images", 1, "height", "20"), r"images\[1\]: 'height' is '20'; expected int"),
        (_drop("annotations", 0, "bbox"), r"annotations\[0\]: has the keys .*; expected 'bbox'"),
        (_put("annotations", 0, "image_id", 99), r"annotations\[0\] is of image 99; expected the id of one of images"),
        (_put("categories", 0, "name", None), r"categories\[0\]: 'name' is 'None'; expected str"),
        (_put("images", 0, 5), r"images\[0\]: has 5; expected 'id' \(int or str\)"),
    ],
)
def test_faults_of_the_json_are_named(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    path = write_coco(tmp_path) / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_coco(path)


def test_faults_of_classes_and_fields_are_named(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    (root / "classes.json").write_text('{"classes": [{"id": 254, "name": "a"}]}')
    with pytest.raises(ValueError, match=r"classes.json: the class 'a' has id 254; expected 0..253"):
        coco(root).semantic_lut()
    with pytest.raises(ValueError, match=r"validation is 0.7 and test 0.5; expected shares"):
        coco(root, validation=0.7, test=0.5)
    with pytest.raises(ValueError, match="neither annotations nor panoptic is set"):
        Coco(str(root), annotations="")
    with pytest.raises(FileNotFoundError, match=r"train2017.json: no such file"):
        Coco(str(root / "none"), INSTANCES).classes()


def test_faults_of_objects_stay_visible() -> None:
    base: dict[str, Any] = {"bbox": [1, 2, 3, 4], "category_id": 7}
    assert object_of(base, {7: 0}, (9, 9)).label == 0
    assert object_of(base, {}, (9, 9)).label == -1
    assert np.isnan(object_of({**base, "bbox": [1, 2, None, 4]}, {7: 0}, (9, 9)).box).all()
    wrong = object_of({**base, "segmentation": {"size": [5, 5], "counts": [25]}}, {7: 0}, (9, 9))
    assert wrong.rle == {"size": [5, 5], "counts": [25]}


def test_the_real_ones(shared: Path, tmp_path: Path) -> None:
    seventy = Coco(str(shared / "data" / "coco_panoptic70"), level="super", validation=0.2)
    records = list(seventy.records(tmp_path))
    assert len(records) == 70
    assert {r.split for r in records} == {"train", "val"}
    listed = json.loads((shared / "data" / "coco_panoptic70" / "classes.json").read_text())
    assert seventy.classes().segmentation == tuple(one["name"] for one in listed["supercategories"])
    lut = seventy.semantic_lut()
    assert all(lut[one["id"]] == one["super_id"] for one in listed["classes"])
    points = Coco(str(shared / "data" / "coco_keypoints101"), "annotations_{split}.json")
    assert len(points.classes().flip_pairs) == 8
    assert Counter(r.split for r in points.records(tmp_path)) == {"train": 50, "val": 51}


@pytest.mark.parametrize(
    ("folder", "fields", "objects"),
    [
        ("coco_instances", {"annotations": "annotations/instances_{split}.json", "images": "images/{split}"}, 3),
        ("coco_panoptic", {"annotations": "", "panoptic": "annotations/panoptic_{split}.json"}, 0),
        ("coco_person_keypoints", {"annotations": "annotations/person_keypoints_{split}.json"}, 3),
        ("coco_roboflow", {"annotations": "{split}/_annotations.coco.json", "images": "{split}"}, 3),
        ("mmdet_coco", {"annotations": "annotations/instances_{split}.json", "images": "{split}"}, 3),
    ],
)
def test_layouts_of_other_tools(shared: Path, tmp_path: Path, folder: str, fields: Any, objects: int) -> None:
    root = shared / "data" / "fixtures" / "datumaro_stubs" / "coco_dataset" / folder
    records = list(Coco(str(root), **fields).records(tmp_path))
    assert [r.split for r in records] == ["train", "val"]
    assert [r.size for r in records] == [(5, 10), (10, 5)]
    assert sum(len(r.objects or ()) for r in records) == objects


@pytest.mark.slow
@pytest.mark.parametrize(
    ("adapter", "images", "objects"),
    [
        (Coco("coco_panoptic70"), 70, 583),
        (Coco("coco_panoptic70", level="super"), 70, 583),
        (Coco("coco_keypoints101", "annotations_{split}.json"), 101, 0),
    ],
)
def test_every_image_of_the_real_ones_is_read(
    shared: Path, tmp_path: Path, adapter: Coco, images: int, objects: int
) -> None:
    report = prepare(replace(adapter, root=str(shared / "data" / adapter.root)), tmp_path)
    assert (report.kept, report.counts.total()) == (images, 0)
    assert report.objects == (objects or report.objects) > 0
    manifest = Manifest.open(tmp_path)
    samples = Samples(manifest, ("detection", "instances", "keypoints", "segmentation"))
    for row in manifest.rows().tolist():
        found: Any = samples[row].targets
        assert len(found["instances"].rles) == len(found["detection"].labels)
        if manifest.classes.keypoints:
            assert found["keypoints"].keypoints.shape == (len(found["detection"].labels), 17, 3)
        else:
            assert int(found["segmentation"].min()) < len(manifest.classes.segmentation)
