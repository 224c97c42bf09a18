"""Core-set: the images that leave no image of the pool far from a labeled one (Sener & Savarese 2018)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import normalize

from strategies.base import Candidates, Direction, Pick, Score, Seen, Strategy


@dataclass(frozen=True)
class CoreSet(Strategy):
    """Farthest-first traversal over the pooled shared features, from the labeled images on.

    The greedy solver, which is what results are reported with; the authors' mixed-integer refinement is not offered.
    Where nothing is labeled, the first pick is the lowest key, a hash, instead of the first row of the pool.
    An image has no value of its own here: ``value`` is its uniform hash.
    """

    metric: Literal["l2", "cosine"] = "l2"  # of the features as they are, or of their directions

    @property
    def reads(self) -> tuple[str, ...]:
        return ("features",)

    @property
    def scores_labeled(self) -> bool:
        return True

    @property
    def prefers(self) -> Direction:
        return "novel"

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        return [Score(one.u, summary=self._feature(one)) for one in seen]

    def select(self, candidates: Candidates, rng: np.random.Generator) -> Sequence[Pick]:
        if not candidates.top_k(1):
            return []
        return [Pick(id, candidates.tasks) for id in candidates.k_center()]

    def _feature(self, seen: Seen) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        features = seen.plain.features
        if features is None:
            raise ValueError(f"CoreSet: image {seen.id!r} has no features; expected a model that provides 'features'")
        features = features.flatten().float()
        if self.metric == "cosine":
            features = normalize(features, dim=0)
        return torch.clone(features).cpu().numpy()
