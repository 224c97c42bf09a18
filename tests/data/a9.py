"""A tiny A9 of 4 releases with a frame or two each, in their four styles of labels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32
BOX = (4.0, 8.0, 12.0, 18.0)  # xyxy of the car of every frame
POLYGON = [4, 8, 12, 8, 12, 18, 4, 18]
Json = dict[str, Any]


def corners(scale: tuple[float, float] = (1.0, 1.0)) -> dict[str, list[float]]:
    """The eight projected corners of the car's cuboid: their rectangle is its box."""
    x1, y1, x2, y2 = BOX
    ends = {"left": x1, "right": x2}, {"bottom": y2, "top": y1}
    names = [(f"{v}_{h}_{d}", h, v) for v in ends[1] for h in ends[0] for d in ("front", "back")]
    return {name: [ends[0][h] * scale[0], ends[1][v] * scale[1]] for name, h, v in names}


def r00() -> Json:
    shares = corners((1 / WIDTH, 1 / HEIGHT))
    return {"labels": [{"id": 0, "category": "CAR", "box3d_projected": shares}]}


def r01() -> Json:
    """The box of the car has its centre rounded down, as the release has it; the second object has no box."""
    points = [
        {"point2d": {"name": f"projected_2d_point_{n}", "val": [int(x), int(y)]}} for n, (x, y) in corners().items()
    ]
    plate = [{"point2d": {"name": n, "val": v}} for n, v in (("top_left_corner", [6, 16]), ("bottom_right", [9, 18]))]
    return _frame(
        {
            "a": {
                "name": "CAR_a",
                "type": "CAR",
                "bbox": [{"name": "shape", "val": [7.5, 13, 8, 10]}],
                "keypoints_2d": {"attributes": {"points2d": {"val": points}}},
                "cuboid": {"name": "shape3D", "val": [0] * 10, "attributes": {"num": {"number_of_trailers": 1}}},
            },
            "b": {"type": "LICENSE_PLATE_LOCATION", "keypoints_2d": {"attributes": {"points2d": {"val": plate}}}},
            "c": {"type": "VAN", "keypoints_2d": {"attributes": {"points2d": {"val": points}}}},
        }
    )


def r02() -> Json:
    """A car before a truck that leaves the image, something other, and a bus without a polygon."""
    return _frame(
        {
            "car": {
                "type": "CAR",
                "bbox": [{"name": "visible", "val": [1, 1, 1, 1]}, {"name": "full_bbox", "val": [8, 13, 8, 10]}],
                "poly2d": [{"name": "full_mask", "val": POLYGON}, {"name": "part", "val": [0, 0, 1, 0, 1, 1]}],
            },
            "truck": {"type": "TRUCK", "poly2d": [{"name": "mask", "val": [-6, 2, 8, 2, 8, 12, -6, 12]}]},
            "other": {
                "type": "OTHER",
                "bbox": [{"name": "full_bbox", "val": [25, 5, 6, 6]}],
                "poly2d": [{"name": "full_mask", "val": [22, 2, 28, 2, 28, 8, 22, 8]}],
            },
            "bus": {"type": "BUS", "bbox": [{"name": "full_bbox", "val": [24, 18, 4, 4]}]},
        }
    )


def asam() -> Json:
    """ASAM's own form: types at the top."""
    content = _frame({"a": {"bbox": [{"name": "full_bbox", "val": [8, 13, 8, 10]}], "poly2d": [_absolute()]}})
    content["openlabel"]["objects"] = {"a": {"name": "CAR_a", "type": "CAR"}}
    return content


def _absolute() -> Json:
    return {"name": "full_mask", "val": POLYGON, "mode": "MODE_POLY2D_ABSOLUTE", "closed": True}


def _frame(objects: Json) -> Json:
    data = {id: {"object_data": one} for id, one in objects.items()}
    frame = {"frame_properties": {"timestamp": 1.5}, "objects": data}
    return {"openlabel": {"metadata": {"schema_version": "1.0.0"}, "frames": {"7": frame}}}


def write_a9(root: Path) -> Path:
    """Write it and answer its root; the frames of a sequence are 10 seconds apart."""
    for release, (labels, images), content, count, ending in (
        ("r00_s00", ("_labels", "_images"), r00(), 1, ".png"),
        ("r01_s01", ("labels", "images"), r01(), 2, ".jpg"),
        ("r02_s04", ("labels_images", "images"), r02(), 3, ".jpg"),
        ("asam", ("_labels", "_images"), asam(), 1, ".jpg"),
    ):
        sensor = f"s110_camera_{release}"
        for number in range(count):
            stem = f"{1000 + 10 * number}_000000001_{sensor}"
            _written(root / release / labels / sensor / f"{stem}.json").write_text(json.dumps(content))
            pixels = np.full((HEIGHT, WIDTH, 3), 60 + 30 * number, np.uint8)
            Image.fromarray(pixels).save(_written(root / release / images / sensor / f"{stem}{ending}"))
    _written(root / "r02_s04" / "labels_point_clouds" / "lidar" / "x.json").write_text("{}")
    return root


def _written(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
