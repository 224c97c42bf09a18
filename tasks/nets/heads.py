"""What a dense head of ``MultiTaskNet`` is, and the small pieces that several heads share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Protocol

import torch
from torch import Tensor, nn

from tasks.classes import ClassMap
from tasks.types import Output, Target

Norm = Callable[[int], nn.Module]
Size = tuple[int, int]  # H, W of the images in pixels


@dataclass(frozen=True)
class Answers:
    """What a head answers for a batch."""

    outputs: Sequence[Output]  # one an image; empty where only ``dense`` was wanted
    dense: Tensor | None = None  # [B, A, C] class logits of every cell (detection only)


class Head(Protocol):
    """One task's head: it reads the shared maps; what lies between maps and answers is its own affair."""

    parts: tuple[str, ...]  # the names of its losses

    def losses(self, maps: Sequence[Tensor], targets: Sequence[Target | None], size: Size) -> dict[str, Tensor]:
        """Per-image losses ``[B]`` float32 of each part; 0 and connected to the graph where the target is None."""
        ...

    def answers(self, maps: Sequence[Tensor], size: Size, *, outputs: bool, dense: bool) -> Answers:
        """What the head sees in each image; ``dense`` asks for the class logits of every cell too."""
        ...


def group_norm(channels: int) -> nn.Module:
    """GroupNorm with 32 groups, or with the most groups below it that divide ``channels``."""
    return nn.GroupNorm(gcd(32, channels), channels)


def batch_norm(channels: int) -> nn.Module:
    """BatchNorm2d with its usual momentum (.1): short trainings need running statistics that follow quickly."""
    return nn.BatchNorm2d(channels)


def conv_block(inputs: int, outputs: int, norm: Norm, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, norm(outputs), nn.ReLU(inplace=True))


def map_cells(
    task: str, targets: Sequence[Target | None], size: Size, device: torch.device, stride: int, nothing: int | float
) -> Tensor:
    """``[B, stride^2, h, w]``: the labels of the pixels that each cell of ``stride`` x ``stride`` covers.

    ``nothing`` (255, int64; NaN, float32) fills the maps of images without a label. ValueError where a target is no map
    of the image's size.
    """
    blank = torch.full(size, nothing)
    maps: list[Tensor] = []
    for target in targets:
        truth = blank if target is None else target
        if not isinstance(truth, Tensor) or tuple(truth.shape) != size:
            found = tuple(truth.shape) if isinstance(truth, Tensor) else type(truth).__name__
            raise ValueError(f"{task} target is {found}; expected a map of {size}, the size of the image")
        maps.append(truth.to(device=device, dtype=blank.dtype, non_blocking=True))
    cells = torch.stack(maps).view(-1, size[0] // stride, stride, size[1] // stride, stride)
    return cells.permute(0, 2, 4, 1, 3).flatten(1, 2)


def outputs_of(classes: ClassMap, tasks: Sequence[str]) -> dict[str, int]:
    """``{task: numbers a cell}`` of the tasks that a dense net can learn; ValueError for others."""
    counts = {"detection": len(classes.detection), "segmentation": len(classes.segmentation), "depth": 1}
    for task in tasks:
        if task not in counts:
            raise ValueError(f"tasks: this model has no head for {task!r}; it has {sorted(counts)}")
        if not counts[task]:
            raise ValueError(f"tasks: the data set names no classes for {task!r}; leave the task out")
    return {task: counts[task] for task in counts if task in tasks}
