"""The A9 adapter: which file belongs to which image, classes, boxes, painted maps, scenes and splits."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.preparing import PrepareError, prepare
from tasks.data.a9 import A9
from tasks.data.manifest import Manifest, Record
from tests.data.a9 import BOX, HEIGHT, WIDTH, write_a9

NAMES = ("car", "truck", "trailer", "van", "motorcycle", "bus", "pedestrian", "bicycle", "emergency_vehicle")


def painted(record: Record, folder: Path) -> np.ndarray:
    with Image.open(folder / str(record.segmentation)) as image:
        return np.asarray(image)


def test_classes_do_not_need_the_data() -> None:
    adapter = A9("nowhere", size=(64, 96))
    classes = adapter.classes()
    assert classes.detection == NAMES
    assert classes.segmentation == ("background", *NAMES)
    assert classes.det_to_seg == tuple(range(1, 10))
    assert adapter.semantic_lut() == (*range(10), *(-1,) * 245, 255)
    assert adapter.size == (64, 96)


def test_every_release_is_found_with_its_images(tmp_path: Path) -> None:
    records = list(A9(str(write_a9(tmp_path / "set"))).records(tmp_path))
    assert [(r.group, Path(r.uri).suffix, len(r.objects or ()), bool(r.segmentation)) for r in records] == [
        ("asam", ".jpg", 1, True),
        ("r00_s00", ".png", 1, False),
        *[("r01_s01", ".jpg", 2, False)] * 2,
        *[("r02_s04", ".jpg", 3, True)] * 3,
    ]
    assert all(r.size == (HEIGHT, WIDTH) and r.split == "train" for r in records)
    assert all((tmp_path / r.uri).is_file() for r in records)
    assert records[1].id == "r00_s00/_images/s110_camera_r00_s00/1000_000000001_s110_camera_r00_s00.png"
    only = list(A9(str(tmp_path / "set"), sensors=("s110_camera_asam",)).records(tmp_path))
    assert [r.group for r in only] == ["asam"]


def test_boxes_are_cut_at_the_border_and_plates_and_others_are_none(tmp_path: Path) -> None:
    records = list(A9(str(write_a9(tmp_path / "set"))).records(tmp_path))
    found = [(NAMES[o.label], o.box) for o in records[-1].objects or ()]
    assert found == [("car", BOX), ("truck", (0, 2, 8, 12)), ("bus", (22, 16, 26, 20))]
    assert [NAMES[o.label] for o in records[2].objects or ()] == ["car", "van"]


def test_maps_are_painted_from_far_to_near(tmp_path: Path) -> None:
    record = list(A9(str(write_a9(tmp_path / "set"))).records(tmp_path))[-1]
    values = painted(record, tmp_path)
    names = ("background", *NAMES)
    assert names[values[10, 6]] == "car", "the car's lower edge is lower than the truck's"
    assert names[values[5, 2]] == "truck"
    assert names[values[20, 2]] == "background"
    assert (values[2:8, 22:28] == 255).all(), "OTHER is ignored"
    assert (values[16:20, 22:26] == 255).all(), "a bus without a polygon is ignored in its box"
    assert np.bincount(values.ravel())[1] == 80


def test_scenes_splits_and_shares(tmp_path: Path) -> None:
    root = str(write_a9(tmp_path))
    cut = [r.group for r in A9(root, scene_seconds=15).records(tmp_path) if "r02" in r.id]
    assert cut == ["r02_s04/66", "r02_s04/67", "r02_s04/68"]
    cut = [r.group for r in A9(root, scene_seconds=20).records(tmp_path) if "r02" in r.id]
    assert cut == ["r02_s04/50", "r02_s04/50", "r02_s04/51"]
    folders = {"train": "r02_s04", "val": "asam", "test": "r00_s00"}
    splits = [r.split for r in A9(root, splits=folders).records(tmp_path)]
    assert splits == ["train"] * 3 + ["val", "test"]
    drawn = {r.group: r.split for r in A9(root, validation=0.3, test=0.3).records(tmp_path)}
    assert set(drawn.values()) > {"train"}
    with pytest.raises(ValueError, match=r"scene_seconds is -1"):
        A9(root, scene_seconds=-1)


def test_types_can_be_mapped_otherwise_and_unknown_ones_are_told(tmp_path: Path) -> None:
    root = str(write_a9(tmp_path / "set"))
    two = A9(root, types={"CAR": "vehicle", "TRUCK": "vehicle", "VAN": "vehicle"}, ignored=("OTHER", "BUS"))
    assert two.classes().segmentation == ("background", "vehicle")
    assert {o.label for r in two.records(tmp_path) for o in r.objects or ()} == {0}
    less = A9(root, types={"CAR": "car"}, splits={"train": "r02_s04"})
    with pytest.raises(PrepareError, match=r"6 faults in 3 images \(6 class\)"):
        prepare(less, tmp_path / "prepared")


def test_a_broken_file_costs_its_image_alone(tmp_path: Path) -> None:
    root = write_a9(tmp_path / "set")
    paths = sorted(root.rglob("labels_images/*/*.json"))
    paths[0].write_text("{")
    content = json.loads(paths[1].read_text())
    content["openlabel"]["frames"]["7"]["objects"]["car"]["object_data"]["type"] = None
    paths[1].write_text(json.dumps(content))
    next(root.rglob("*asam/*.jpg")).unlink()
    adapter, folder = A9(str(root)), tmp_path / "prepared"
    with pytest.raises(PrepareError, match=r"3 faults in 7 images \(2 labels, 1 missing\)") as refused:
        prepare(adapter, folder)
    assert "object car: 'type' is 'None'; expected str: correct it [labels: " in str(refused.value)
    report = prepare(adapter, folder, "skip")
    assert report.kept == 4
    manifest = Manifest.open(folder)
    assert sum(r.segmentation is not None for r in manifest.records(manifest.rows())) == 1


def test_faults_of_folders_and_names_are_named(tmp_path: Path) -> None:
    root = write_a9(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gone: no such folder; expected releases of A9: set data.root"):
        list(A9(str(root / "gone")).records(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no such folder; .* or correct data.splits"):
        list(A9(str(root), splits={"val": "r99"}).records(tmp_path))
    path = next(root.rglob("*asam/*.json"))
    path.rename(path.with_name("first.json"))
    with pytest.raises(ValueError, match=r"first.json: its name does not begin with a second"):
        list(A9(str(root), scene_seconds=5).records(tmp_path))
    with pytest.raises(PrepareError, match=r"the data set lists no image"):
        prepare(A9(str(root), folders={"annotations": "images"}), tmp_path / "prepared")


def test_the_fixture_is_as_it_was_labeled(shared: Path, tmp_path: Path) -> None:
    """What is in expected.json, but for license plates, cut at the border; and all of it passes ``prepare``."""
    root = shared / "data" / "fixtures" / "tum_a9"
    expected = {frame["image"]: frame for frame in json.loads((root / "expected.json").read_text())}
    adapter = A9(str(root))
    records = list(adapter.records(tmp_path))
    assert {r.id for r in records} == set(expected)
    for record in records:
        frame = expected[record.id]
        assert record.size == (frame["height"], frame["width"])
        known = [one for one in frame["objects"] if one["category"] != "LICENSE_PLATE_LOCATION"]
        assert [NAMES[o.label].upper() for o in record.objects or ()] == [one["category"] for one in known]
        for found, one in zip(record.objects or (), known, strict=True):
            x, y, w, h = one.get("bbox_xywh") or one["bbox_cxcywh"]
            x, y = (x - w / 2, y - h / 2) if "bbox_cxcywh" in one else (x, y)
            limits = (frame["width"], frame["height"]) * 2
            assert found.box == pytest.approx(np.clip((x, y, x + w, y + h), 0, limits).tolist(), abs=1e-9)
        assert (record.segmentation is not None) == ("polygon" in frame["objects"][0])
        if record.segmentation is not None:
            values = np.unique(painted(record, tmp_path)).tolist()
            assert values == sorted({0} | {1 + NAMES.index(one["category"].lower()) for one in known})
    assert not prepare(adapter, tmp_path / "prepared").counts
