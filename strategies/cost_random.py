"""Random, matched to the objects: a draw in which an image's chance grows with the boxes it is predicted to hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log

import numpy as np
import torch

from strategies.base import Direction, Score, Seen, Strategy

_SMALLEST = 2.0**-54  # stands for u = 0, half of the next larger u
_NOTHING = -39.0  # below ln(2**-54), the least value of an image that holds one object


@dataclass(frozen=True)
class CostRandom(Strategy):
    """A weighted draw without replacement: weight = ``base`` + number of detections, from the hash that Random uses.

    Strategies that score by objects buy crowded images, which cost more and teach more than those of a plain draw; this
    is the draw to compare them with. Where every image holds the same number of objects it picks what Random picks.
    With ``base=0`` images without a detection come last, among themselves at random; a large base is Random again.
    """

    base: float = 0.0  # objects that every image counts in addition
    min_score: float = 0.3  # detections below are not counted

    def __post_init__(self) -> None:
        if not (self.base >= 0 and isfinite(self.base)):
            raise ValueError(f"CostRandom.base is {self.base}; expected 0 or more objects, and finite: correct it")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("detection",)

    @property
    def prefers(self) -> Direction:
        return "crowded"

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        if not seen:
            return []
        counts = torch.stack([(one.plain.detections.scores >= self.min_score).sum() for one in seen]).tolist()
        return [
            Score(draw_priority(one.u, self.base + count), {"objects": float(count)})
            for one, count in zip(seen, counts, strict=True)
        ]


def draw_priority(u: float, weight: float) -> float:
    """ln(u) / weight for u in [0, 1): the k highest are a draw without replacement by weight, one after the other.

    Efraimidis & Spirakis 2006 (their key u ** (1 / weight), by its logarithm, which does not run into 1). Weight 0
    comes after every weight of 1 and more, by u.
    """
    if weight == 0:
        return _NOTHING + u
    return log(max(u, _SMALLEST)) / weight
