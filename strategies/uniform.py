"""Random: the baseline, and the shortest complete strategy."""

from dataclasses import dataclass

import numpy as np

from strategies.base import Score, Seen, Strategy


@dataclass(frozen=True)
class Random(Strategy):
    """A uniform number that is hashed from seed, cycle and image: the same on any worker and in any order.

    It reads nothing, so no image is decoded for it. @plugin-dev: declare ``reads`` and ``views``, and answer a Score.
    """

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        return Score(seen.u)
