"""Anchors of Salscheider's detector: their boxes, the box code, which anchor answers for which object, feature NMS."""

import torch
from torch import Tensor
from torchvision.ops import box_iou

from tasks.nets.heads import Size

STRIDE = 8
RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0)  # width / height
AREAS = tuple(sorted([32 * 2**k for k in range(15)] + [48 * 2**k for k in range(14)]))  # in squares of the stride
PER_CELL = len(AREAS) * len(RATIOS)
CODE = (10.0, 10.0, 5.0, 5.0)  # factors of dx, dy, dw, dh
NEGATIVE, IGNORED = -1, -2
CHUNK = 1 << 18  # anchors compared with the objects at a time: bounds the memory of large images


def anchors_of(size: Size, device: torch.device | None = None) -> Tensor:
    """``[H/8 W/8 145, 4]`` xyxy pixels: all shapes of a cell together, cells row by row."""
    area = torch.tensor(AREAS, dtype=torch.float32, device=device).repeat_interleave(len(RATIOS))
    ratio = torch.tensor(RATIOS, device=device).repeat(len(AREAS))
    half = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], -1) * (STRIDE / 2)  # [145, 2]
    ys = (torch.arange(size[0] // STRIDE, device=device) + 0.5) * STRIDE
    xs = (torch.arange(size[1] // STRIDE, device=device) + 0.5) * STRIDE
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    centre = torch.stack([x, y], -1).view(-1, 1, 2)
    return torch.cat([centre - half, centre + half], -1).view(-1, 4)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """``[..., 4]`` dx, dy, dw, dh of boxes relative to their anchors (both xyxy)."""
    centre, side = _centre_side(boxes)
    anchor_centre, anchor_side = _centre_side(anchors)
    code = torch.cat([(centre - anchor_centre) / anchor_side, (side / anchor_side).log()], -1)
    return code * code.new_tensor(CODE)


def boxes_of(code: Tensor, anchors: Tensor) -> Tensor:
    """``[..., 4]`` xyxy pixels: the inverse of ``encode``."""
    code = code / code.new_tensor(CODE)
    anchor_centre, anchor_side = _centre_side(anchors)
    centre = code[..., :2] * anchor_side + anchor_centre
    half = code[..., 2:].clamp(max=8.0).exp() * anchor_side / 2
    return torch.cat([centre - half, centre + half], -1)


def match(anchors: Tensor, boxes: Tensor, crowd: Tensor) -> Tensor:
    """``[A]`` int64: the object that an anchor answers for, -1 = none, -2 = not to be trained.

    ``boxes [N, 4]``, ``crowd [N]``. IoU above .5 with the best object: positive; .4 to .5: ignored; two objects within
    .2 of each other above .4: negative, since it is not clear which one is meant; an object left without an anchor
    takes its best one above .4. Anchors centred in a crowd, and all of an image without objects, are ignored.
    """
    real = (~crowd).nonzero().flatten()
    if len(real) == 0:
        return torch.full((len(anchors),), IGNORED, device=anchors.device)
    rows, best_of_object, best_anchor = [], boxes.new_zeros(len(real)), torch.zeros_like(real)
    for start in range(0, len(anchors), CHUNK):
        iou = box_iou(anchors[start : start + CHUNK], boxes[real])
        rows.append(_rule(iou))
        top = iou.max(0)
        better = top.values > best_of_object
        best_of_object = torch.where(better, top.values, best_of_object)
        best_anchor = torch.where(better, top.indices + start, best_anchor)
    found = torch.cat(rows)
    orphans = (torch.bincount(found[found >= 0], minlength=len(real)) == 0) & (best_of_object > 0.4)
    found[best_anchor[orphans]] = orphans.nonzero().flatten()
    found = torch.where(found >= 0, real[found.clamp(min=0)], found)
    centre = _centre_side(anchors)[0][:, None]
    inside = ((centre > boxes[crowd, :2]) & (centre < boxes[crowd, 2:])).all(-1).any(-1)
    return torch.where(inside & (found < 0), IGNORED, found)


def _rule(iou: Tensor) -> Tensor:
    """``[A]`` from the IoU ``[A, N]`` of anchors and objects."""
    top = iou.topk(min(2, iou.shape[1]), dim=1)
    best, index = top.values[:, 0], top.indices[:, 0]
    second = top.values[:, 1] if iou.shape[1] > 1 else torch.zeros_like(best)
    found = torch.where(best > 0.5, index, torch.where(best > 0.4, IGNORED, NEGATIVE))
    return torch.where((second > 0.4) & (best - second < 0.2), NEGATIVE, found)


def feature_nms(boxes: Tensor, scores: Tensor, embeddings: Tensor, top: int) -> Tensor:
    """Indices of the kept boxes, best first, at most ``top``.

    ``boxes [M, 4]``, ``scores [M]``, ``embeddings [M, E]``. Of two boxes the weaker one goes if they are the same
    object: IoU above .9, or from .1 on and a squared distance of the embeddings of at most 1 (Salscheider 2020).
    """
    order = scores.argsort(descending=True, stable=True)
    kept: list[Tensor] = []
    while len(order) and len(kept) < top:
        first, rest = order[0], order[1:]
        kept.append(first)
        iou = box_iou(boxes[first][None], boxes[rest])[0]
        near = (embeddings[rest] - embeddings[first]).square().sum(-1) <= 1.0
        order = rest[~((iou > 0.9) | ((iou >= 0.1) & near))]
    return torch.stack(kept) if kept else order


def _centre_side(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
