"""Small images of two kinds of parts with boxes, masks and keypoints, and a small R-CNN for them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tasks.classes import ClassMap
from tasks.geometry import rle_of_mask
from tasks.nets.rcnn import MultiHeadRcnn, rcnn
from tasks.types import Batch, Objects, Sample
from tests.tasks.nets.shapes import seeded

TASKS = ("detection", "instances", "keypoints")
CLASSES = ClassMap(("arm", "rod"), (), (-1, -1), ("arm.left", "arm.right", "rod.tip"))
SIZE = (64, 80)
WIDTH = 8  # of the pyramid: what is tested does not depend on it, and wider ones take their time


def part_sample(seed: int, size: tuple[int, int] = SIZE) -> Sample:
    """One bright bar of each kind: an arm is red and has its ends as keypoints, a rod is blue with one tip."""
    rng = np.random.default_rng(seed)
    height, width = size
    image = rng.normal(0.4, 0.02, (3, height, width)).astype(np.float32)
    boxes, rles, points = [], [], np.zeros((2, 3, 3), np.float32)
    for label in range(2):
        w, h = rng.integers(20, 32), rng.integers(12, 20)
        x, y = rng.integers(0, width - w), label * height // 2 + rng.integers(0, height // 2 - h)
        image[:, y : y + h, x : x + w] = np.array([0.9, 0.1, 0.1] if label == 0 else [0.1, 0.1, 0.9])[:, None, None]
        mask = np.zeros(size, np.bool_)
        mask[y : y + h, x : x + w] = True
        boxes.append([x, y, x + w, y + h])
        rles.append(rle_of_mask(mask))
        ends = [(x + 1.5, y + h / 2, 2), (x + w - 1.5, y + h / 2, 1)]
        for place, end in zip((0, 1) if label == 0 else (2,), ends, strict=False):
            points[label, place] = end
    found = Objects(
        torch.tensor(boxes, dtype=torch.float32), torch.arange(2), torch.zeros(2, dtype=torch.bool), tuple(rles),
        torch.from_numpy(points),
    )  # fmt: skip
    return Sample(f"part{seed}", torch.from_numpy(image), dict.fromkeys(TASKS, found))


def batch_of(samples: Sequence[Sample]) -> Batch:
    return Batch.of(samples, TASKS)


def small_rcnn(tasks: Sequence[str] = TASKS, **options: Any) -> MultiHeadRcnn:
    given: dict[str, Any] = {
        **{"backbone": "small", "width": WIDTH, "anchor": 4.0, "proposals": 30, "samples": 16},
        **options,
    }
    return seeded(lambda: rcnn(CLASSES, tasks, **given))
