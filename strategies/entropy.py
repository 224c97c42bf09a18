"""Entropy: how undecided is one task about its own answer? A baseline that looks at a single task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from strategies.base import Direction, Score, Seen, Strategy
from strategies.batches import Over, box_scores, map_scores

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

    @property
    def prefers(self) -> Direction:
        return "unsure"

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        if self.task == "seg":
            return map_scores(seen, entropy_scores)
        return box_scores(seen, box_entropies, self.over, self.min_score, self.max_boxes)

    def explain(self, seen: Seen) -> Mapping[str, Tensor]:
        return {} if self.task == "det" else {"entropy": entropy_maps(seen.plain.log_probs[None])[0]}


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
