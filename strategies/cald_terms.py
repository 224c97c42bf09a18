"""The arithmetic of CALD for many images and views at once: no loop over boxes, pairs or pixels.

Every number of an image is made of elementwise steps, maxima and sums of a fixed order, so that it is the same to the
last bit in any batch, however long the padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.geometry import box_area, box_overlaps
from tasks.types import Detections


@dataclass(frozen=True)
class Boxes:
    """Detections of many images, padded to one length D >= 1; the boxes of an image come first, best first."""

    boxes: Tensor  # [..., D, 4] float32 xyxy
    scores: Tensor  # [..., D] float32; -1 = there is no box
    labels: Tensor  # [..., D] int64
    probs: Tensor  # [..., D, K] float32

    @property
    def there(self) -> Tensor:
        """``[..., D]`` bool: a box, not padding."""
        return self.scores >= 0

    def view(self, *shape: int) -> "Boxes":
        """The same boxes with other leading dimensions."""
        return Boxes(*(x.view(*shape, *x.shape[1:]) for x in (self.boxes, self.scores, self.labels, self.probs)))

    def one_view(self) -> "Boxes":
        """``[B, 1, D]`` of ``[B, D]``: the same boxes for every view."""
        return self.view(len(self.scores), 1)


def padded(detections: Sequence[Detections], min_score: float, limit: int) -> Boxes:
    """The first ``limit`` detections of each of B >= 1 images with a score of at least ``min_score``, as ``[B, D]``."""
    sizes = torch.tensor([len(d.scores) for d in detections])
    place = torch.arange(max(1, min(limit, int(sizes.max()))))
    inside = place < sizes[:, None]
    row = torch.where(inside, (sizes.cumsum(0) - sizes)[:, None] + place, sizes.sum()).to(detections[0].scores.device)
    scores = _rows([d.scores for d in detections], row, -1.0).float()
    return Boxes(
        boxes=_rows([d.boxes for d in detections], row, 0.0).float(),
        scores=torch.where(scores >= min_score, scores, -1.0),
        labels=_rows([d.labels for d in detections], row, 0),
        probs=_rows([d.probs for d in detections], row, 0.0).float(),
    )


def references(found: Boxes, more_than: int = 40, keep: int = 50) -> Boxes:
    """The boxes ``[B, R]`` that are compared: all, or ``keep`` evenly spaced ones of an image that has > ``more_than``.

    Of 41 to 49 boxes some are taken twice (the authors' rule), which changes no minimum.
    """
    count = found.there.sum(1, keepdim=True)
    width = found.scores.shape[1]
    place = torch.arange(max(width, keep) if width > more_than else width, device=count.device)
    spaced = (place * (count - 1).double() / max(keep - 1, 1)).round().long()
    many = count > more_than
    used = torch.where(many, place < keep, place < count)
    row = torch.where(many, spaced, place).clamp(min=0, max=width - 1)
    wide = row[..., None]
    return Boxes(
        boxes=found.boxes.take_along_dim(wide, 1),
        scores=torch.where(used, found.scores.take_along_dim(row, 1), -1.0),
        labels=found.labels.take_along_dim(row, 1),
        probs=found.probs.take_along_dim(wide, 1),
    )


def box_distances(mapped: Tensor, refs: Boxes, answer: Boxes, classes: int, beta: float = 1.3) -> Tensor:
    """``|m - beta|`` of every reference box, ``[..., R]``; +inf where there is none, or nothing to compare it with.

    ``m = IoU + (1 - JS) (p + p') / 2`` of the reference, mapped into the view (``[..., R, 4]``), and the answer's box
    that overlaps it most, the first one of equals (Yu et al. 2022, read as in the authors' program); p is the largest
    of the first ``classes`` entries of the class vector. ``refs`` are ``[..., R]``, ``answer`` is ``[..., D]``. A
    reference of no area on a box of no area has no IoU and is left out, as there. NaN where a box is not finite.
    """
    iou, void = _overlaps(mapped, answer)
    best, match = iou.max(-1)
    probs = answer.probs.take_along_dim(match[..., None], -2)
    sure = answer.probs[..., :classes].amax(-1).take_along_dim(match, -1) + refs.probs[..., :classes].amax(-1)
    m = best.clamp(min=0) + (1 - vector_divergence(refs.probs, probs)) * sure / 2
    broken = 0 * (mapped.sum(-1) + answer.boxes.sum(-1).sum(-1, keepdim=True))  # 0, or NaN
    return ((m - beta).abs() + broken).masked_fill(void | ~refs.there, torch.inf)


def view_consistency(distances: Tensor, refs: Boxes, answer: Boxes) -> Tensor:
    """M_v in 0..1 of each view, ``[...]``: the least distance; 0 where nothing was found in the image or the view."""
    nearest = distances.amin(-1).clamp(max=1.0)
    return torch.where(refs.there.any(-1) & answer.there.any(-1), nearest, 0.0)


def consistency(per_view: Tensor) -> Tensor:
    """M in 0..1 of each image, ``[B]``, the mean of its M_v ``[B, V]``: **lower is more informative**."""
    return fixed_sum(per_view) / per_view.shape[-1]


def class_vectors(refs: Boxes, answers: Boxes, classes: int) -> Tensor:
    """The best score of each class, ``[B, classes]``: mean over the image and its views; 0 without references.

    ``refs`` are ``[B, R]``, ``answers`` are ``[B, V, D]``. (The paper can be read as one maximum over all views; the
    authors' program takes this mean.)
    """
    each = torch.cat([_best_of_class(refs.one_view(), classes), _best_of_class(answers, classes)], 1)
    mean = fixed_sum(each.transpose(1, 2)) / each.shape[1]
    return torch.where(refs.there.any(-1, keepdim=True), mean, 0.0)


def vector_divergence(q: Tensor, r: Tensor) -> Tensor:
    """The Jensen-Shannon divergence of whole class vectors ``[..., K]``, in nats, at least 0.

    q, r and their mean are each normalised by itself, as in the authors' program; for vectors of sigmoids, whose sums
    differ, that is no true divergence and may come out negative, hence the floor.
    """
    middle = _normalised((q + r) / 2).clamp(min=torch.finfo(q.dtype).tiny)
    q, r = _normalised(q), _normalised(r)
    return fixed_sum((torch.xlogy(q, q / middle) + torch.xlogy(r, r / middle)) / 2).clamp(min=0)


def fixed_sum(x: Tensor) -> Tensor:
    """The sum over the last axis, in an order that depends on its length alone, on any device."""
    while (length := x.shape[-1]) > 1:
        half = length // 2
        x = torch.cat([x[..., :half] + x[..., length - half :], x[..., half : length - half]], -1)
    return x[..., 0]


def _rows(parts: Sequence[Tensor], row: Tensor, padding: float) -> Tensor:
    """Rows of all parts, one after the other; the row after the last one is padding."""
    table = torch.cat([*parts, parts[0].new_full((1, *parts[0].shape[1:]), padding)])
    return table.index_select(0, row.flatten()).view(*row.shape, *table.shape[1:])


def _normalised(vectors: Tensor) -> Tensor:
    return vectors / fixed_sum(vectors)[..., None].clamp(min=torch.finfo(vectors.dtype).tiny)


def _best_of_class(found: Boxes, classes: int) -> Tensor:
    none = found.scores.new_zeros(*found.scores.shape[:-1], classes)
    return none.scatter_reduce(-1, found.labels, found.scores.clamp(min=0), "amax")


def _overlaps(mapped: Tensor, answer: Boxes) -> tuple[Tensor, Tensor]:
    """IoU ``[..., R, D]``, -1 where there is no box; and the boxes ``[..., R]`` that have none.

    Those are without area, as is a box that they touch.
    """
    iou, touching = box_overlaps(mapped, answer.boxes)
    flat = answer.there & (box_area(answer.boxes) == 0)
    void = (touching & flat[..., None, :]).any(-1) & (box_area(mapped) == 0)
    return iou.masked_fill_(~answer.there[..., None, :], -1.0), void
