"""Joint augmentation: pixels, boxes, masks, keypoints, semantic and depth maps change together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tasks.classes import ClassMap
from tasks.geometry import (
    Window,
    affine_boxes,
    affine_keypoints,
    box_area,
    clip_boxes,
    hflip_boxes,
    hflip_keypoints,
    hflip_rles,
    sample_nearest,
    window_matrix,
    window_rles,
)
from tasks.types import Objects, Sample, Target

_VISIBLE = 0.25  # an object of which less is left is ignored: neither trained on nor counted as background


@dataclass(frozen=True)
class Augment:
    """Random changes of a training sample. The fields are YAML keys."""

    flip: float = 0.5  # probability of the mirror image
    zoom: float = 0.0  # probability of a zoom into a part of the image
    zoom_range: tuple[float, float] = (1.0, 2.0)  # how far, uniformly
    colour: float = 0.0  # how much brightness, contrast and saturation may change: 0.25 = by up to a quarter

    def __post_init__(self) -> None:
        for name in ("flip", "zoom", "colour"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} is {getattr(self, name)}; expected 0..1")
        if not 1 <= self.zoom_range[0] <= self.zoom_range[1]:
            raise ValueError(f"augment.zoom_range is {self.zoom_range}; expected 1 <= from <= to")

    def apply(self, sample: Sample, classes: ClassMap, rng: np.random.Generator) -> Sample:
        """The changed sample, of the same size. Draws eight numbers, whatever happens; the given one stays."""
        flip, zoom, factor, left, top, *light = rng.random(8).tolist()
        if flip < self.flip:
            sample = hflip_sample(sample, classes)
        if zoom < self.zoom:
            low, high = self.zoom_range
            sample = zoom_sample(sample, low + factor * (high - low), (left, top))
        if self.colour:
            sample = replace(sample, image=relit(sample.image, *[1 + self.colour * (2 * u - 1) for u in light]))
        return sample


def relit(image: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """The image ``[3, H, W]`` in other light: each factor 1 leaves it as it is. Stays within 0..1."""
    grey = image.mean(0, keepdim=True)
    image = torch.lerp(grey.expand_as(image), image, saturation)
    return image.sub(grey.mean()).mul(contrast).add(grey.mean()).mul(brightness).clamp(0, 1)


def hflip_sample(sample: Sample, classes: ClassMap) -> Sample:
    """The mirror image with its labels. Done twice it gives back the same pixels and masks bit for bit.

    Boxes and keypoints come back exactly where W - x has no rounding in float32 (pixels and binary fractions of them).
    """
    width = sample.image.shape[-1]

    def flip(objects: Objects) -> Objects:
        points = objects.keypoints
        return replace(
            objects,
            boxes=hflip_boxes(objects.boxes, width),
            rles=hflip_rles(objects.rles),
            keypoints=None if points is None else hflip_keypoints(points, width, classes.flip_pairs),
        )

    done = _once_each(sample.targets, flip)
    return replace(
        sample,
        image=sample.image.flip(-1),
        targets={task: done[id(x)] if isinstance(x, Objects) else x.flip(-1) for task, x in sample.targets.items()},
        inputs={name: x.flip(-1) for name, x in sample.inputs.items()},
    )


def zoom_sample(sample: Sample, factor: float, at: tuple[float, float]) -> Sample:
    """1 / factor of the image, at the share ``at`` (of x, of y) of the possible places, enlarged to the image's size.

    Boxes are clipped; objects that are outside go, those with less than a quarter of their box inside become crowds,
    which nobody trains on. Semantic maps and masks: nearest. Depth, a label or a sensor's: nearest, divided by the
    enlargement, as what is seen enlarged is seen from nearer. Other inputs: nearest.
    """
    height, width = sample.image.shape[-2:]
    rows, columns = max(1, round(height / factor)), max(1, round(width / factor))
    left, top = int(at[0] * (width - columns + 1)), int(at[1] * (height - rows + 1))
    window = (float(left), float(top), float(left + columns), float(top + rows))
    scale = sqrt((height / rows) * (width / columns))

    def zoom(objects: Objects) -> Objects:
        return _zoom_objects(objects, window, (height, width))

    def zoom_map(values: Tensor) -> Tensor:
        picked = torch.from_numpy(sample_nearest(values.numpy(), window, (height, width)))
        return picked / scale if values.is_floating_point() else picked

    done = _once_each(sample.targets, zoom)
    return replace(
        sample,
        image=_enlarge(sample.image, window, (height, width)),
        targets={task: done[id(x)] if isinstance(x, Objects) else zoom_map(x) for task, x in sample.targets.items()},
        inputs={
            name: _zoom_input(x, window, (height, width)) / (scale if name == "depth" else 1.0)
            for name, x in sample.inputs.items()
        },
    )


def _once_each(targets: Mapping[str, Target], change: Callable[[Objects], Objects]) -> dict[int, Objects]:
    """The changed objects by the identity of the old ones: several tasks may share them."""
    return {id(x): change(x) for x in {id(x): x for x in targets.values()}.values() if isinstance(x, Objects)}


def _zoom_objects(objects: Objects, window: Window, size: tuple[int, int]) -> Objects:
    matrix = window_matrix(window, size)
    moved = affine_boxes(objects.boxes, matrix)
    boxes = clip_boxes(moved, size)
    visible = box_area(boxes) / box_area(moved)
    keep = (visible > 0).nonzero().flatten()
    return Objects(
        boxes=boxes[keep],
        labels=objects.labels[keep],
        crowd=(objects.crowd | (visible < _VISIBLE))[keep],
        rles=window_rles([objects.rles[i] for i in keep.tolist()], window, size) if objects.rles else (),
        keypoints=None if objects.keypoints is None else affine_keypoints(objects.keypoints[keep], matrix, size),
    )


def _enlarge(image: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
    left, top, right, bottom = map(int, window)
    part = image[None, :, top:bottom, left:right]
    if part.shape[-2:] == size:
        return image
    return interpolate(part, size=size, mode="bilinear", align_corners=False)[0]


def _zoom_input(values: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
    """The same part of a map ``[c, h, w]`` that may be smaller than the image."""
    height, width = values.shape[-2:]
    sx, sy = width / size[1], height / size[0]
    left, top, right, bottom = window
    part = (left * sx, top * sy, right * sx, bottom * sy)
    return torch.stack([torch.from_numpy(sample_nearest(v.numpy(), part, (height, width))) for v in values])
