"""Tasks for Label Studio out of a combined COCO file, each with labels to start from.

What ``LabelStudio`` reads back is the same to 1e-9 px: boxes of objects with polygons or a mask are their outer bounds
then, ``area`` is counted anew, and a mask is a brush of the same pixels.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from tasks.data.brush_rle import brush_of_mask
from tasks.data.files import Place, staged
from tasks.data.label_config import label_of
from tasks.geometry import Size, mask_box, mask_of_rle, rle_of

KEPT = ("split", "record", "group", "depth_file")  # keys of an image that its task keeps
POINT_WIDTH = 0.5  # percent: how large a keypoint is drawn
_CLOSE = 1e-6  # px


def task_of(
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
    prefix: str = "",
    model: str = "mtal",
    is_finished: bool = False,
) -> dict[str, Any]:
    """The task of an image, its annotations as a prediction that a person may accept and correct.

    ``prefix`` comes before the file's name: where the server finds it, e.g. ``/data/local-files/?d=``. ``is_finished``:
    as a person's annotation, in the form in which a project is exported, so that ``LabelStudio`` reads the labels back.
    """
    data = {"image": prefix + image["file_name"], "image_id": image["id"]}
    data |= {key: image[key] for key in ("height", "width", *KEPT) if key in image}
    number = {"id": image["id"]} if is_finished else {}
    if not image.get("has", {}).get("detection", True):
        return {**number, "data": data, **({"annotations": []} if is_finished else {})}
    known = {one["id"]: one for one in categories}
    size = image["height"], image["width"]
    results = [each for one in annotations for each in results_of(one, known[one["category_id"]], size)]
    if is_finished:
        answer = {"id": image["id"], "result": results, "was_cancelled": False, "ground_truth": False}
        return {**number, "data": data, "annotations": [answer]}
    scores = [one["score"] for one in annotations if "score" in one]
    prediction: dict[str, Any] = {"model_version": model, "result": results}
    if scores:
        prediction["score"] = fmean(scores)
    return {"data": data, "predictions": [prediction]}


def results_of(one: Mapping[str, Any], category: Mapping[str, Any], size: Size) -> list[dict[str, Any]]:
    """The regions of an annotation of an image of H, W; the first is the parent of the others."""
    root = str(one.get("ls_region_id") or f"a{one['id']}")
    label, is_crowd = str(category["name"]), bool(one.get("iscrowd"))
    found: list[dict[str, Any]] = []
    box_xywh = _drawn_box(one, size)
    if box_xywh is not None:
        x, y, width, height = box_xywh
        value: dict[str, Any] = {"x": _percent(x, size[1]), "y": _percent(y, size[0]), "rotation": 0}
        value |= {"width": _percent(width, size[1]), "height": _percent(height, size[0])}
        found.append(_result("crowd_box" if is_crowd else "box", "rectanglelabels", label, value))
    segmentation = one.get("segmentation")
    if segmentation and (isinstance(segmentation, Mapping) or is_crowd):
        mask = mask_of_rle(rle_of(segmentation, size))
        value = {"format": "rle", "rle": brush_of_mask(mask)}
        found.append(_result("crowd" if is_crowd else "brush", "brushlabels", label, value))
    else:
        for part in segmentation or ():
            points = [[_percent(x, size[1]), _percent(y, size[0])] for x, y in np.reshape(part, (-1, 2)).tolist()]
            found.append(_result("poly", "polygonlabels", label, {"points": points, "closed": True}))
    triples = np.reshape(one.get("keypoints") or (), (-1, 3)).tolist()
    for name, (x, y, v) in zip(category.get("keypoints") or (), triples, strict=bool(triples)):
        if v:
            point = {"x": _percent(x, size[1]), "y": _percent(y, size[0]), "width": POINT_WIDTH}
            control = "kp" if v == 2 else "kp_hidden"
            found.append(_result(control, "keypointlabels", label_of(category, name), point))
    for number, each in enumerate(found):
        each |= {"id": f"{root}.{number}", "parentID": root} if number else {"id": root}
        each |= {"original_width": size[1], "original_height": size[0], "image_rotation": 0}
        if "score" in one:
            each["score"] = one["score"]
    return found


def write_tasks(out: Place, tasks: Iterable[Mapping[str, Any]]) -> int:
    """Write tasks as one JSON list, all or nothing, one at a time; how many."""
    count = 0
    with staged(out) as draft, draft.open("w", encoding="utf-8") as file:
        file.write("[")
        for count, task in enumerate(tasks, start=1):
            file.write(f"{',' if count > 1 else ''}\n{json.dumps(task, allow_nan=False, separators=(',', ':'))}")
        file.write("\n]\n")
    return count


def _drawn_box(one: Mapping[str, Any], size: Size) -> Sequence[float] | None:
    """The rectangle of an annotation, x, y, width, height; None where it is the bounds of what else there is."""
    segmentation = one.get("segmentation")
    box: Sequence[float] = one.get("ls_box") or one["bbox"]
    if not segmentation or "ls_box" in one:
        return box
    if isinstance(segmentation, Mapping):
        bounds = mask_box(mask_of_rle(rle_of(segmentation, size)))
    else:
        points = np.concatenate([np.reshape(part, (-1, 2)) for part in segmentation])
        (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
        bounds = x1, y1, x2, y2
    x, y, width, height = box
    is_same = bounds is not None and np.allclose(bounds, (x, y, x + width, y + height), rtol=0, atol=_CLOSE)
    return None if is_same else box


def _result(control: str, kind: str, label: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": kind, "from_name": control, "to_name": "image", "value": {**value, kind: [label]}}


def _percent(value: float, side: int) -> float:
    return value / side * 100
