"""Strategies that go wrong, each in one way."""

from dataclasses import dataclass

import numpy as np

from strategies.base import Score, Seen, Strategy


@dataclass(frozen=True)
class Raises(Strategy):
    """Divides by zero."""

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        return Score(1 / 0)
