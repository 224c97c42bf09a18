"""Random scenes with objects of every form, and random chains of changes."""

import numpy as np
from numpy.typing import NDArray

from tasks import transform as t
from tasks.geometry import rle_of_mask, rle_of_polygons
from tasks.joint_transform import JointObject, Scene
from tasks.outlines import Ring, points_box

PAIRS = ((1, 2), (3, 4))
FORMS = ("polygon", "parts", "mask", "box", "crossing")


def random_scene(rng: np.random.Generator, count: int = 5) -> Scene:
    """An image of a random size with objects of each form in turn; some reach beyond its border."""
    size = int(rng.integers(40, 120)), int(rng.integers(40, 120))
    objects = tuple(random_object(rng, i, FORMS[i % len(FORMS)], size) for i in range(count))
    semantic = rng.integers(0, 5, size, dtype=np.uint8)
    return Scene(rng.integers(0, 256, (*size, 3), dtype=np.uint8), objects, semantic, rng.random(size, np.float32))


def random_object(rng: np.random.Generator, id: int, form: str, size: t.Size) -> JointObject:
    """A star, two of them, the mask of one, the box of one, or a ring that crosses itself."""
    rings = [star(rng, size) for _ in range(2 if form == "parts" else 1)]
    if form == "crossing":
        rings[0] = rings[0][rng.permutation(len(rings[0]))]
    corners = np.concatenate(rings)
    v = rng.integers(0, 3, (6, 1))
    points = np.concatenate([rng.uniform(corners.min(0), corners.max(0), (6, 2)) * (v > 0), v], 1)
    rle = None
    if form == "mask":
        rle = (
            rle_of_polygons([rings[0].ravel().tolist()], size) if rng.random() < 0.5 else rle_of_mask(blots(rng, size))
        )
    return JointObject(
        id=id,
        box=points_box(corners),
        polygons=() if form in ("mask", "box") else tuple(rings),
        rle=rle,
        keypoints=points if id % 3 < 2 else None,
        flip_pairs=PAIRS,
        crowd=bool(rng.random() < 0.2),
    )


def star(rng: np.random.Generator, size: t.Size) -> Ring:
    """A ring around a centre within the image."""
    count = int(rng.integers(3, 20))
    angles = np.sort(rng.uniform(0, 2 * np.pi, count))
    reach = rng.uniform(0.4, 1.0, (count, 1)) * rng.uniform(4, 0.4 * min(size))
    centre = rng.uniform((0, 0), (size[1], size[0]))
    ring: Ring = centre + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
    return ring


def blots(rng: np.random.Generator, size: t.Size) -> NDArray[np.bool_]:
    """A mask of noise, a band over whole columns, everything, or nothing."""
    mask = rng.random(size) < rng.choice([0.0, 0.02, 0.7, 1.0])
    if rng.random() < 0.5:
        mask[:, size[1] // 3 : size[1] // 2] = True
    return mask


def random_chain(
    rng: np.random.Generator, size: t.Size, length: int, kinds: str = "flips turns moves tilts cuts sizes"
) -> t.Transform:
    """Some changes one after the other, as one matrix."""
    change = t.identity(size)
    for kind in rng.choice(kinds.split(), length):
        change = change.then(random_step(rng, change.target, str(kind)))
    return change


def random_step(rng: np.random.Generator, size: t.Size, kind: str) -> t.Transform:
    """One change of an image of H, W."""
    height, width = size
    if kind == "flips":
        return (t.mirrored, t.upside_down)[int(rng.integers(2))](size)
    if kind == "turns":
        return t.quarter_turned(size, int(rng.integers(4)))
    if kind == "moves":
        shift = (float(rng.uniform(-9, 9)), float(rng.uniform(-9, 9)))
        return t.moved(size, rng.uniform(-180, 180), rng.uniform(0.6, 1.6), shift, rng.uniform(-20, 20))
    if kind == "tilts":
        corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
        return t.tilted(size, corners + rng.uniform(-0.15, 0.15, (4, 2)) * (width, height))
    if kind == "cuts":
        part = int(rng.integers(height // 2, height + 1)), int(rng.integers(width // 2, width + 1))
        top, left = int(rng.integers(height - part[0] + 1)), int(rng.integers(width - part[1] + 1))
        return t.cropped(size, left, top, part)
    return t.resized(size, (int(rng.integers(30, 130)), int(rng.integers(30, 130))))
