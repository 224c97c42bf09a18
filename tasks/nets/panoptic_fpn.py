"""The semantic segmentation head of Panoptic-FPN, and the cross-entropy per image that all segmentation heads share."""

from collections.abc import Sequence
from math import log2

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.nets.heads import Answers, Norm, Size, conv_block, map_cells
from tasks.types import IGNORE, SegMap, Target


def cross_entropy(logits: Tensor, targets: Sequence[Target | None], size: Size, stride: int = 1) -> Tensor:
    """``[B]`` cross-entropy of each image: the sum over its valid pixels divided by their number; 0 where none is.

    ``logits`` are ``[B, K, h, w]`` at any resolution; they are interpolated to every ``stride``-th pixel, and each such
    cell answers for all stride x stride pixels that it covers, so that no label is left out and nothing shifts.
    """
    height, width = size[0] // stride, size[1] // stride
    logits = logits.float()
    if logits.shape[-2:] != (height, width):
        logits = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
    cells = map_cells("segmentation", targets, size, logits.device, stride, IGNORE)
    valid = cells != IGNORE
    picked = F.log_softmax(logits, 1).gather(1, torch.where(valid, cells, 0))
    sums = -(picked * valid).sum((1, 2, 3))
    return sums / valid.sum((1, 2, 3)).clamp(min=1)


def seg_maps(logits: Tensor) -> list[SegMap]:
    """One ``SegMap`` an image from logits ``[B, K, h, w]``: float32 log-softmax at the same resolution."""
    return [SegMap(log_probs) for log_probs in F.log_softmax(logits.float(), 1)]


class PanopticHead(nn.Module):
    """Every level is convolved and enlarged, step by step, to stride 4; their sum is classified (Kirillov et al. 2019).

    Reads the maps of ``strides`` (the first ``len(strides)``); ``loss_stride`` is the grid of the training loss.
    """

    parts = ("ce",)

    def __init__(
        self, channels: int, classes: int, strides: Sequence[int], *, width: int, norm: Norm, loss_stride: int = 1
    ) -> None:
        super().__init__()
        self.loss_stride = loss_stride
        self.levels = nn.ModuleList()
        for stride in strides:
            steps = int(log2(stride // strides[0]))
            layers: list[nn.Module] = []
            for step in range(max(1, steps)):
                layers.append(conv_block(channels if step == 0 else width, width, norm))
                if steps:
                    layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            self.levels.append(nn.Sequential(*layers))
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits ``[B, K, H/4, W/4]``."""
        total = self.levels[0](maps[0])
        height, width = total.shape[-2:]
        for level, x in zip(self.levels[1:], maps[1:], strict=False):
            total = total + level(x)[..., :height, :width]  # a coarse cell may reach beyond the image
        logits: Tensor = self.classify(total)
        return logits

    def losses(self, maps: Sequence[Tensor], targets: Sequence[Target | None], size: Size) -> dict[str, Tensor]:
        """``{"ce": [B]}``."""
        return {"ce": cross_entropy(self(maps), targets, size, self.loss_stride)}

    def answers(self, maps: Sequence[Tensor], size: Size, *, outputs: bool, dense: bool) -> Answers:
        """The log-probabilities of each image at stride 4."""
        return Answers(seg_maps(self(maps)))
