"""The four styles of label files, and what is said of broken ones."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tasks.data.openlabel import Labeled, read_labels
from tests.data.a9 import BOX, HEIGHT, POLYGON, WIDTH, asam, r00, r01, r02

SIZE = (HEIGHT, WIDTH)


def read(tmp_path: Path, content: Any) -> list[Labeled]:
    path = tmp_path / "frame.json"
    path.write_text(json.dumps(content))
    return read_labels(path, SIZE)


def test_r00_has_corners_in_shares_of_the_image(tmp_path: Path) -> None:
    [car] = read(tmp_path, r00())
    assert (car.type, car.polygons) == ("CAR", ())
    assert car.box == pytest.approx(BOX)


def test_r01_has_corners_in_pixels_and_a_rounded_box(tmp_path: Path) -> None:
    car, plate, van = read(tmp_path, r01())
    assert car == Labeled("CAR", BOX)
    assert plate == Labeled("LICENSE_PLATE_LOCATION", (6, 16, 9, 18))
    assert van.box == BOX
    content = r01()
    content["openlabel"]["frames"]["7"]["objects"]["a"]["object_data"]["bbox"][0]["val"][0] = 20
    assert read(tmp_path, content)[0].box == (16, 8, 24, 18), "corners are not taken for a box that says otherwise"


def test_r02_has_boxes_and_polygons(tmp_path: Path) -> None:
    car, truck, other, bus = read(tmp_path, r02())
    assert car == Labeled("CAR", BOX, (tuple(map(float, POLYGON)),))
    assert truck.box == (-6, 2, 8, 12), "around its polygon, and not cut here"
    assert (other.type, bus.polygons) == ("OTHER", ())


def test_asam_has_types_at_the_top(tmp_path: Path) -> None:
    [car] = read(tmp_path, asam())
    assert car == Labeled("CAR", BOX, (tuple(map(float, POLYGON)),))


def test_the_outer_key_and_the_number_of_the_frame_may_be_absent(tmp_path: Path) -> None:
    frame = r02()["openlabel"]["frames"]["7"]
    assert read(tmp_path, {"frames": {"objects": frame["objects"]}}) == read(tmp_path, r02())
    assert read(tmp_path, {"openlabel": {"frames": {"0": {}}}}) == []
    assert read(tmp_path, {"labels": []}) == []


def test_an_object_without_a_shape_has_no_box(tmp_path: Path) -> None:
    content = r02()
    content["openlabel"]["frames"]["7"]["objects"]["bus"]["object_data"] = {"type": "bus", "cuboid": {}}
    assert read(tmp_path, content)[3] == Labeled("BUS", None)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("frames",), {}, r"has 0 frames; expected one image a file"),
        (("frames", "8"), {}, r"has 2 frames; expected one image a file"),
        (("frames", "7"), [], r"its frame is '\[\]'; expected an object"),
        (("frames", "7", "objects"), [], r"frame: 'objects' is '\[\]'; expected dict"),
        (("frames", "7", "objects", "bus"), {}, r"object bus: has the keys \(none\); expected 'object_data'"),
        (("frames", "7", "objects", "bus", "object_data", "type"), 3, r"object bus: 'type' is '3'; expected str"),
        (
            ("frames", "7", "objects", "bus", "object_data", "bbox"),
            [{"val": [1, 2]}],
            r"bbox is \[1, 2\]; expected cen",
        ),
        (
            ("frames", "7", "objects", "bus", "object_data", "poly2d"),
            [{"val": [1, 2, 3]}],
            r"poly2d is \[1, 2, 3\]; exp",
        ),
        (
            ("frames", "7", "objects", "bus", "object_data", "poly2d"),
            [{"val": "x", "mode": "MODE_POLY2D_SRF6DCC"}],
            r"object bus: poly2d: 'val' is 'x'; expected list",
        ),
        (
            ("frames", "7", "objects", "bus", "object_data", "poly2d"),
            [{"val": [], "mode": "MODE_POLY2D_SRF6DCC"}],
            r"has the mode 'MODE_POLY2D_SRF6DCC'; expected MODE_POLY2D_ABSOLUTE: convert the file",
        ),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, place: tuple[str, ...], value: Any, told: str) -> None:
    content = deepcopy(r02())
    inner = content["openlabel"]
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(ValueError, match=rf"frame.json.*{told}"):
        read(tmp_path, content)


def test_broken_corners_and_files_are_named(tmp_path: Path) -> None:
    content = r00()
    content["labels"][0]["box3d_projected"]["top_left_back"] = [0.5]
    with pytest.raises(ValueError, match=r"labels\[0\]: box3d_projected: top_left_back is \[0.5\]; expected x, y"):
        read(tmp_path, content)
    with pytest.raises(ValueError, match=r"has the keys x; expected 'frames'"):
        read(tmp_path, {"x": 1})
    (tmp_path / "frame.json").write_text('{"openlabel": ')
    with pytest.raises(ValueError, match=r"frame.json: is not JSON"):
        read_labels(tmp_path / "frame.json", SIZE)


def test_the_fixture_is_as_it_was_labeled(shared: Path) -> None:
    """Every object of the four styles, license plates too: type, box and polygon."""
    root = shared / "data" / "fixtures" / "tum_a9"
    frames = json.loads((root / "expected.json").read_text())
    assert len(frames) == 8
    for frame in frames:
        found = read_labels(root / frame["label"], (frame["height"], frame["width"]))
        assert len(found) == len(frame["objects"])
        for one, expected in zip(found, frame["objects"], strict=True):
            x, y, w, h = expected.get("bbox_xywh") or expected["bbox_cxcywh"]
            if "bbox_cxcywh" in expected:
                x, y = x - w / 2, y - h / 2
            assert one.type == expected["category"]
            assert one.box == pytest.approx((x, y, x + w, y + h), abs=1e-9)
            assert one.polygons == ((tuple(expected["polygon"]),) if "polygon" in expected else ())
