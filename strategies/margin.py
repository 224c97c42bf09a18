"""Margin: how close is the second best answer of one task to its best? A baseline that looks at a single task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from strategies.base import Direction, Score, Seen, Strategy
from strategies.batches import Over, box_scores, map_scores


@dataclass(frozen=True)
class Margin(Strategy):
    """One minus the gap between the two likeliest classes (Settles 2009), in 0..1: of a pixel, or of a detection.

    Segmentation averages over the pixels. Detection takes ``over`` of the detections: the sum, mean or maximum of Brust
    et al. 2019, who square the gap's complement; here it is taken as it is. That there is nothing is an answer as well:
    the background of a softmax vector, the complement of the best of independent sigmoids. Nothing detected counts 0,
    hence last.
    """

    task: Literal["det", "seg"] = "det"
    over: Over = "mean"  # detection only
    min_score: float = 0.3  # detections below are ignored
    max_boxes: int = 50  # an image, best first

    def __post_init__(self) -> None:
        if self.max_boxes < 1:
            raise ValueError(f"Margin.max_boxes is {self.max_boxes}; expected 1 or more: correct it")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("detection",) if self.task == "det" else ("segmentation",)

    @property
    def prefers(self) -> Direction:
        return "unsure"

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        if self.task == "seg":
            return map_scores(seen, margin_scores)
        return box_scores(seen, box_margins, self.over, self.min_score, self.max_boxes)

    def explain(self, seen: Seen) -> Mapping[str, Tensor]:
        return {} if self.task == "det" else {"1 - margin": margin_maps(seen.plain.log_probs[None])[0]}


def box_margins(probs: Tensor, classes: int) -> Tensor:
    """1 - (p1 - p2) of each detection, ``[N]`` in 0..1, from raw class vectors ``[N, K]``.

    K = ``classes`` means independent sigmoids, to which 1 - p1 is added as the answer "nothing"; one column more is a
    softmax with the background last. ValueError for another K.
    """
    if probs.shape[1] not in (classes, classes + 1):
        raise ValueError(
            f"box_margins: probs has {probs.shape[1]} columns for {classes} classes; expected {classes} sigmoids or "
            f"{classes + 1} softmax values: mend the model's detections"
        )
    probs = probs.float()
    if probs.shape[1] == classes:
        probs = torch.cat([probs, 1 - probs.amax(1, keepdim=True)], 1)
    best, second = probs.topk(2, dim=1).values.unbind(1)
    return (1 - best) + second


def margin_scores(log_probs: Tensor) -> Tensor:
    """The mean of ``margin_maps`` over the pixels of each image, ``[B]``."""
    closeness = margin_maps(log_probs)
    # axis by axis, so that the order of the sums, hence every bit, does not depend on the other images
    return closeness.sum(-1).sum(-1) / (closeness.shape[-1] * closeness.shape[-2])


def margin_maps(log_probs: Tensor) -> Tensor:
    """1 - (p1 - p2) of each pixel, ``[B, h, w]`` in 0..1, from log-probabilities ``[B, K, h, w]``; 0 where K is 1."""
    logs = log_probs.float()
    best = logs.max(1, keepdim=True)
    second = logs.scatter(1, best.indices, -inf).amax(1)
    # of sure pixels 1 - p1 would be lost to rounding
    return (second.exp() - best.values.squeeze(1).expm1()).clamp(0, 1)
