"""BoxMask: do the boxes and the segmentation of an image tell the same story? (Hekimoglu et al. 2023)

The box is looked at once more, enlarged; the segmentation of that crop gives the mask of the object (the BoxMask). Then

* S_loc (Eq. 1): the share of the mask that the segmentation of the whole image calls something else,
* S_cls (Eq. 2): the mean symmetric KL divergence, over the mask, between the segmentation's and the box's classes,
* S_seg (Eq. 3): the share of the pixels outside of all masks that the segmentation calls a detection class,

and the score is S_seg plus the largest S_loc + S_cls of a box. No program of the authors is public: thresholds, crops,
the floor of the divergence and all edge cases are our reading, and fields where another reading is defensible.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from strategies.base import Direction, Score, Seen, Strategy, View
from strategies.boxmask_terms import BoxTable, Rules, boxmask_scores, claims, floored, on_classes
from strategies.views import BoxCrops, boxmask_windows, confident_boxes

Term = Literal["loc", "cls", "seg"]


@dataclass(frozen=True)
class BoxMask(Strategy):
    """The inconsistency between detection and segmentation, between 0 and about 2 + ln(1 / eps).

    S_cls is bounded by ln(1 / eps) only and outweighs the two shares; ``cls_norm="log_eps"`` brings it to their range.
    """

    terms: tuple[Term, ...] = ("loc", "cls", "seg")
    tau: float = 0.3  # a crop's pixel belongs to the mask above this probability of the box's class
    eps: float = 1e-6  # floor of the class probabilities in S_cls
    empty: Literal["zero", "box", "one"] = "zero"  # of an empty mask: counts nothing; the whole box; S_loc = 1
    support: Literal["all", "det"] = "all"  # classes in S_cls: all of them, or those that can be detected
    soft_seg: bool = False  # S_seg by probability instead of by the winning class
    outside: Literal["masks", "boxes"] = "masks"  # where S_seg looks: outside of the masks, or of the boxes
    cls_norm: Literal["none", "log_eps"] = "none"  # divide S_cls by ln(1 / eps)
    min_score: float = 0.3  # detections below are ignored
    max_boxes: int = 50  # an image, best first
    crop_size: int = 128  # pixels; a multiple of the model's stride
    margin: float = 0.1  # of the box's longer side, on each side of the crop
    min_side: float = 32.0  # pixels: no crop shows less

    def __post_init__(self) -> None:
        if not self.terms or set(self.terms) - {"loc", "cls", "seg"} or len(set(self.terms)) != len(self.terms):
            raise ValueError(f"BoxMask.terms is {self.terms}; expected some of 'loc', 'cls' and 'seg', each once")
        if not 0 < self.eps < 1:
            raise ValueError(f"BoxMask.eps is {self.eps}; expected a probability above 0 and below 1")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("detection", "segmentation")

    @property
    def views(self) -> tuple[View, ...]:
        return (self.crops,) if self.needs_masks else ()

    @property
    def prefers(self) -> Direction:
        return "unsure"

    @property
    def needs_masks(self) -> bool:
        """False where only S_seg outside of the boxes is asked for: then no crop is forwarded."""
        return self.outside == "masks" or "loc" in self.terms or "cls" in self.terms

    @property
    def crops(self) -> BoxCrops:
        return BoxCrops(self.crop_size, self.margin, self.min_side, self.min_score, self.max_boxes)

    @property
    def rules(self) -> Rules:
        return Rules(self.tau, self.eps, self.empty, self.support, self.soft_seg, self.outside)

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        scores: dict[int, Score] = {}
        kinds: dict[tuple[object, ...], list[int]] = {}
        for row, one in enumerate(seen):
            kinds.setdefault((one.size, tuple(one.plain.log_probs.shape)), []).append(row)
        for rows in kinds.values():  # one, unless images differ in size
            scores |= zip(rows, self._score_alike([seen[row] for row in rows]), strict=True)
        return [scores[row] for row in range(len(seen))]

    def explain(self, seen: Seen) -> Mapping[str, Tensor]:
        table, to_seg = self._table([seen])
        found = boxmask_scores(table, to_seg, self.rules)
        probs, union = table.seg_probs[0], found.union[0]
        top = probs.argmax(0)
        height, width = top.shape
        disagree = torch.zeros_like(union).flatten()
        wrong = top.flatten()[found.pixels] != table.labels[found.box]
        disagree[found.pixels[wrong]] = True
        divergence = probs.new_zeros(height * width)
        winner = int(self._winner(found.s_loc, found.s_cls, table.image, 1)[1])
        if winner >= 0:
            pixels = found.pixels[found.box == winner]
            divergence[pixels] = self._divergence(probs.flatten(1)[:, pixels].T, table.class_probs[winner], to_seg)
        claimed = claims(top, to_seg, len(probs)) & ~found.covered[0]
        return {
            "masks of the boxes": union.float(),
            "S_loc: mask pixels of another class": disagree.view(height, width).float(),
            "S_cls: divergence in the worst box": divergence.view(height, width),
            "S_seg: objects without a box": claimed.float(),
        }

    def _score_alike(self, seen: Sequence[Seen]) -> list[Score]:
        table, to_seg = self._table(seen)
        found = boxmask_scores(table, to_seg, self.rules)
        best, winner = self._winner(found.s_loc, found.s_cls, table.image, len(seen))
        value = best + found.s_seg if "seg" in self.terms else best
        row = winner.clamp(min=0)
        parts = torch.stack([found.s_loc, found.s_cls * self._cls_weight], 1)
        parts = torch.cat([parts, parts.new_zeros(1, 2)])[torch.where(winner < 0, len(parts), row)]
        counts = torch.bincount(table.image[table.labels >= 0], minlength=len(seen))
        answers = torch.stack([value, parts[:, 0], parts[:, 1], found.s_seg, counts.to(value)], 1)
        return [
            Score(value, {"s_loc": s_loc, "s_cls": s_cls, "s_seg": s_seg, "boxes": boxes})
            for value, s_loc, s_cls, s_seg, boxes in answers.tolist()
        ]

    @property
    def _cls_weight(self) -> float:
        return 1 / log(1 / self.eps) if self.cls_norm == "log_eps" else 1.0

    def _winner(self, s_loc: Tensor, s_cls: Tensor, image: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The largest S_loc + S_cls of each image (0 without boxes), and the first box that has it (-1 without)."""
        total = s_loc * float("loc" in self.terms) + s_cls * (self._cls_weight * float("cls" in self.terms))
        best = total.new_zeros(count).scatter_reduce(0, image, total, "amax")
        rows = torch.arange(len(total), device=total.device)
        rows = torch.where(total == best[image], rows, len(total))
        first = torch.full((count,), len(total), device=total.device).scatter_reduce(0, image, rows, "amin")
        return best, torch.where(first == len(total), -1, first)

    def _divergence(self, probs: Tensor, box: Tensor, to_seg: Tensor) -> Tensor:
        p = floored(probs, to_seg, self.rules)  # [P, S]
        q = floored(on_classes(box[None], to_seg, probs.shape[1]), to_seg, self.rules)
        return ((p - q) * (p.log() - q.log())).sum(1) / 2

    def _table(self, seen: Sequence[Seen]) -> tuple[BoxTable, Tensor]:
        """The batch as one table, in pixels of the segmentation map."""
        seg_probs = torch.stack([s.plain.log_probs for s in seen]).contiguous().float().exp()
        chosen = confident_boxes([s.plain.detections for s in seen], self.min_score, self.max_boxes)
        to_seg = torch.tensor(seen[0].classes.det_to_seg, dtype=torch.int64, device=seg_probs.device)
        labels = to_seg[chosen.labels]
        (height, width), (rows, columns) = seen[0].size, seg_probs.shape[-2:]
        scale = torch.tensor([columns / width, rows / height], device=seg_probs.device)
        windows = boxmask_windows(chosen.boxes.float(), self.margin, self.min_side)
        crops = [answer.log_probs for s in seen for answer, _ in s.views[self.crops]] if self.needs_masks else []
        assert not self.needs_masks or len(crops) == len(labels), "one crop for each confident box"
        one_class = seg_probs.new_zeros(len(labels), 1, 1)
        if crops:
            every = torch.arange(len(crops), device=labels.device)
            one_class = torch.stack(crops)[every, labels.clamp(min=0)].float().exp()
        return (
            BoxTable(
                seg_probs=seg_probs,
                image=chosen.image,
                boxes=chosen.boxes.float() * scale.repeat(2),
                labels=labels,
                class_probs=chosen.probs[:, : len(to_seg)],  # a softmax vector has the background last
                crop_probs=one_class,
                windows=torch.cat([windows[:, :2] * scale, windows[:, 2:] * scale], 1),
            ),
            to_seg,
        )
