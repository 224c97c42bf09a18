"""Entropy: how undecided is one task about its own answer? A baseline that looks at a single task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from strategies.base import Score, Seen, Strategy
from strategies.batches import Over, by_shape, over_boxes
from strategies.views import confident_boxes

_LOG_ZERO = -1e4  # stands for log 0: its exp is exactly 0, and 0 times it is 0 (0 times -inf would be NaN)


@dataclass(frozen=True)
class Entropy(Strategy):
    """The Shannon entropy of the predicted classes in nats (Settles 2009): of a pixel, or of a detection.

    Segmentation averages over the pixels. Detection takes ``over`` of the detections (the three of Brust et al. 2019):
    the sum favours crowded images, the largest is near its bound in most of them. A softmax vector has one entropy, its
    background included; of independent sigmoids those of the classes add up. Nothing detected counts 0, hence last.
    """

    task: Literal["det", "seg"] = "det"
    over: Over = "mean"  # detection only
    min_score: float = 0.3  # detections below are ignored
    max_boxes: int = 50  # an image, best first

    def __post_init__(self) -> None:
        if self.max_boxes < 1:
            raise ValueError(f"Entropy.max_boxes is {self.max_boxes}; expected 1 or more: correct it")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("detection",) if self.task == "det" else ("segmentation",)

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        if not seen:
            return []
        return self._boxes(seen) if self.task == "det" else self._pixels(seen)

    def explain(self, seen: Seen) -> Mapping[str, Tensor]:
        return {} if self.task == "det" else {"entropy": entropy_maps(seen.plain.log_probs[None])[0]}

    def _boxes(self, seen: Sequence[Seen]) -> list[Score]:
        boxes = confident_boxes([s.plain.detections for s in seen], self.min_score, self.max_boxes)
        entropies = box_entropies(boxes.probs, len(seen[0].classes.detection))
        values, counts = over_boxes(entropies, boxes, len(seen), self.max_boxes, self.over)
        return [Score(value, {"boxes": n}) for value, n in torch.stack([values, counts.to(values)], 1).tolist()]

    def _pixels(self, seen: Sequence[Seen]) -> list[Score]:
        scores: dict[int, Score] = {}
        for rows in by_shape([one.plain.log_probs for one in seen]):
            values = entropy_scores(torch.stack([seen[row].plain.log_probs for row in rows]))
            scores |= zip(rows, map(Score, values.tolist()), strict=True)
        return [scores[row] for row in range(len(seen))]


def box_entropies(probs: Tensor, classes: int) -> Tensor:
    """The entropy of each detection, ``[N]`` nats, from raw class vectors ``[N, K]``.

    K = ``classes`` means independent sigmoids: the entropies of C yes-or-no answers, at most C ln 2. One column more is
    a softmax with the background last: at most ln(C + 1). ValueError for another K.
    """
    if probs.shape[1] not in (classes, classes + 1):
        raise ValueError(
            f"box_entropies: probs has {probs.shape[1]} columns for {classes} classes; expected {classes} sigmoids or "
            f"{classes + 1} softmax values: mend the model's detections"
        )
    probs = probs.float()
    terms: Tensor = torch.special.entr(probs)
    if probs.shape[1] == classes:
        terms = terms + torch.special.entr(1 - probs)
    return terms.sum(1)


def entropy_scores(log_probs: Tensor) -> Tensor:
    """The mean entropy of the pixels of each image, ``[B]`` nats in 0..ln K, from log-softmax ``[B, K, h, w]``."""
    terms = _terms(log_probs)
    # axis by axis, so that the order of the sums, hence every bit, does not depend on the other images
    return terms.sum(-1).sum(-1).sum(-1) / (terms.shape[-1] * terms.shape[-2])


def entropy_maps(log_probs: Tensor) -> Tensor:
    """The entropy of each pixel, ``[B, h, w]`` nats."""
    return _terms(log_probs).sum(1)


def _terms(log_probs: Tensor) -> Tensor:
    logs = log_probs.float().contiguous().clamp(min=_LOG_ZERO)
    return -(logs.exp() * logs)
