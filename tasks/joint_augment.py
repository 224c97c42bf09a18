"""Joint augmentation: a recipe on an image with all its labels, as they are stored or as a network is trained on them.

``augment_scene`` makes copies of stored images, ``JointAugment`` changes training samples as they are read; both draw
from the same recipe and move labels by the same arithmetic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.classes import ClassMap
from tasks.joint_transform import IGNORE, JointObject, Limits, Removed, Scene, transform_objects, transform_scene
from tasks.photometric import relight
from tasks.recipe import Recipe
from tasks.resampling import Resampling
from tasks.seeding import rng_of, seed_of
from tasks.transform import Transform
from tasks.types import Objects, Sample, Target


def augment_scene(scene: Scene, recipe: Recipe, *key: object) -> tuple[Scene, Transform, list[Removed]]:
    """A changed copy, how points went there, and the objects it lost: a pure function of its arguments.

    ``key`` is what the draw is for: seed, image id, number of the copy.
    """
    height, width = scene.image.shape[:2]
    transform = recipe.draw(rng_of(*key, "geometry"), (height, width))
    changed, removed = transform_scene(scene, transform, Limits(recipe.min_area, recipe.min_visible))
    image = relight(changed.image, recipe.photometric, seed_of(*key, "photometric"))
    return replace(changed, image=image), transform, removed


@dataclass(frozen=True)
class JointAugment:
    """A recipe on training samples, which keep their size.

    Objects of which less than ``min_visible`` is left become crowds: neither trained on nor counted as background.
    """

    recipe: Recipe

    def apply(self, sample: Sample, classes: ClassMap, rng: np.random.Generator) -> Sample:
        """The changed sample; the given one stays. Images are rounded to 8 bits, as they were stored."""
        height, width = sample.image.shape[-2:]
        transform = self.recipe.draw(rng, (height, width), keep_size=True)
        resampling = Resampling(transform)
        pixels = sample.image.mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
        image = relight(resampling.linear(pixels), self.recipe.photometric, int(rng.integers(1 << 32)))
        targets: dict[str, Target] = {}
        done: dict[int, Objects] = {}  # several tasks share the objects of an image
        for task, target in sample.targets.items():
            if isinstance(target, Objects):
                if id(target) not in done:
                    done[id(target)] = self._objects(target, classes, transform, resampling)
                targets[task] = done[id(target)]
            else:
                targets[task] = _map(target, transform, resampling)
        inputs = {name: _input(name, values, transform) for name, values in sample.inputs.items()}
        return Sample(sample.id, torch.from_numpy(image).permute(2, 0, 1).float().div_(255), targets, inputs)

    def _objects(self, objects: Objects, classes: ClassMap, transform: Transform, resampling: Resampling) -> Objects:
        limits = Limits(self.recipe.min_area, self.recipe.min_visible, "crowd")
        before = [_joint(objects, i, classes) for i in range(len(objects.labels))]
        after, _ = transform_objects(before, transform, resampling, limits)
        index = torch.tensor([one.id for one in after], dtype=torch.int64)
        points = objects.keypoints
        rles: tuple[Mapping[str, object] | None, ...] = tuple(one.rle for one in after) if objects.rles else ()
        return Objects(
            boxes=torch.tensor([one.box for one in after], dtype=torch.float32).reshape(-1, 4),
            labels=objects.labels[index],
            crowd=torch.tensor([one.crowd for one in after], dtype=torch.bool),
            rles=rles,
            keypoints=None
            if points is None
            else torch.from_numpy(_stacked([one.keypoints for one in after], points.shape[1])),
        )


def _joint(objects: Objects, i: int, classes: ClassMap) -> JointObject:
    x1, y1, x2, y2 = objects.boxes[i].tolist()
    return JointObject(
        id=i,
        box=(x1, y1, x2, y2),
        rle=objects.rles[i] if objects.rles else None,
        keypoints=None if objects.keypoints is None else objects.keypoints[i].double().numpy(),
        flip_pairs=classes.flip_pairs,
        crowd=bool(objects.crowd[i]),
    )


def _stacked(points: list[Any], count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.asarray(points, np.float32).reshape(-1, count, 3)


def _map(values: Tensor, transform: Transform, resampling: Resampling) -> Tensor:
    """A semantic map (integers; 255 where nothing is known) or a depth map (metres; NaN)."""
    if not values.is_floating_point():
        return torch.from_numpy(resampling.nearest(values.numpy(), IGNORE))
    return torch.from_numpy(resampling.nearest(values.numpy(), np.nan)) / transform.depth_scale


def _input(name: str, values: Tensor, transform: Transform) -> Tensor:
    """A sensor's map ``[c, h, w]``, which may be smaller than the image; 0 where nothing is known."""
    height, width = values.shape[-2:]
    own = Resampling(transform.scaled((height, width), (height, width)))
    moved = torch.from_numpy(own.nearest(values.permute(1, 2, 0).contiguous().numpy(), 0)).permute(2, 0, 1)
    return (moved / transform.depth_scale if name == "depth" else moved).contiguous()
