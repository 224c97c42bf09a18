"""The parts of MTI-Net: first predictions, propagation, distillation and aggregation of the features of several tasks.

After the formulas of Vandenhende, Georgoulis and Van Gool 2020, written anew. Features of T tasks at one scale are a
list of ``[B, C, h, w]``, in the order of the tasks.
"""

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

Layout = Literal["tasks", "repo"]
REDUCTION = 16  # of the channels inside squeeze-and-excitation


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """ResNet's basic block; its shortcut is a 1x1 convolution with a norm where the shape changes."""
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    made: nn.Module = BasicBlock(inputs, outputs, stride, shortcut)
    return made


def sized(x: Tensor, like: Tensor) -> Tensor:
    """``x`` at the resolution of ``like``, bilinear."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class PyramidBody(nn.Module):
    """A narrow residual net for CPUs: four maps at strides 4, 8, 16, 32."""

    channels = (16, 32, 48, 64)

    def __init__(self, inputs: int) -> None:
        super().__init__()
        first, layers = self.channels[0], list[nn.Module]()
        for width in (inputs, first):
            layers += [nn.Conv2d(width, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU(inplace=True)]
        self.stem = nn.Sequential(*layers)
        self.stages = nn.ModuleList(
            block(a, b, 1 if a == b else 2) for a, b in zip((first, *self.channels), self.channels, strict=False)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Propagation(nn.Module):
    """Feature propagation (FPM): what the tasks say together, weighed by an attention over them, goes to each of them.

    ``layout="tasks"`` takes the softmax over the tasks, for every channel and pixel. "repo" does as the published code:
    it takes T neighbouring channels, which belong to one task, for the T tasks.
    """

    def __init__(self, tasks: int, channels: int, layout: Layout) -> None:
        super().__init__()
        every, inner = tasks * channels, tasks * channels // 4
        self.tasks, self.layout = tasks, layout
        self.shared = nn.Sequential(block(every, inner), block(inner, inner), nn.Conv2d(inner, every, 1))
        self.reduce = block(every, channels)
        self.excite = nn.ModuleList(SqueezeExcite(channels) for _ in range(tasks))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        together = torch.cat(list(features), 1)
        common = self.reduce(self.attention(self.shared(together)) * together)
        return [excite(common) + x for excite, x in zip(self.excite, features, strict=True)]

    def attention(self, scores: Tensor) -> Tensor:
        """``[B, T C, h, w]`` weights that add up to 1 over the tasks, from scores of that shape."""
        batch, every, height, width = scores.shape
        split = (self.tasks, every // self.tasks) if self.layout == "tasks" else (every // self.tasks, self.tasks)
        shares = scores.reshape(batch, *split, height, width).softmax(1 if self.layout == "tasks" else 2)
        return shares.reshape(scores.shape)


class SqueezeExcite(nn.Module):
    """Each channel times a factor in 0..1 that the means of all channels decide (Hu, Shen and Sun 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // REDUCTION)
        self.gate = nn.Sequential(
            nn.Linear(channels, inner, bias=False), nn.ReLU(), nn.Linear(inner, channels, bias=False), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        factors: Tensor = self.gate(x.mean((2, 3)))
        return x * factors[..., None, None]


class Distillation(nn.Module):
    """Multi-modal distillation (MMDM): to each task's features, what a gate lets through of every other task's."""

    def __init__(self, tasks: int, channels: int) -> None:
        super().__init__()
        pairs = [(a, t) for t in range(tasks) for a in range(tasks) if a != t]
        self.message = nn.ModuleDict({f"{a}_to_{t}": _conv3(channels) for a, t in pairs})
        self.gate = nn.ModuleDict({f"{a}_to_{t}": _conv3(channels) for a, t in pairs})

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        found = list(features)
        for name, message in self.message.items():
            a, t = map(int, name.split("_to_"))
            found[t] = found[t] + message(features[a]) * torch.sigmoid(self.gate[name](features[a]))
        return found


class Aggregation(nn.Module):
    """Feature aggregation (FA): maps of all scales, enlarged to the first, to ``outputs`` numbers a cell."""

    def __init__(self, channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        width = sum(channels)
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1),
        )  # fmt: skip

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return cast(Tensor, self.layers(torch.cat([sized(x, maps[0]) for x in maps], 1)))


class Interaction(nn.Module):
    """Several tasks on shared maps of several scales, from the coarsest to the finest: MTI-Net without its backbone.

    At each scale a task's features come from the shared map and from what was propagated from the coarser scale.
    """

    def __init__(self, channels: Sequence[int], outputs: Sequence[int], layout: Layout, deep: bool) -> None:
        super().__init__()
        tasks = range(len(outputs))
        taken = [c + d for c, d in zip(channels, [*channels[1:], 0], strict=True)]
        self.refine = nn.ModuleList(
            nn.ModuleList(nn.Sequential(block(a, c), block(c, c)) for _ in tasks)
            for a, c in zip(taken, channels, strict=True)
        )
        self.first = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(c, count, 1) for count in outputs) for c in (channels if deep else ())
        )
        self.propagate = nn.ModuleList(Propagation(len(outputs), c, layout) for c in channels[1:])
        self.distil = nn.ModuleList(Distillation(len(outputs), c) for c in channels)
        self.aggregate = nn.ModuleList(Aggregation(channels, count) for count in outputs)

    def forward(self, maps: Sequence[Tensor], deep: bool) -> list[list[Tensor]]:
        """For each task its answer at the resolution of the first map; ``deep`` adds its first ones at all scales."""
        features = self.features(maps)
        mixed = [cast(Distillation, distil)(x) for distil, x in zip(self.distil, features, strict=True)]
        found = [[aggregate([scale[task] for scale in mixed])] for task, aggregate in enumerate(self.aggregate)]
        if deep:
            for heads, scale in zip(self.first, features, strict=False):
                for task, head in enumerate(cast(nn.ModuleList, heads)):
                    found[task].append(head(scale[task]))
        return found

    def features(self, maps: Sequence[Tensor]) -> list[list[Tensor]]:
        """The first features ``[scale][task]``."""
        found: list[list[Tensor]] = []
        coarser: list[Tensor] | None = None
        for scale in reversed(range(len(maps))):
            x, refine = maps[scale], cast(nn.ModuleList, self.refine[scale])
            taken = [x] * len(refine) if coarser is None else [torch.cat([x, sized(y, x)], 1) for y in coarser]
            found.insert(0, [task(one) for task, one in zip(refine, taken, strict=True)])
            coarser = self.propagate[scale - 1](found[0]) if scale else None
        return found


def _conv3(channels: int) -> nn.Module:
    return nn.Conv2d(channels, channels, 3, padding=1, bias=False)
