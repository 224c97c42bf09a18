"""Joint augmentation against the paper's route through albumentations, in images a second of one thread.

    python tests/bench/bench_augment_speed.py [--record]

Images of 480 x 360 px with ten objects: a polygon of 20 to 40 corners and 17 keypoints each. Both make the same changes
in turn, image by image, and the ratio is that of their CPU time. The route's pipeline is made once, before the clock
starts. It neither cuts polygons at the border nor computes areas; ours does.
"""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

import albumentations as A
import cv2
import numpy as np

from tasks.joint_augment import augment_scene
from tasks.joint_transform import JointObject, Scene, transform_scene
from tasks.outlines import points_box
from tasks.recipe import Recipe
from tests.bench.bench_augment import ALL, CHANGES
from tests.bench.paper_route import paper_route, pipeline
from tests.bench.results import LOAD, record

SIZE = (360, 480)
ROUNDS = 120
LIGHT: tuple[dict[str, Any], ...] = ({"name": "ColorJitter", "p": 1.0}, {"name": "GaussNoise", "p": 1.0})
GEOMETRY = {"rotate": 15.0, "scale": (0.8, 1.25), "shift": 0.05}
Run = Callable[[Scene, int], object]


def main(is_recorded: bool) -> None:
    cv2.setNumThreads(1)
    scenes = [scene_of(seed) for seed in range(8)]
    rows = [(name, *raced(scenes, *ways)) for name, ways in races().items()]
    for name, ours, theirs in rows:
        print(f"{name:40s} {1 / ours:6.0f} images/s, {1 / theirs:6.0f} by the paper's route: {theirs / ours:.2f} times")
    print(f"load {LOAD:.1f} at the start, {os.getloadavg()[0]:.1f} at the end")
    if is_recorded:
        told = "; ".join(f"{name} {theirs / ours:.2f}" for name, ours, theirs in rows)
        record(f"images/s of joint augmentation, as a multiple of the paper's route through albumentations: {told}")


def races() -> dict[str, tuple[Run, Run]]:
    """What both do: one change each, then a random recipe, without and with light."""
    found: dict[str, tuple[Run, Run]] = {}
    for name, (change, steps) in CHANGES.items():
        transform, compose = change(SIZE), pipeline(steps(SIZE), False)
        found[name] = (
            lambda scene, _, transform=transform: transform_scene(scene, transform, ALL),
            lambda scene, _, compose=compose: paper_route(scene, compose, False),
        )
    affine = A.Affine(rotate=(-15, 15), scale=(0.8, 1.25), translate_percent=(-0.05, 0.05), balanced_scale=False, p=1)
    geometry = [A.HorizontalFlip(p=0.5), affine]
    for name, light in (("a recipe without light", ()), ("the recipe with ColorJitter and GaussNoise", LIGHT)):
        recipe = Recipe(**GEOMETRY, photometric=light)  # type: ignore[arg-type]
        more = [getattr(A, step["name"])(p=step["p"]) for step in light]
        compose = pipeline([*geometry, *more], False)
        found[name] = (
            lambda scene, copy, recipe=recipe: augment_scene(scene, recipe, 0, "a.jpg", copy),
            lambda scene, _, compose=compose: paper_route(scene, compose, False),
        )
    return found


def raced(scenes: list[Scene], *ways: Run) -> tuple[float, ...]:
    """Median CPU seconds an image of each way; the ways take turns, so that a busy machine slows all alike."""
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(-len(scenes), ROUNDS):  # the first of each are not counted
        scene = scenes[turn % len(scenes)]
        for i, way in enumerate(ways):
            start = process_time()
            way(scene, turn)
            seconds[i].append(process_time() - start)
    return tuple(float(np.median(one[len(scenes) :])) for one in seconds)


def scene_of(seed: int) -> Scene:
    """A smooth image with ten objects."""
    rng = np.random.default_rng(seed)
    noise: Any = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    return Scene(cv2.GaussianBlur(noise, (0, 0), 3), tuple(object_of(rng, i) for i in range(10)))


def object_of(rng: np.random.Generator, id: int) -> JointObject:
    """A star that lies in the image, with keypoints in it."""
    count = int(rng.integers(20, 41))
    angles = np.sort(rng.uniform(0, 2 * np.pi, count))
    reach, centre = rng.uniform(20, 60), rng.uniform((60, 60), (SIZE[1] - 60, SIZE[0] - 60))
    spokes = np.stack([np.cos(angles), np.sin(angles)], 1)
    ring = centre + reach * rng.uniform(0.7, 1, (count, 1)) * spokes
    v = rng.integers(0, 3, (17, 1))
    points = np.concatenate([(centre + rng.uniform(-reach / 2, reach / 2, (17, 2))) * (v > 0), v], 1)
    pairs = tuple((i, i + 1) for i in range(1, 17, 2))
    return JointObject(id=id, box=points_box(ring), polygons=(ring,), keypoints=points, flip_pairs=pairs)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main("--record" in sys.argv[1:])
