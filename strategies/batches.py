"""What several strategies do with the images of one batch. No bit of an image's answer depends on the other images."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from strategies.base import Score, Seen
from strategies.views import BatchBoxes, confident_boxes

Over = Literal["mean", "max", "sum"]


def by_shape(maps: Sequence[Tensor]) -> list[list[int]]:
    """The rows of the maps that can be stacked, by shape in the order of their first; one list, if all are alike."""
    rows: dict[tuple[int, ...], list[int]] = {}
    for row, one in enumerate(maps):
        rows.setdefault(tuple(one.shape), []).append(row)
    return list(rows.values())


def _over_boxes(values: Tensor, boxes: BatchBoxes, count: int, limit: int, over: Over) -> tuple[Tensor, Tensor]:
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


def box_scores(
    seen: Sequence[Seen], of_boxes: Callable[[Tensor, int], Tensor], over: Over, min_score: float, limit: int
) -> list[Score]:
    """``over`` of what ``of_boxes(probs [N, K], classes)`` says of an image's confident detections; 0 without any."""
    if not seen:
        return []
    boxes = confident_boxes([s.plain.detections for s in seen], min_score, limit)
    values, counts = _over_boxes(of_boxes(boxes.probs, len(seen[0].classes.detection)), boxes, len(seen), limit, over)
    return [Score(value, {"boxes": n}) for value, n in torch.stack([values, counts.to(values)], 1).tolist()]


def map_scores(seen: Sequence[Seen], of_maps: Callable[[Tensor], Tensor]) -> list[Score]:
    """What ``of_maps(log_probs [B, K, h, w]) -> [B]`` says of each image's segmentation."""
    scores: dict[int, Score] = {}
    for rows in by_shape([one.plain.log_probs for one in seen]):
        values = of_maps(torch.stack([seen[row].plain.log_probs for row in rows]))
        scores |= zip(rows, map(Score, values.tolist()), strict=True)
    return [scores[row] for row in range(len(seen))]
