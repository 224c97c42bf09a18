"""Strategies that go wrong, each in one way."""

from dataclasses import dataclass

import numpy as np

from strategies.base import Candidates, Pick, Score, Seen, Strategy


@dataclass(frozen=True)
class Raises(Strategy):
    """Divides by zero."""

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        return Score(1 / 0)


@dataclass(frozen=True)
class TooMany(Strategy):
    """Ignores its budget."""

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        return Score(seen.u)

    def select(self, candidates: Candidates, rng: np.random.Generator) -> list[Pick]:
        return [Pick(id, candidates.tasks) for id in candidates.top_k(int(candidates.budget.amount) + 1)]


@dataclass(frozen=True)
class Twice(Strategy):
    """Buys its favourite twice."""

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        return Score(seen.u)

    def select(self, candidates: Candidates, rng: np.random.Generator) -> list[Pick]:
        return [Pick(id, candidates.tasks) for id in candidates.top_k(1) * 2]


@dataclass(frozen=True)
class Elsewhere(Strategy):
    """Buys what nobody offers."""

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        return Score(seen.u)

    def select(self, candidates: Candidates, rng: np.random.Generator) -> list[Pick]:
        return [Pick("nowhere", candidates.tasks)]


@dataclass(frozen=True)
class NotANumber(Strategy):
    """Answers NaN."""

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        return Score(float("nan"))


@dataclass(frozen=True)
class Centres(Strategy):
    """A diversity strategy: also sees what is labeled, and keeps a summary."""

    @property
    def scores_labeled(self) -> bool:
        return True

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        return Score(0.0, summary=np.array([seen.u, 1 - seen.u], np.float32))

    def select(self, candidates: Candidates, rng: np.random.Generator) -> list[Pick]:
        return [Pick(id, ("segmentation",)) for id in candidates.k_center()]
