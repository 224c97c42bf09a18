"""The arithmetic of BoxMask for the boxes of many images at once: no loop over boxes or images.

Everything is in pixels of the segmentation map. Pixels of boxes are one ragged list, so work grows with the area of the
boxes only, and the sums of one box do not depend on the other boxes of the batch, to the last bit.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


@dataclass(frozen=True)
class Rules:
    """How the terms are computed; see the fields of the strategy."""

    tau: float = 0.3
    eps: float = 1e-6
    empty: Literal["zero", "box", "one"] = "zero"
    support: Literal["all", "det"] = "all"
    soft_seg: bool = False
    outside: Literal["masks", "boxes"] = "masks"


@dataclass(frozen=True)
class BoxTable:
    """B images of one size and their N boxes."""

    seg_probs: Tensor  # [B, K, h, w] class probabilities of the whole images
    image: Tensor  # [N] int64: which image; ascending
    boxes: Tensor  # [N, 4] xyxy
    labels: Tensor  # [N] int64 segmentation class of the box; -1 = it has none, the box is skipped
    class_probs: Tensor  # [N, C] scores of the detection classes, without a background
    crop_probs: Tensor  # [N, s, t] probability of the box's own class in its crop
    windows: Tensor  # [N, 4] left, top, width, height of the crop


@dataclass(frozen=True)
class BoxScores:
    """What N boxes and B images scored, and the pixels that did it."""

    s_loc: Tensor  # [N] in 0..1
    s_cls: Tensor  # [N] >= 0
    area: Tensor  # [N] int64 pixels of the mask; -1 = skipped
    s_seg: Tensor  # [B] in 0..1
    union: Tensor  # [B, h, w] bool: in the mask of some box
    covered: Tensor  # [B, h, w] bool: where S_seg does not look
    box: Tensor  # [P] int64 ascending: a pixel that S_loc and S_cls are taken over belongs to this box ...
    pixels: Tensor  # [P] int64: ... and is this element of a flattened [B, h, w]


def boxmask_scores(table: BoxTable, det_to_seg: Tensor, rules: Rules | None = None) -> BoxScores:
    """S_loc and S_cls of every box, S_seg of every image (Hekimoglu et al. 2023, Eqs. 1 to 3).

    ``det_to_seg [C]`` maps detection to segmentation classes, -1 = none.
    """
    rules = rules or Rules()
    shape = (table.seg_probs.shape[0], *table.seg_probs.shape[2:])
    count, device = len(table.labels), table.seg_probs.device
    box, x, y = _box_pixels(table.boxes, table.labels >= 0, shape[1], shape[2])
    pixels = (table.image[box] * shape[1] + y) * shape[2] + x
    masked = _in_crop(table, box, x, y) > rules.tau
    area = torch.bincount(box[masked], minlength=count)
    union = _marked(pixels[masked], shape)
    covered = union if rules.outside == "masks" else _marked(pixels, shape)
    if rules.empty == "box":
        masked = masked | (area == 0)[box]
    box, pixels = box[masked], pixels[masked]
    top = table.seg_probs.max(1).indices  # the first of equals, as argmax, in a quarter of its time
    taken = torch.bincount(box, minlength=count)
    hits = torch.bincount(box[top.flatten()[pixels] == table.labels[box]], minlength=count)
    s_loc = (taken - hits).to(table.seg_probs) / taken.clamp(min=1)
    if rules.empty == "one":
        s_loc = torch.where((area == 0) & (table.labels >= 0), torch.ones_like(s_loc), s_loc)
    return BoxScores(
        s_loc=s_loc,
        s_cls=_class_divergence(table, det_to_seg, rules, box, pixels, taken),
        area=torch.where(table.labels >= 0, area, torch.tensor(-1, device=device)),
        s_seg=_unexplained(table.seg_probs, top, covered, det_to_seg, rules.soft_seg),
        union=union,
        covered=covered,
        box=box,
        pixels=pixels,
    )


def on_classes(class_probs: Tensor, det_to_seg: Tensor, classes: int) -> Tensor:
    """Box scores ``[N, C]`` as a distribution over segmentation classes ``[N, K]``.

    Classes that share a target add up; those without one are left out.
    """
    onto = torch.zeros(len(det_to_seg), classes, dtype=class_probs.dtype, device=class_probs.device)
    known = (det_to_seg >= 0).nonzero().flatten()
    onto[known, det_to_seg[known]] = 1
    share = (class_probs[:, :, None] * onto).sum(1)
    return share / share.sum(1, keepdim=True).clamp(min=torch.finfo(share.dtype).tiny)


def floored(probs: Tensor, det_to_seg: Tensor, rules: Rules) -> Tensor:
    """Distributions ``[P, K]`` on the classes of ``rules.support``, floored at eps and normalised again."""
    if rules.support == "det":
        probs = probs[:, detectable(det_to_seg)]
        probs = probs / probs.sum(1, keepdim=True).clamp(min=torch.finfo(probs.dtype).tiny)
    probs = probs.clamp(min=rules.eps)
    return probs / probs.sum(1, keepdim=True)


def detectable(det_to_seg: Tensor) -> Tensor:
    """The segmentation classes that some detection class maps to."""
    classes: Tensor = torch.unique(det_to_seg[det_to_seg >= 0])
    return classes


def claims(top: Tensor, det_to_seg: Tensor, classes: int) -> Tensor:
    """Where the winning class ``top`` (any shape) is one that can be detected."""
    found = torch.zeros(classes, dtype=torch.bool, device=top.device)
    found[det_to_seg[det_to_seg >= 0]] = True
    return found[top]


def _box_pixels(boxes: Tensor, wanted: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """``(box, x, y)`` of every pixel that a wanted box touches: at least one a box, unless it lies off the image."""
    low = boxes[:, :2].floor().long()
    high = torch.maximum(boxes[:, 2:].ceil().long(), low + 1)
    limit = torch.tensor([width, height], device=boxes.device)
    low, high = low.clamp(min=0), torch.minimum(high, limit)
    sides = (high - low).clamp(min=0)
    areas = sides.prod(1) * wanted
    box = torch.repeat_interleave(torch.arange(len(boxes), device=boxes.device), areas)
    place = torch.arange(len(box), device=boxes.device) - (areas.cumsum(0) - areas)[box]
    columns = sides[box, 0]
    return box, low[box, 0] + place % columns, low[box, 1] + place // columns


def _in_crop(table: BoxTable, box: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The crop's probability at the centre of each pixel, bilinear, ``[P]``; the border value holds outside."""
    rows, columns = table.crop_probs.shape[1:]
    left, top, width, height = table.windows.unbind(1)
    u = ((x + 0.5 - left[box]) * (columns / width)[box] - 0.5).clamp(0, columns - 1)
    v = ((y + 0.5 - top[box]) * (rows / height)[box] - 0.5).clamp(0, rows - 1)
    u0, v0 = u.floor().long(), v.floor().long()
    right, below = (u0 < columns - 1).long(), (v0 < rows - 1).long() * columns
    corner = (box * rows + v0) * columns + u0
    flat, a, b = table.crop_probs.flatten(), u - u0, v - v0
    upper = torch.lerp(flat[corner], flat[corner + right], a.to(flat))
    lower = torch.lerp(flat[corner + below], flat[corner + below + right], a.to(flat))
    return torch.lerp(upper, lower, b.to(flat))


def _marked(pixels: Tensor, shape: tuple[int, ...]) -> Tensor:
    mask = torch.zeros(shape, dtype=torch.bool, device=pixels.device)
    mask.view(-1)[pixels] = True
    return mask


def _class_divergence(
    table: BoxTable, det_to_seg: Tensor, rules: Rules, box: Tensor, pixels: Tensor, taken: Tensor
) -> Tensor:
    """Eq. 2: with p the segmentation and q the box, sum over the mask of p log p - p log q + q log q - q log p.

    Divided by 2 |BM|. Hence a box needs the sums over its mask of p, log p and p log p only.
    """
    batch, classes, height, width = table.seg_probs.shape
    used = _marked(pixels, (batch, height * width))
    image, place = used.nonzero().unbind(1)
    p = floored(table.seg_probs.flatten(2)[image, :, place], det_to_seg, rules)  # [U, S]: each used pixel once
    log_p = p.log()
    row = used.view(-1).cumsum(0)[pixels] - 1
    starts = taken.cumsum(0) - taken
    columns = torch.cat([p, log_p, (p * log_p).sum(1, keepdim=True)], 1)
    if len(columns) == 0:
        return table.seg_probs.new_zeros(len(taken))
    sums = embedding_bag(row, columns, starts, mode="sum")  # [N, 2 S + 1]
    support = p.shape[1]
    q = floored(on_classes(table.class_probs.to(p), det_to_seg, classes), det_to_seg, rules)
    log_q = q.log()
    of_p = sums[:, -1] - (sums[:, :support] * log_q).sum(1)
    of_q = (q * log_q).sum(1) * taken - (q * sums[:, support:-1]).sum(1)
    return ((of_p + of_q) / (2 * taken.clamp(min=1))).clamp(min=0)


def _unexplained(seg_probs: Tensor, top: Tensor, covered: Tensor, det_to_seg: Tensor, soft: bool) -> Tensor:
    """Eq. 3: the share of the uncovered pixels that the segmentation calls a detection class; 0 where none is left."""
    free = ~covered
    if soft:
        claimed = (seg_probs[:, detectable(det_to_seg)] * free[:, None]).sum(-1).sum(-1).sum(-1)
    else:
        claimed = (claims(top, det_to_seg, seg_probs.shape[1]) & free).sum((1, 2)).to(seg_probs)
    return claimed / free.sum((1, 2)).clamp(min=1)
