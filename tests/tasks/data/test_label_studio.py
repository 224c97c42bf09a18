"""Exports of Label Studio: real ones to their known truth, and what is wrong with one is told."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.components import Component, make
from orchestrator.preparing import prepare
from tasks.data.coco import Coco
from tasks.data.label_studio import LEFT_OUT, LabelStudio, image_names, write_combined
from tasks.data.manifest import Manifest
from tests.data.label_studio import CONFIG, keypoint, polygon, short_of, square, task, write_label_studio


def read(root: Path, **fields: Any) -> dict[str, Any]:
    """The combined COCO file of an export."""
    write_combined(LabelStudio(str(root), **fields), root / "labels.json")
    content: dict[str, Any] = json.loads((root / "labels.json").read_text())
    return content


@pytest.fixture
def joint(shared: Path, tmp_path: Path) -> Path:
    """The real project, where something can be written beside it."""
    for path in (shared / "data" / "labelstudio" / "joint").iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def differences(root: Path, content: dict[str, Any]) -> Counter[str]:
    """How often each part of the export is not as its known truth says, to all of its digits."""
    truth = {one["image"]: one for one in json.loads((root / "expected.json").read_text())}
    categories = {one["id"]: one for one in content["categories"]}
    wrong: Counter[str] = Counter(images=abs(len(truth) - len(content["images"])))
    for image in content["images"]:
        known = truth[Path(image["file_name"]).name]
        wrong["sizes"] += (image["width"], image["height"]) != (known["width"], known["height"])
        left = list(known["objects"])
        for one in (a for a in content["annotations"] if a["image_id"] == image["id"]):
            category = categories[one["category_id"]]
            if category["name"] == "crowd":
                wrong["brushes"] += (one["area"], one["bbox"]) != (known["brush"]["area"], known["brush"]["bbox_xywh"])
                continue
            box = [round(v, 2) for v in one.get("ls_box", one["bbox"])]
            same = [o for o in left if (o["label"], o["bbox_xywh"]) == (category["name"], box)]
            if not same:
                wrong["objects"] += 1
                continue
            left.remove(same[0])
            parts = sorted([round(v, 2) for v in part] for part in one["segmentation"])
            wrong["polygons"] += parts != sorted(same[0]["polygons"]) or len(parts) != same[0]["parts"]
            wrong["crowds"] += one["iscrowd"] != same[0]["iscrowd"]
            names, points = category.get("keypoints", []), one.get("keypoints", [])
            labeled = [i for i in range(len(names)) if points[3 * i + 2]]
            got = {names[i]: [round(v, 2) for v in points[3 * i : 3 * i + 2]] for i in labeled}
            want = same[0]["keypoints"] or {}
            wrong["keypoints"] += sum(got.get(name) != want.get(name) for name in {*got, *want})
            assert one.get("num_keypoints", 0) == len(got)
        wrong["objects"] += len(left)
    return +wrong


def test_a_real_project_is_exactly_its_truth(joint: Path) -> None:
    assert differences(joint, read(joint, images="images")) == {}


def test_the_short_form_of_a_real_project(joint: Path) -> None:
    """All but 11 of its 161 keypoints: they lie outside of their object, or in another one, and no link says so."""
    with pytest.raises(ValueError, match=r"nothing says which class has the keypoints nose, .* set keypoints: \{class"):
        read(joint, export="export_min.json", images="images")
    names = [one.label for one in LabelStudio(str(joint)).schema.keypoints]
    fields: dict[str, Any] = {"export": "export_min.json", "images": "images", "keypoints": {"person": names}}
    assert differences(joint, read(joint, strict=False, **fields)) == {"keypoints": 11}
    with pytest.raises(
        ValueError, match=r"task 2: region kp\[30\]: is a 'left_hip' .*3 more in this task.* strict: false"
    ):
        read(joint, **fields)


@pytest.mark.parametrize(
    ("folder", "export", "config", "objects"),
    [
        ("test_export_json_min", "data.json", "label_config.xml", 1),
        ("test_export_yolo", "data_keypoints.json", "label_config_keypoints.xml", 1),
        ("test_export_yolo", "data_polygons.json", "label_config_polygons.xml", 1),
        ("test_export_yolo", "data_obb.json", "", 25),
        ("test_export_yolo", "data.json", "", 4),
    ],
)
def test_real_exports_of_others(
    shared: Path, tmp_path: Path, folder: str, export: str, config: str, objects: int
) -> None:
    """The labels of the oblique boxes differ from their configuration in capitals: without it they can be read."""
    source = shared / "data" / "labelstudio" / "sdk_samples" / folder
    (tmp_path / export).write_bytes((source / export).read_bytes())
    if config:
        (tmp_path / "label_config.xml").write_bytes((source / config).read_bytes())
    content = read(tmp_path, export=export)
    assert len(content["annotations"]) == objects
    raw = json.loads((source / export).read_text())
    first = max(raw[0]["annotations"], key=lambda one: (one.get("updated_at", ""), one["id"]))["result"][0]
    value, one = first["value"], content["annotations"][0]
    if "points" in value:
        expected = [[x * first["original_width"] / 100, y * first["original_height"] / 100] for x, y in value["points"]]
        assert one["segmentation"] == [[v for point in expected for v in point]]
    if value.get("rotation"):
        assert len(one["segmentation"][0]) == 8
        width, height = value["width"] * first["original_width"] / 100, value["height"] * first["original_height"] / 100
        assert one["area"] == pytest.approx(width * height)
    if export == "data_keypoints.json":
        assert one["num_keypoints"] == 3
        assert one["keypoints"][0] == value["x"] * first["original_width"] / 100


def test_a_real_export_whose_keypoints_are_of_no_class(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "labelstudio" / "sdk_samples" / "test_export_coco"
    for name in ("data.json", "label_config.xml"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    with pytest.raises(ValueError, match="nothing says which class has the keypoints keypoint_label1, keypoint_label2"):
        read(tmp_path, export="data.json")
    keypoints = {"polygon_label": ("keypoint_label1", "keypoint_label2")}
    content = read(tmp_path, export="data.json", keypoints=keypoints, strict=False)
    assert [len(one["segmentation"]) for one in content["annotations"]] == [0, 1]


def test_a_project(tmp_path: Path) -> None:
    content = read(write_label_studio(tmp_path / "set"), images="images")
    names = [one["file_name"] for one in content["images"]]
    assert names == [f"images/{name}.png" for name in ("one", "two", "three", "four")]
    arm, bolt, painted = content["annotations"]
    assert (arm["bbox"], arm["area"], arm["ls_box"]) == ([10, 10, 70, 30], 900 + 400, [10, 10, 70, 30])
    assert (arm["keypoints"], arm["num_keypoints"]) == ([12, 12, 2, 70, 30, 1], 2)
    assert (bolt["bbox"], bolt["keypoints"]) == ([120, 40, 10, 10], [0, 0, 0])
    assert (painted["area"], painted["bbox"]) == (400, [50, 10, 40, 10])
    assert [one["has"]["detection"] for one in content["images"]] == [True, True, True, False]


def test_the_adapter_and_prepare(tmp_path: Path) -> None:
    """From a YAML to a manifest; the combined file, read as COCO, gives the same objects."""
    root = write_label_studio(tmp_path / "set")
    adapter = make("data", Component("label_studio", {"root": str(root), "images": "images", "size": [64, 96]}), "data")
    report = prepare(adapter, tmp_path / "prepared")
    assert (report.kept, report.objects, report.counts.total()) == (4, 3, 0)
    manifest = Manifest.open(tmp_path / "prepared")
    assert manifest.classes.detection == ("arm", "bolt")
    assert manifest.classes.keypoints == ("arm.left", "arm.right", "bolt.head")
    assert manifest.classes.flip_pairs == ((0, 1),)
    records = {one.id: one for one in adapter.records(tmp_path / "prepared")}
    assert sorted(records) == [f"images/{name}.png" for name in ("four", "one", "three", "two")]
    assert records["images/four.png"].objects is None
    assert records["images/three.png"].objects == ()
    write_combined(adapter, root / "labels.json")
    same = {one.id: one.objects for one in Coco(str(root), "labels.json").records(tmp_path / "prepared")}
    assert same == {id: one.objects for id, one in records.items()}


def test_several_answers_and_none(tmp_path: Path) -> None:
    """Ground truth before the latest; what was skipped does not count, and a task that was only skipped is no image."""
    old, new = square("p", "arm", 1, 1, 10), square("p", "arm", 1, 1, 20)
    answers = [
        {"id": 1, "result": [new], "updated_at": "2024-05-02"}, {"id": 2, "result": [old], "updated_at": "2024-05-01"},
        {"id": 3, "result": [], "updated_at": "2024-05-03", "was_cancelled": True},
    ]  # fmt: skip
    tasks = [{"id": 1, "data": {"image": "a.png"}, "annotations": answers}, task(2, "b.png", [], was_cancelled=True)]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    content = read(tmp_path)
    assert [one["area"] for one in content["annotations"]] == [400]
    assert len(content["images"]) == 1
    answers[1]["ground_truth"] = True
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert [one["area"] for one in read(tmp_path)["annotations"]] == [100]


def test_the_short_form(tmp_path: Path) -> None:
    (tmp_path / "label_config.xml").write_text(CONFIG)
    tasks = [task(1, "a.png", [square("p", "arm", 10, 10, 30), keypoint("k", "arm.left", 12, 12, "kp_hidden")])]
    (tmp_path / "export.json").write_text(json.dumps(short_of(tasks)))
    assert read(tmp_path)["annotations"][0]["keypoints"] == [12, 12, 1, 0, 0, 0]


def test_what_is_left_out_is_listed(tmp_path: Path) -> None:
    root = write_label_studio(tmp_path / "set")
    tasks = json.loads((root / "export.json").read_text())
    tasks[0]["annotations"][0]["result"].append(polygon("line", "arm", [(1, 1), (5, 5)]))
    (root / "export.json").write_text(json.dumps(tasks))
    with pytest.raises(
        ValueError, match=r"export\.json: task 1: region line: is a polygon that has 2 points; expected .*; or"
    ):
        list(LabelStudio(str(root)).records(tmp_path))
    assert len(list(LabelStudio(str(root), strict=False).records(tmp_path))) == 4
    assert (tmp_path / LEFT_OUT).read_text().splitlines()[1].startswith("1,line,")


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        ("/data/upload/7/0123abcd-a.jpg", ["data/upload/7/0123abcd-a.jpg", "0123abcd-a.jpg", "a.jpg"]),
        ("/data/local-files/?d=x%2Fa.jpg", ["x/a.jpg", "a.jpg"]),
        ("https://host/b/a%20b.jpg?key=1", ["b/a b.jpg", "a b.jpg"]),
        ("s3://bucket/x/a.jpg", ["x/a.jpg", "a.jpg"]),
        ("x/a.jpg", ["x/a.jpg", "a.jpg"]),
        ("/abs/a.jpg", ["/abs/a.jpg", "abs/a.jpg", "a.jpg"]),
    ],
)
def test_where_an_image_may_be(uri: str, names: list[str]) -> None:
    assert image_names(uri) == names


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"images": []}, "task 0: is no task; expected a list of tasks"),
        ([3], "task 0: is no task"),
        ([{"data": {"image": "a.png"}}], "task 0: has the keys data; expected an id"),
        ([{"id": 1, "data": [], "annotations": []}], r"task 0 \(id 1\): has the data '\[\]'"),
        (
            [task(4, "", [square("p", "arm", 1, 1, 5)])],
            "task 4: has the data .*; expected the path of its image as 'image'",
        ),
        ([task(4, "a.png", [])], "task 4: has no region, and its image cannot be opened"),
    ],
)
def test_what_is_no_export(tmp_path: Path, content: Any, words: str) -> None:
    (tmp_path / "export.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words):
        read(tmp_path)


def test_shares(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"validation is 0\.6 and test 0\.5"):
        LabelStudio(str(tmp_path), validation=0.6, test=0.5)
