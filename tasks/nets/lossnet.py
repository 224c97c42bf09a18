"""Loss prediction: a small module per task that learns to rank images by their loss (Yoo and Kweon 2019)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class LossPrediction:
    """How losses are predicted. ``detach_at``: share of a fit after which the gradient no longer reaches the features.

    The paper stops it late in training; 0, the default, never lets it through, so that the network itself is the same
    with and without loss prediction.
    """

    width: int = 128
    levels: int = 4
    margin: float = 1.0
    weight: float = 1.0
    detach_at: float = 0.0

    def __post_init__(self) -> None:
        if self.width < 1 or self.levels < 1:
            raise ValueError(f"loss_prediction: width {self.width}, levels {self.levels}; expected at least 1 of each")
        if not 0.0 <= self.detach_at <= 1.0:
            raise ValueError(f"loss_prediction.detach_at: {self.detach_at}; expected a share of the fit, 0 to 1")


def ranking_loss(predicted: Tensor, target: Tensor, margin: float = 1.0) -> Tensor:
    """The scalar mean over pairs of ``max(0, margin - s (p_i - p_j))``; 0, connected to the graph, without a pair.

    ``predicted`` and ``target`` are ``[B]``. Pairs are first and last, second and last but one, and so on; an odd batch
    drops its last image. ``s`` is +1 where target i is the larger one and -1 elsewhere: a tie counts as -1, as in the
    authors' definition. The target gets no gradient. Yoo and Kweon 2019, Eq. 2.
    """
    half = len(predicted) // 2
    if half == 0:
        return predicted.sum() * 0
    predicted, target = predicted[: 2 * half], target[: 2 * half].detach()
    gap = predicted[:half] - predicted[half:].flip(0)
    sign = torch.where(target[:half] > target[half:].flip(0), 1.0, -1.0)
    return F.relu(margin - sign * gap).mean()


class LossNet(nn.Module):
    """Predicted losses ``[B]`` from feature maps: pooled, ``Linear`` and ReLU per level, concatenated, ``Linear``."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Linear(c, width) for c in channels)
        self.out = nn.Linear(width * len(channels), 1)

    def forward(self, pooled: Sequence[Tensor]) -> Tensor:
        """``pooled`` holds ``[B, C]`` of each level."""
        hidden = [F.relu(level(x)) for level, x in zip(self.levels, pooled, strict=True)]
        predicted: Tensor = self.out(torch.cat(hidden, 1))
        return predicted.flatten()
