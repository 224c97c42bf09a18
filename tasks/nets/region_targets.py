"""What an R-CNN is told about one image: its objects as tensors, each with the labels that it has."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tasks.classes import ClassMap
from tasks.geometry import mask_of_rle
from tasks.types import Objects, Target


@dataclass(frozen=True)
class Regions:
    """The objects of one image that boxes are learned from, and where there is a crowd."""

    boxes: Tensor  # [N, 4] xyxy, not empty
    labels: Tensor  # [N] int64, 1-based: 0 is the background of an R-CNN
    crowd: Tensor  # [M, 4] xyxy: what lies in these is neither an object nor background
    masks: Tensor  # [N, H, W] uint8, or [N, 0, 0] where none is asked for
    has_mask: Tensor  # [N] bool
    keypoints: Tensor  # [N, K, 3] in slots


def slots_of(classes: ClassMap) -> Tensor:
    """``[C, K]``: which keypoint of the data set stands in each slot of a class, -1 for none; K is the most of a class.

    A keypoint whose name begins with a class and a dot ("rocker.tip") is that class's alone. Where no name does, every
    class has all keypoints.
    """
    prefixes = tuple(f"{name}." for name in classes.detection)
    own = [list(range(len(classes.keypoints))) for _ in prefixes]
    if any(name.startswith(prefixes) for name in classes.keypoints):
        own = [[i for i, name in enumerate(classes.keypoints) if name.startswith(p)] for p in prefixes]
    slots = torch.full((len(own), max(map(len, own), default=0)), -1)
    for row, mine in zip(slots, own, strict=True):
        row[: len(mine)] = torch.tensor(mine, dtype=torch.int64)
    return slots


def regions_of(
    detection: Target | None,
    instances: Target | None,
    keypoints: Target | None,
    slots: Tensor,
    size: tuple[int, int],
    device: torch.device,
    *,
    around_points: bool,
) -> Regions:
    """The objects of an image of H, W that boxes can be learned from, with the masks and keypoints that are labeled.

    Crowds and empty boxes are no objects. ``around_points`` makes a box so large that it holds its labeled keypoints.
    No target at all is an image without objects. ValueError where targets are not of the same objects.
    """
    given = [target for target in (detection, instances, keypoints) if target is not None]
    objects = [target for target in given if isinstance(target, Objects)]
    if len(objects) < len(given) or len({len(one.boxes) for one in objects}) > 1:
        raise ValueError(
            f"targets of boxes, masks and keypoints are {[type(one).__name__ for one in given]} of "
            f"{[len(one.boxes) for one in objects]} objects; expected the same Objects for all"
        )
    if not objects:
        objects = [Objects(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool))]
    first = objects[0]
    labels, crowd = first.labels.to(device), first.crowd.to(device)
    points = _slotted(keypoints, labels, slots.to(device), device)
    boxes = first.boxes.to(device).float()
    if around_points:
        boxes = _around(boxes, points)
    usable = ~crowd & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    rows = usable.nonzero().flatten()
    masks, has_mask = _masks(instances, rows.tolist(), size)
    return Regions(
        boxes[rows], labels[rows] + 1, first.boxes.to(device).float()[crowd], masks.to(device), has_mask.to(device),
        points[rows],
    )  # fmt: skip


def _slotted(target: Target | None, labels: Tensor, slots: Tensor, device: torch.device) -> Tensor:
    """``[N, K, 3]`` keypoints in the slots of each object's class; v = 0 where there is none."""
    found = torch.zeros(len(labels), slots.shape[1], 3, device=device)
    if not isinstance(target, Objects) or target.keypoints is None or not found.numel():
        return found
    mine = slots[labels]
    rows = torch.arange(len(labels), device=device)[:, None]
    points = target.keypoints.to(device).float()
    return points[rows, mine.clamp(min=0)] * (mine >= 0)[..., None]


def _around(boxes: Tensor, points: Tensor) -> Tensor:
    labeled = points[..., 2:] > 0
    low = points[..., :2].masked_fill(~labeled, torch.inf)
    high = points[..., :2].masked_fill(~labeled, -torch.inf)
    if not points.shape[1]:
        return boxes
    return torch.cat([torch.minimum(boxes[:, :2], low.amin(1)), torch.maximum(boxes[:, 2:], high.amax(1))], 1)


def _masks(target: Target | None, rows: Sequence[int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """``[N, H, W]`` masks of some objects and which of them have one."""
    rles = target.rles if isinstance(target, Objects) and target.rles else None
    masks = torch.zeros(len(rows), *(size if rles else (0, 0)), dtype=torch.uint8)
    has_mask = torch.zeros(len(rows), dtype=torch.bool)
    for place, row in enumerate(rows if rles else ()):
        rle = rles[row] if rles else None
        if rle is None:
            continue
        mask = mask_of_rle(rle)
        if mask.shape != size:
            raise ValueError(f"instances target has a mask of {mask.shape}; expected {size}, the size of the image")
        masks[place], has_mask[place] = torch.from_numpy(mask.astype(np.uint8)), True
    return masks, has_mask
