"""What the paper's route through albumentations loses or moves, against ``tasks.joint_transform``, on real labels.

    python tests/bench/bench_augment.py ../shared/data/coco_keypoints101/annotations_train.json

Both get the same images, objects, polygons and keypoints, and make the same change. Prints a table and records nothing.
"""

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from tasks import transform as t
from tasks.data.augmented_images import Original, read_scene
from tasks.data.combined import CombinedFile
from tasks.geometry import mask_box, mask_of_rle, rle_of_polygons
from tasks.joint_transform import JointObject, Limits, Scene, transform_scene
from tasks.resampling import Resampling
from tests.bench.paper_route import paper_route, pipeline

ALL = Limits(area=0.0, visible=0.0)
TURN, ZOOM = 30, 1.4
Change = tuple[Callable[[t.Size], t.Transform], Callable[[t.Size], list[Any]]]
CHANGES: dict[str, Change] = {
    "mirror": (t.mirrored, lambda size: [A.HorizontalFlip(p=1)]),
    "upside down": (t.upside_down, lambda size: [A.VerticalFlip(p=1)]),
    f"turn by {TURN} degrees": (
        lambda size: t.moved(size, degrees=TURN),
        lambda size: [A.Affine(rotate=(-TURN, -TURN), p=1)],
    ),
    f"zoom by {ZOOM}": (
        lambda size: t.moved(size, scale=ZOOM),
        lambda size: [A.Affine(scale=(ZOOM, ZOOM), p=1)],
    ),
    "cut to the middle half": (
        lambda size: t.cropped(size, size[1] // 4, size[0] // 4, (size[0] // 2, size[1] // 2)),
        lambda size: [
            A.Crop(size[1] // 4, size[0] // 4, size[1] // 4 + size[1] // 2, size[0] // 4 + size[0] // 2, p=1)
        ],
    ),
}


COLUMNS = (
    "change", "way", "images refused", "objects", "outline on its mask: mean IoU", "below 0.5",
    "box off its mask: mean px", "keypoints", "of the right name", "off their place: median px", "largest px",
    "CPU ms an image",
)  # fmt: skip


@dataclass
class Tally:
    """How well one way did under one change."""

    refused: int = 0  # images that the way ends with an error on
    objects: int = 0
    overlaps: list[float] = field(default_factory=list)  # of an object's outline with its moved mask
    boxes: list[float] = field(default_factory=list)  # px: of a box side from the moved mask's
    keypoints: int = 0
    sides: int = 0  # keypoints whose name is that of the point they are at
    offsets: list[float] = field(default_factory=list)  # px, of keypoints from where their pixels went
    seconds: float = 0.0


def main(path: Path) -> None:
    file = CombinedFile(path)
    categories = {one["id"]: one for one in file.categories}
    scenes = [
        read_scene(Original(path.parent, str(path), image, tuple(objects), categories, None)) for image, objects in file
    ]
    count = sum(len(scene.objects) for scene in scenes)
    points = sum(int((one.keypoints[:, 2] > 0).sum()) for s in scenes for one in s.objects if one.keypoints is not None)
    print(f"{len(scenes)} images, {count} objects, {points} labeled keypoints of {path.name}\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for name, change in CHANGES.items():
        for way, tally in measured(scenes, change).items():
            print(f"| {name} | {way} | {row(tally, len(scenes))} |")


def row(tally: Tally, images: int) -> str:
    overlaps, offsets = np.array(tally.overlaps), np.array(tally.offsets)
    cells = [
        *(tally.refused, tally.objects, f"{overlaps.mean():.3f}", f"{(overlaps < 0.5).mean():.1%}"),
        *(f"{np.mean(tally.boxes):.2f}", tally.keypoints, tally.sides),
        *((f"{np.median(offsets):.2f}", f"{offsets.max():.2f}") if len(offsets) else ("-", "-")),
        f"{1000 * tally.seconds / images:.1f}",
    ]
    return " | ".join(map(str, cells))


def measured(scenes: list[Scene], change: Change) -> dict[str, Tally]:
    ways = {name: Tally() for name in ("joint_transform", "paper, as published", "paper, with care")}
    for scene in scenes:
        size = scene.image.shape[0], scene.image.shape[1]
        transform, steps = change[0](size), change[1](size)
        composes = {name: pipeline(steps, name == "paper, as published") for name in ways}
        truth = {one.id: (one, moved_mask(one, transform)) for one in scene.objects}
        for name, tally in ways.items():
            start = process_time()
            try:
                found = (
                    transform_scene(scene, transform, ALL)[0]
                    if name == "joint_transform"
                    else paper_route(scene, composes[name], name == "paper, as published")
                )
            except ValueError:  # albumentations refuses the image
                tally.refused += 1
                continue
            finally:
                tally.seconds += process_time() - start
            check_same_picture(found, scene, transform)
            for one in found.objects:
                judge(one, *truth[one.id], transform, tally)
    return ways


def check_same_picture(found: Scene, scene: Scene, transform: t.Transform) -> None:
    """Both ways made the same change, or nothing can be compared."""
    resampling = Resampling(transform)
    known = resampling.nearest(np.ones(transform.source, bool), False)
    core = cv2.erode(known.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    difference = np.abs(found.image.astype(float) - resampling.linear(scene.image))[core]
    assert difference.mean() < 3, difference.mean()


def moved_mask(one: JointObject, transform: t.Transform) -> NDArray[np.bool_]:
    rle = one.rle or rle_of_polygons([ring.ravel().tolist() for ring in one.polygons], transform.source)
    return Resampling(transform).nearest(mask_of_rle(rle), False)


def judge(one: JointObject, before: JointObject, mask: NDArray[np.bool_], transform: t.Transform, tally: Tally) -> None:
    tight = mask_box(mask)
    if tight is None:  # nothing of it is in the picture: whoever keeps it keeps nothing
        return
    tally.objects += 1
    drawn = np.zeros_like(mask)
    flat = [ring.ravel().tolist() for ring in one.polygons if len(ring) >= 3]
    if one.rle is not None:
        drawn = mask_of_rle(one.rle)
    elif flat:
        drawn = mask_of_rle(rle_of_polygons(flat, transform.target))
    union = (drawn | mask).sum()
    tally.overlaps.append(float((drawn & mask).sum() / union) if union else 0.0)
    tally.boxes.append(float(np.abs(np.array(one.box) - tight).mean()))
    if before.keypoints is not None and one.keypoints is not None:
        judge_keypoints(one.keypoints, before, transform, tally)


def judge_keypoints(points: NDArray[np.float64], before: JointObject, transform: t.Transform, tally: Tally) -> None:
    """Where a point's pixel went; and which name belongs there: in a mirror, left is right."""
    assert before.keypoints is not None
    want, height, width = transform.points(before.keypoints[:, :2]), *transform.target
    names = np.arange(len(want))
    if transform.mirrors:
        for a, b in before.flip_pairs:
            names[a], names[b] = b, a
    labeled = before.keypoints[:, 2] > 0
    inside = labeled & ((want >= 0) & (want < (width, height))).all(1)
    for slot in np.flatnonzero(inside):
        own = points[points[:, 2] > 0][:, :2]
        if not len(own):
            continue
        nearest = float(np.linalg.norm(own - want[slot], axis=1).min())
        tally.offsets.append(nearest)
        tally.keypoints += nearest < 3
        place = int(names[slot])
        is_named = place < len(points) and points[place, 2] > 0
        tally.sides += bool(is_named and np.linalg.norm(points[place, :2] - want[slot]) < 3)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
