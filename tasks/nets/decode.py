"""From dense scores to detections: a batch at a time, exact, the same in any company."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from tasks.nets.heads import Size
from tasks.types import Detections


@dataclass(frozen=True)
class Decode:
    """How detections are kept: score above ``score``, class-wise NMS at IoU ``nms``, the ``top`` best of an image."""

    score: float = 0.05
    nms: float = 0.5
    top: int = 100
    candidates: int = 400  # per image and level, before NMS

    def __post_init__(self) -> None:
        if not 0.0 <= self.score < 1.0 or not 0.0 < self.nms <= 1.0 or self.top < 1 or self.candidates < 1:
            raise ValueError(f"decode: {self}; expected score in [0, 1), nms in (0, 1], top and candidates at least 1")


STANDARD = Decode()


@dataclass(frozen=True)
class Candidates:
    """Locations and classes that passed the threshold, in the order of image, location, class; ``[M]`` each."""

    image: Tensor
    location: Tensor
    label: Tensor
    score: Tensor


Suppress = Callable[[Tensor, Candidates], Tensor]


def candidates(scores: Tensor, cells: Sequence[int], settings: Decode) -> Candidates:
    """The best candidates of every image and level from ``scores [B, A, C]``; ``cells`` are the A of each level."""
    images, classes = scores.shape[0], scores.shape[2]
    values, indices, start = [], [], 0
    for count in cells:
        level = scores[:, start : start + count].flatten(1)
        best = level.topk(min(settings.candidates, level.shape[1]), dim=1, sorted=False)
        values.append(best.values)
        indices.append(best.indices + start * classes)
        start += count
    value, index = torch.cat(values, 1), torch.cat(indices, 1)
    image, column = (value > settings.score).nonzero(as_tuple=True)
    index, value = index[image, column], value[image, column]
    order = (image * (start * classes) + index).argsort()
    image, index, value = image[order], index[order], value[order]
    assert images == 0 or start == scores.shape[1]
    return Candidates(image, index // classes, index % classes, value)


def decode(
    scores: Tensor,
    probs: Tensor,
    boxes: Tensor,
    cells: Sequence[int],
    size: Size,
    settings: Decode,
    suppress: Suppress | None = None,
) -> list[Detections]:
    """The detections of each image, best first (ties: the lower location, then class).

    ``scores [B, A, C]`` rank and are thresholded, ``probs [B, A, K]`` are handed on, ``boxes [B, A, 4]`` xyxy pixels
    are clipped to the image; ``cells`` says how many of the A locations each level has; ``suppress``, given
    the candidates and their boxes ``[M, 4]``, answers with the indices to keep (default: class-wise NMS).
    """
    found = candidates(scores, cells, settings)
    limits = torch.tensor([size[1], size[0], size[1], size[0]], device=boxes.device, dtype=boxes.dtype)
    box = torch.minimum(boxes[found.image, found.location].clamp(min=0), limits)
    keep = (_nms(box, found, settings) if suppress is None else suppress(box, found)).sort().values
    best = found.score[keep].argsort(descending=True, stable=True)
    keep = keep[best]
    keep = keep[found.image[keep].argsort(stable=True)]
    image, location = found.image[keep], found.location[keep]
    counts: list[int] = torch.bincount(image, minlength=len(scores)).tolist()
    columns = (box[keep], found.score[keep], found.label[keep], probs[image, location])
    rows = zip(*(torch.split(column, counts) for column in columns), strict=True)
    return [Detections(*(column[: settings.top] for column in row)) for row in rows]


def _nms(boxes: Tensor, found: Candidates, settings: Decode) -> Tensor:
    """Indices of what class-wise NMS keeps: the ``top`` best of each image at least.

    Whether a box is kept depends on better ones only, and the work grows with the square of their number: the best of
    an image are tried first, and twice as many while too few of them remain.
    """
    # float64: the offsets that keep the classes apart cost no precision
    boxes, scores, kept = boxes.double(), found.score.double(), []
    order = scores.argsort(descending=True, stable=True)
    order = order[found.image[order].argsort(stable=True)]
    for rows in torch.split(order, torch.bincount(found.image).tolist()):
        tried, few = 2 * settings.top, rows[:0]
        while len(few) < min(settings.top, len(rows)):
            part = rows[:tried]
            few = part[batched_nms(boxes[part], scores[part], found.label[part], settings.nms)]
            if tried >= len(rows):
                break
            tried *= 2
        kept.append(few)
    return torch.cat(kept) if kept else order
