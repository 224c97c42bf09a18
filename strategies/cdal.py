"""CDAL: images in which the classes are mistaken for one another in new ways (Agarwal et al. 2020)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from strategies.base import Candidates, Direction, Pick, Score, Seen, Strategy
from strategies.candidates import summaries
from strategies.cdal_terms import (
    Aggregate,
    Block,
    ContextDistance,
    Floats,
    NoCommon,
    box_means,
    dense_means,
    entropy,
    profiles,
    segmentation_means,
)
from strategies.views import confident_boxes

_HEADER = 2  # the first numbers of a summary: how many segmentation and detection classes it covers, 0 = not read


@dataclass(frozen=True)
class CDAL(Strategy):
    """Farthest-first traversal, from the labeled images on, over the contexts of the classes.

    The clustering variant of CDAL. In the authors' program the first pick is random and may be a labeled image; ours
    is the farthest like all others. Their other variant, reinforcement learning, ignores the labeled images and is not
    offered. How detection and segmentation are joined is our reading: the sum of both distances, each divided by its
    mean over pairs of the pool.

    An image has no value of its own here: ``value`` is its uniform hash, by which those pairs are drawn.
    """

    det: Literal["boxes", "dense"] = "boxes"  # context of each class over the detections, or one of all cells
    aggregate: Aggregate = "mean"  # over the classes that two images have in common
    no_common: NoCommon = "zero"  # images without a common class: no distance, or this centre is left out
    tasks: Literal["both", "det", "seg"] = "both"
    pairs_for_scale: int = 10_000  # of unlabeled images, for the mean distances of both tasks
    min_score: float = 0.3  # detections below are ignored (boxes)
    max_boxes: int = 50  # an image, best first (boxes)

    def __post_init__(self) -> None:
        if self.pairs_for_scale < 1:
            raise ValueError(f"CDAL.pairs_for_scale is {self.pairs_for_scale}; expected at least 1 pair")
        if self.max_boxes < 1:
            raise ValueError(f"CDAL.max_boxes is {self.max_boxes}; expected at least 1 box an image")

    @property
    def reads(self) -> tuple[str, ...]:
        detection = "detection" if self.det == "boxes" else "detection.dense"
        return {"both": (detection, "segmentation"), "det": (detection,), "seg": ("segmentation",)}[self.tasks]

    @property
    def scores_labeled(self) -> bool:
        return True

    @property
    def prefers(self) -> Direction:
        return "novel"

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        if not seen:
            return []
        contexts = self._contexts(seen)
        widths = [contexts[task].shape[-1] if task in contexts else 0 for task in ("seg", "det")]
        some = next(iter(contexts.values()))
        header = some.new_tensor(widths).expand(len(seen), _HEADER)
        kept = torch.cat([header, *(profiles(one) for one in contexts.values())], 1).cpu().numpy()
        counts = {f"{task}_classes": (one[..., 0] > 0).sum(1).tolist() for task, one in contexts.items()}
        return [
            Score(one.u, {part: float(found[row]) for part, found in counts.items()}, kept[row])
            for row, one in enumerate(seen)
        ]

    def select(self, candidates: Candidates, rng: np.random.Generator) -> Sequence[Pick]:
        sample = candidates.top_k(2 * self.pairs_for_scale if self.tasks == "both" else 1)
        if not sample:
            return []
        distance = self.distance(_summaries(candidates, sample), rng)
        return [Pick(id, candidates.tasks) for id in candidates.k_center(distance=distance)]

    def explain(self, seen: Seen) -> Mapping[str, Tensor]:
        if self.tasks == "det":
            return {}
        logs = seen.plain.log_probs
        return {"weight of a pixel in the context of its class": entropy(logs.flatten(1).T).view(logs.shape[1:])}

    def distance(self, sample: Floats, rng: np.random.Generator) -> ContextDistance:
        """The distance over summaries; two tasks are scaled by pairs that are drawn of ``sample [P, S]``."""
        seg, det = (int(classes) for classes in sample[0, :_HEADER])
        blocks, start = [], _HEADER
        for regions, width in ((seg, seg), (det if self.det == "boxes" else 1, det)):
            if width:
                blocks.append(Block(start, regions, width))
                start = blocks[-1].columns.stop
        found = ContextDistance(tuple(blocks), self.aggregate, self.no_common)
        if len(blocks) < 2 or len(sample) < 2:
            return found
        first = rng.integers(0, len(sample), self.pairs_for_scale)
        second = (first + rng.integers(1, len(sample), self.pairs_for_scale)) % len(sample)  # never the same image
        return found.scaled(sample[first], sample[second])

    def _contexts(self, seen: Sequence[Seen]) -> dict[str, Tensor]:
        """Contexts ``[B, R, K]`` of the tasks that are read."""
        contexts = {}
        if self.tasks != "det":
            contexts["seg"] = segmentation_means([one.plain.log_probs for one in seen])
        if self.tasks != "seg":
            contexts["det"] = self._of_boxes(seen) if self.det == "boxes" else self._of_cells(seen)
        return contexts

    def _of_boxes(self, seen: Sequence[Seen]) -> Tensor:
        chosen = confident_boxes([one.plain.detections for one in seen], self.min_score, self.max_boxes)
        classes = len(seen[0].classes.detection)  # a softmax vector has the background last
        return box_means(chosen.probs[:, :classes], chosen.labels, chosen.image, len(seen))

    def _of_cells(self, seen: Sequence[Seen]) -> Tensor:
        logits = [one.plain.dense for one in seen]
        if missing := [one.id for one, cells in zip(seen, logits, strict=True) if cells is None]:
            raise ValueError(f"CDAL: image {missing[0]!r} has no dense logits; expected a model with 'detection.dense'")
        classes = len(seen[0].classes.detection)
        return dense_means([cells[:, :classes] for cells in logits if cells is not None])


def _summaries(candidates: Candidates, ids: Sequence[str]) -> Floats:
    return summaries(candidates.rows(ids)["summary"]).astype(np.float64)
