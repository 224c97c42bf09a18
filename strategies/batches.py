"""What several strategies do with the images of one batch. No bit of an image's answer depends on the other images."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from strategies.views import BatchBoxes

Over = Literal["mean", "max", "sum"]


def by_shape(maps: Sequence[Tensor]) -> list[list[int]]:
    """The rows of the maps that can be stacked, by shape in the order of their first; one list, if all are alike."""
    rows: dict[tuple[int, ...], list[int]] = {}
    for row, one in enumerate(maps):
        rows.setdefault(tuple(one.shape), []).append(row)
    return list(rows.values())


def over_boxes(values: Tensor, boxes: BatchBoxes, count: int, limit: int, over: Over) -> tuple[Tensor, Tensor]:
    """Mean, maximum or sum of ``values [N]`` over the boxes of each of ``count`` images, and how many boxes it has.

    Both are ``[count]``; an image without a box has 0. No image has more than ``limit`` boxes.
    """
    counts = torch.bincount(boxes.image, minlength=count)
    place = torch.arange(len(values), device=values.device) - (counts.cumsum(0) - counts)[boxes.image]
    table = values.new_zeros(count, limit)  # rows of one fixed length have one order of sums
    table[boxes.image, place] = values
    if over == "max":
        return table.amax(1), counts
    total = table.sum(1)
    return (total if over == "sum" else total / counts.clamp(min=1)), counts
