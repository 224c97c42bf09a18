"""CALD: are the boxes of an image found again when it is mirrored, shrunk, turned, or partly hidden? (Yu et al. 2022)

Where the paper leaves a choice open, the authors' program decides, but for the map of boxes into the turned image,
which is off by up to a pixel there (``rotation_offset``), and for the image at another scale: torchvision's detectors
scale their input back, so that theirs is merely blurred; here the network sees it smaller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from strategies.base import Candidates, Direction, Pick, Score, Seen, Strategy, View
from strategies.cald_terms import (
    Boxes,
    box_distances,
    class_vectors,
    consistency,
    padded,
    references,
    view_consistency,
)
from strategies.cald_views import Cutout, Holes, Offset, Resize, Rotate
from strategies.class_balance import Place, Target, balanced_ids
from strategies.views import HFlip
from tasks.geometry import Size, affine_boxes, clip_boxes
from tasks.types import Detections

Look = Literal["flip", "cutout", "resize", "rotate"]


@dataclass(frozen=True)
class Cald(Strategy):
    """Minus the consistency M of the detections, in -1..0, then a choice of rare classes.

    M is the mean over the views of the least distance of a box from ``beta``; a perfectly stable box of confidence p
    is ``|p - 0.3|`` away, so it looks for boxes near ``beta``, not for the least consistent ones. Images where nothing
    is detected have M = 0, the best there is (their share is the mean of the part ``empty``): where a pool has many of
    them, ``empty="last"`` leaves them for the end.
    """

    looks: tuple[Look, ...] = ("flip", "cutout", "resize", "rotate")
    beta: float = 1.3
    mr: float = 1.2  # times the budget: images that enter the choice by class
    ref_limit: tuple[int, int] = (40, 50)  # of more boxes than the first, as many as the second, evenly spaced
    resize: float = 0.8
    rotate: float = 5.0  # degrees, counter-clockwise
    cutout: Holes = field(default_factory=Holes)
    empty: Place = "first"
    rotation_offset: Offset = "exact"
    balance: Target = "labeled"  # "uniform": choose towards equal numbers of all classes
    min_score: float = 0.05  # detections below are ignored
    max_boxes: int = 100  # an image, best first
    multiple: int = 32  # pixels: sides of the resized image; the model's stride divides it

    def __post_init__(self) -> None:
        if not self.looks or set(self.looks) - set(get_args(Look)) or len(set(self.looks)) < len(self.looks):
            raise ValueError(f"Cald.looks is {self.looks}; expected some of {get_args(Look)}, each once")
        if not 1 <= self.mr < inf:
            raise ValueError(f"Cald.mr is {self.mr}; expected at least 1: it multiplies the budget")
        if not 0 <= self.min_score < 1 or self.max_boxes < 1 or min(self.ref_limit) < 1:
            raise ValueError(
                f"Cald: min_score {self.min_score}, max_boxes {self.max_boxes}, ref_limit {self.ref_limit}; expected a "
                "score in 0..1 and at least one box: correct them"
            )
        assert self.views  # a view refuses its own bad settings

    @property
    def reads(self) -> tuple[str, ...]:
        return ("detection",)

    @property
    def views(self) -> tuple[View, ...]:
        every: dict[str, View] = {
            "flip": HFlip(reads=("detection",)),
            "cutout": Cutout(self.cutout, self.min_score, self.max_boxes, self.ref_limit),
            "resize": Resize(self.resize, self.multiple),
            "rotate": Rotate(self.rotate, self.rotation_offset),
        }
        return tuple(every[look] for look in self.looks)

    @property
    def prefers(self) -> Direction | None:
        """Unsure boxes, but for a ``beta`` that is nearer to the sure and stable ones, or far from all."""
        return "unsure" if 1 <= self.beta <= 1.5 else None

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        scores: dict[int, Score] = {}
        sizes: dict[tuple[int, int], list[int]] = {}
        for row, one in enumerate(seen):
            sizes.setdefault(one.size, []).append(row)
        for rows in sizes.values():  # one, unless images differ in size
            scores |= zip(rows, self._score_alike([seen[row] for row in rows]), strict=True)
        return [scores[row] for row in range(len(seen))]

    def select(self, candidates: Candidates, rng: np.random.Generator) -> Sequence[Pick]:
        chosen = balanced_ids(candidates, self.mr, self.balance, self.empty)
        return [Pick(id, candidates.tasks) for id in chosen]

    def explain(self, seen: Seen) -> Mapping[str, Tensor]:
        refs = references(self._found([seen]), *self.ref_limit)
        _, distances = self._compared([seen], refs)
        near = (1 - distances[0].clamp(max=1)).amax(0)  # [R] in the view that comes nearest
        x1, y1, x2, y2 = refs.boxes[0, :, :, None].unbind(1)  # [R, 1]
        x, y = (torch.arange(n, device=near.device) + 0.5 for n in (seen.size[1], seen.size[0]))
        column = (x >= x1) & (x < x2)
        row = (y >= y1) & (y < y2)
        return {"boxes near beta (1 = at beta)": (near[:, None, None] * row[:, :, None] * column[:, None]).amax(0)}

    def _score_alike(self, seen: Sequence[Seen]) -> list[Score]:
        found = self._found(seen)
        refs = references(found, *self.ref_limit)
        answers, distances = self._compared(seen, refs)
        per_view = view_consistency(distances, refs.one_view(), answers)
        m = consistency(per_view)
        vectors = class_vectors(refs, answers, len(seen[0].classes.detection)).cpu().numpy()
        numbers = torch.cat([m[:, None], per_view, found.there.sum(1, keepdim=True).to(m)], 1).tolist()
        scores = []
        for (m_, *views, boxes), vector in zip(numbers, vectors, strict=True):
            value = -inf if self.empty == "last" and not boxes else 0.0 - m_
            parts = {"m": m_, **{f"m_{look}": v for look, v in zip(self.looks, views, strict=True)}}
            scores.append(Score(value, {**parts, "boxes": boxes, "empty": float(not boxes)}, vector))
        return scores

    def _found(self, seen: Sequence[Seen]) -> Boxes:
        _check_vectors(seen)
        return padded([s.plain.detections for s in seen], self.min_score, self.max_boxes)

    def _compared(self, seen: Sequence[Seen], refs: Boxes) -> tuple[Boxes, Tensor]:
        """The answers ``[B, V, D]`` to the views, and the distances ``[B, V, R]``, of images of one size."""
        size, views = seen[0].size, self.views
        shown = [[s.views[view][0] for view in views] for s in seen]
        found = [_framed(a.detections, view, size) for row in shown for (a, _), view in zip(row, views, strict=True)]
        answers = padded(found, self.min_score, self.max_boxes).view(len(seen), len(views))
        matrices = torch.stack([torch.stack([matrix for _, matrix in row]) for row in shown]).to(refs.boxes.device)
        # float64, so that rounding does not depend on how a product of matrices is carried out
        boxes = refs.boxes[:, None].double().expand(-1, len(views), -1, -1)
        mapped = affine_boxes(boxes, matrices.double()).float()
        turned = [i for i, view in enumerate(views) if isinstance(view, Rotate)]
        mapped[:, turned] = clip_boxes(mapped[:, turned], size)
        classes = len(seen[0].classes.detection)
        return answers, box_distances(mapped, refs.one_view(), answers, classes, self.beta)


def _framed(found: Detections, view: View, size: Size) -> Detections:
    """Boxes in the resized image end where it ends, not where its canvas does."""
    return replace(found, boxes=clip_boxes(found.boxes, view.shown(size))) if isinstance(view, Resize) else found


def _check_vectors(seen: Sequence[Seen]) -> None:
    for one in seen:
        classes, columns = len(one.classes.detection), one.plain.detections.probs.shape[-1]
        if columns not in (classes, classes + 1):
            raise ValueError(
                f"Cald: class vectors of image {one.id!r} have {columns} entries; expected {classes} (sigmoids) or "
                f"{classes + 1} (a softmax with the background last): correct what the model answers"
            )
