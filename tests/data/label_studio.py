"""Regions and tasks as Label Studio exports them, and a tiny project of four tasks on disk."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks.data.brush_rle import brush_of_mask

WIDTH, HEIGHT = 200, 100
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <PolygonLabels name="poly" toName="image"><Label value="arm"/><Label value="bolt"/></PolygonLabels>
  <RectangleLabels name="box" toName="image"><Label value="arm"/><Label value="bolt"/></RectangleLabels>
  <BrushLabels name="brush" toName="image"><Label value="arm"/><Label value="bolt"/></BrushLabels>
  <KeyPointLabels name="kp" toName="image">
    <Label value="arm.right" model_index="1" flip="arm.left"/><Label value="arm.left" model_index="0" flip="arm.right"/>
    <Label value="bolt.head" model_index="2"/>
  </KeyPointLabels>
  <KeyPointLabels name="kp_hidden" toName="image">
    <Label value="arm.left" model_index="0"/><Label value="arm.right" model_index="1"/><Label value="bolt.head"/>
  </KeyPointLabels>
</View>
"""


def region(id: str, control: str, value: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A region of an image of 200 x 100 px (W x H), unless ``more`` says otherwise."""
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {"id": id, "from_name": control, "to_name": "image", "value": dict(value), **size, **more}


def polygon(id: str, label: str, pixels: Sequence[tuple[float, float]], **more: Any) -> dict[str, Any]:
    points = [[x / WIDTH * 100, y / HEIGHT * 100] for x, y in pixels]
    return region(id, "poly", {"points": points, "closed": True, "polygonlabels": [label]}, **more)


def square(id: str, label: str, x: float, y: float, side: float, **more: Any) -> dict[str, Any]:
    """A polygon with upright sides."""
    return polygon(id, label, [(x, y), (x + side, y), (x + side, y + side), (x, y + side)], **more)


def rectangle(id: str, label: str, box_xywh: Sequence[float], rotation: float = 0, **more: Any) -> dict[str, Any]:
    x, y, w, h = box_xywh
    value = {"x": x / WIDTH * 100, "y": y / HEIGHT * 100, "width": w / WIDTH * 100, "height": h / HEIGHT * 100}
    return region(id, "box", {**value, "rotation": rotation, "rectanglelabels": [label]}, **more)


def keypoint(id: str, label: str, x: float, y: float, control: str = "kp", **more: Any) -> dict[str, Any]:
    value = {"x": x / WIDTH * 100, "y": y / HEIGHT * 100, "width": 0.5, "keypointlabels": [label]}
    return region(id, control, value, **more)


def brush(id: str, label: str, mask: Any, control: str = "brush", **more: Any) -> dict[str, Any]:
    return region(id, control, {"format": "rle", "rle": brush_of_mask(mask), "brushlabels": [label]}, **more)


def task(id: int, image: str, results: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """A task with one answer."""
    answer = {"id": 100 + id, "result": list(results), "was_cancelled": False, "updated_at": "2024-05-01", **more}
    return {"id": id, "annotations": [answer], "data": {"image": image}}


def short_of(tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same tasks as JSON-MIN has them: no ids, no links, a list for each control."""
    records = []
    for one in tasks:
        record: dict[str, Any] = {**one["data"], "id": one["id"], "annotation_id": one["annotations"][0]["id"]}
        for result in one["annotations"][0]["result"]:
            if "value" in result:
                size = {key: result[key] for key in ("original_width", "original_height")}
                record.setdefault(result["from_name"], []).append({**result["value"], **size})
        records.append(record)
    return records


def write_label_studio(root: Path) -> Path:
    """Four tasks, with their images and configuration, and answer the root.

    1: an arm of two linked parts with keypoints, its box, and a bolt; 2: a bolt as a brush; 3: labeled, nothing there;
    4: not labeled yet.
    """
    stripe = np.zeros((HEIGHT, WIDTH), bool)
    stripe[10:20, 50:90] = True
    tasks = [
        task(1, "/data/upload/1/0123abcd-one.png", [
            rectangle("box", "arm", (10, 10, 70, 30)),
            square("part", "arm", 10, 10, 30, parentID="box"), square("other", "arm", 60, 20, 20, parentID="box"),
            keypoint("l", "arm.left", 12, 12, parentID="box"),
            keypoint("r", "arm.right", 70, 30, "kp_hidden", parentID="box"),
            square("bolt", "bolt", 120, 40, 10),
        ]),
        task(2, "/data/local-files/?d=images/two.png", [brush("b", "bolt", stripe)]),
        task(3, "images/three.png", []),
        {"id": 4, "annotations": [], "data": {"image": "images/four.png"}},
    ]  # fmt: skip
    (root / "images").mkdir(parents=True)
    for name in ("one", "two", "three", "four"):
        Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 60)).save(root / "images" / f"{name}.png")
    (root / "export.json").write_text(json.dumps(tasks))
    (root / "label_config.xml").write_text(CONFIG)
    return root
