"""The depth head of the dense networks, and the L1 loss per image that all depth heads share."""

from collections.abc import Sequence
from math import nan

from torch import Tensor, nn
from torch.nn import functional as F

from tasks.nets.heads import Answers, Size, map_cells
from tasks.types import DepthMap, Target

UNIT = 10.0  # metres that an output of 1 stands for: streets and rooms lie within a few of them


def l1(metres: Tensor, targets: Sequence[Target | None], size: Size, stride: int = 1) -> Tensor:
    """``[B]`` metres: the mean absolute error of each image over its valid pixels (truth > 0); 0 where none is.

    ``metres`` are ``[B, 1, h, w]`` at any resolution, and are compared as ``panoptic_fpn.cross_entropy`` does it.
    """
    height, width = size[0] // stride, size[1] // stride
    metres = metres.float()
    if metres.shape[-2:] != (height, width):
        metres = F.interpolate(metres, size=(height, width), mode="bilinear", align_corners=False)
    truth = map_cells("depth", targets, size, metres.device, stride, nan)
    valid = (truth > 0) & truth.isfinite()
    away = (metres - truth.where(valid, 0)).abs() * valid
    return away.sum((1, 2, 3)) / valid.sum((1, 2, 3)).clamp(min=1)


def depth_maps(metres: Tensor) -> list[DepthMap]:
    """One ``DepthMap`` an image from ``[B, 1, h, w]``: float32 at the same resolution."""
    return [DepthMap(one[0]) for one in metres.float()]


class DepthHead(nn.Module):
    """Metres above 0 (softplus) from a network ``raw`` that makes one number a cell, such as a ``PanopticHead``."""

    parts = ("l1",)

    def __init__(self, raw: nn.Module, loss_stride: int = 1) -> None:
        super().__init__()
        self.raw, self.loss_stride = raw, loss_stride

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Metres ``[B, 1, h, w]`` at the resolution of ``raw``."""
        return UNIT * F.softplus(self.raw(maps).float())

    def losses(self, maps: Sequence[Tensor], targets: Sequence[Target | None], size: Size) -> dict[str, Tensor]:
        """``{"l1": [B]}`` in metres."""
        return {"l1": l1(self(maps), targets, size, self.loss_stride)}

    def answers(self, maps: Sequence[Tensor], size: Size, *, outputs: bool, dense: bool) -> Answers:
        """The metres of each image."""
        return Answers(depth_maps(self(maps)))
