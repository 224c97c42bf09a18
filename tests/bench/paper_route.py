"""The augmentation of the paper (MultiLabel): polygons travel through albumentations as keypoints. For comparison only.

``as_published`` does what the published script does: the first part of each polygon, albumentations' defaults (points
outside of the image are dropped), points given back to objects by their old counts, boxes and classes by their place.
Otherwise: the best that can be done on the same route, with all parts, names that travel along, and nothing dropped.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import albumentations as A
import numpy as np

from tasks.joint_transform import JointObject, Scene
from tasks.outlines import Ring, points_box


def pipeline(steps: Sequence[Any], as_published: bool) -> Any:
    """The steps as the route uses them."""
    return A.Compose(
        list(steps),
        bbox_params=A.BboxParams("coco", label_fields=["ids"], clip=not as_published),
        keypoint_params=A.KeypointParams("xy", remove_invisible=as_published),
        seed=0,
    )


def paper_route(scene: Scene, compose: Any, as_published: bool) -> Scene:
    """The changed scene by albumentations; objects are known by the id that the route gives them."""
    objects = [one for one in scene.objects if one.polygons]  # run-length masks have no vertices to send
    parts = [
        (i, ring) for i, one in enumerate(objects) for ring in (one.polygons[:1] if as_published else one.polygons)
    ]
    points = [one.keypoints if one.keypoints is not None else np.zeros((0, 3)) for one in objects]
    sent = np.concatenate([*(ring for _, ring in parts), *(p[:, :2] for p in points), np.zeros((0, 2))])
    boxes = [_xywh(one, scene) for one in objects]
    made = compose(image=scene.image, bboxes=boxes, ids=list(range(len(objects))), keypoints=sent)
    back = np.reshape(np.asarray(made["keypoints"], np.float64), (-1, 2))
    ids = [int(one) for one in made["ids"]]
    found = []
    rings, joints = _split(back, [len(ring) for _, ring in parts], [len(p) for p in points])
    for place, (box, id) in enumerate(zip(made["bboxes"], ids, strict=True)):
        source = place if as_published else id  # the script knows objects by their place only
        own = tuple(ring for (i, _), ring in zip(parts, rings, strict=True) if i == source)
        x, y, width, height = (float(value) for value in box)
        visible = points[source][: len(joints[source]), 2:]
        found.append(
            JointObject(
                id=objects[source].id,
                box=(x, y, x + width, y + height),
                polygons=own,
                keypoints=np.concatenate([joints[source], visible], 1) if len(points[source]) else None,
            )
        )
    return replace(scene, image=made["image"], objects=tuple(found), semantic=None, depth=None)


def _split(points: Ring, rings: Sequence[int], joints: Sequence[int]) -> tuple[list[Ring], list[Ring]]:
    """Points in the old order and by the old counts, whatever is missing between them."""
    ends = np.cumsum([0, *rings, *joints])
    pieces = [points[a:b] for a, b in pairwise(ends)]
    return pieces[: len(rings)], pieces[len(rings) :]


def _xywh(one: JointObject, scene: Scene) -> tuple[float, float, float, float]:
    """The box, cut at the border: boxes that stick out by a rounding are refused by albumentations."""
    height, width = scene.image.shape[:2]
    x1, y1, x2, y2 = points_box(np.reshape(one.box, (2, 2)).clip(0, (width, height)))
    return x1, y1, x2 - x1, y2 - y1
