"""Masks as a network answers them: a small grid of probabilities, spread over a box of the image."""

from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tasks.geometry import Rle, rle_of_mask, rle_of_patch

Size = tuple[int, int]
Patch = tuple[NDArray[np.float32], int, int]  # probabilities [h, w] of pixels, and the row and column of the first


def spread(values: Tensor, box: Tensor, size: Size) -> Patch | None:
    """Values ``[m, m]`` over a box ``[4]``, at the pixels of an image of H, W whose centre is in it; None without any.

    Bilinear at pixel centres, which are at .5: torchvision's own function grows the box by a pixel.
    """
    x1, y1, x2, y2 = box.tolist()
    left, top = max(ceil(x1 - 0.5), 0), max(ceil(y1 - 0.5), 0)
    right, bottom = min(ceil(x2 - 0.5), size[1]), min(ceil(y2 - 0.5), size[0])
    if right <= left or bottom <= top:
        return None
    u = 2 * (torch.arange(left, right) + 0.5 - x1) / (x2 - x1) - 1
    v = 2 * (torch.arange(top, bottom) + 0.5 - y1) / (y2 - y1) - 1
    grid = torch.stack(torch.meshgrid(u, v, indexing="xy"), -1)[None]
    found = F.grid_sample(values[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
    return found.numpy(), top, left


def pasted(values: Tensor, box: Tensor, size: Size) -> Rle:
    """The mask of an image of H, W: where values 0..1 ``[m, m]``, spread over a box ``[4]``, are more than a half."""
    patch = spread(values, box, size)
    if patch is None:
        return rle_of_mask(np.zeros(size, np.bool_))
    rle, _, _ = rle_of_patch(patch[0] > 0.5, *patch[1:], size)
    return rle


def owners(values: Tensor, boxes: Tensor, size: Size) -> NDArray[np.int64]:
    """Which of D objects each pixel of an image of H, W shows, ``[H, W]``: -1 none.

    ``values [D, m, m]`` 0..1 are spread over ``boxes [D, 4]``. Of the objects whose value is more than a half at a
    pixel the one of the largest has it, the first of equal ones: what is seen at a pixel is a part of one object alone,
    though boxes overlap and a mask in its box does not know of the others.
    """
    best = np.full(size, 0.5, np.float32)
    owner = np.full(size, -1, np.int64)
    for i, (own, box) in enumerate(zip(values.float().cpu(), boxes.float().cpu(), strict=True)):
        patch = spread(own, box, size)
        if patch is None:
            continue
        found, top, left = patch
        window = np.s_[top : top + found.shape[0], left : left + found.shape[1]]
        wins = found > best[window]
        best[window][wins] = found[wins]
        owner[window][wins] = i
    return owner
