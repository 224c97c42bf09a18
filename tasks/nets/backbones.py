"""Shared bodies and the feature pyramid: images to maps of falling resolution."""

from collections.abc import Sequence
from typing import cast

import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from tasks.nets.heads import batch_norm, conv_block


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, the basic block)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_block(channels, channels, batch_norm)
        self.second = conv_block(channels, channels, batch_norm)[:2]
        nn.init.constant_(
            cast(nn.BatchNorm2d, self.second[1]).weight, 0.2
        )  # near the identity at first: short trainings start faster

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class SmallBody(nn.Module):
    """A narrow residual net for CPUs: maps at strides 4, 8, 16, 32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # narrow where the maps are large: half of the time goes into the first two stages; multiples of 8 run fastest
        stem, *rest = (-(-width * quarters // 32) * 8 for quarters in (2, 3, 6, 12, 12))
        self.channels = tuple(rest)
        self.stem = conv_block(3, stem, batch_norm, stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(conv_block(inputs, outputs, batch_norm, stride=2), Residual(outputs))
            for inputs, outputs in zip((stem, *self.channels), self.channels, strict=False)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class ResNetBody(nn.Module):
    """ResNet-50 of torchvision, its keys kept: maps at strides 4, 8, 16, 32."""

    channels = (256, 512, 1024, 2048)

    def __init__(self, weights: str | None, frozen_norm: bool) -> None:
        super().__init__()
        net = torchvision.models.resnet50(
            weights=weights, norm_layer=FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        )
        for name, module in net.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, module)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps, x = [], images
        for name, module in self.named_children():
            x = module(x)
            if name.startswith("layer"):
                maps.append(x)
        return maps


class Pyramid(nn.Module):
    """Feature pyramid (Lin et al. 2017): maps of one width, then ``extra`` coarser ones by strided convolutions.

    ``smooth`` adds the 3x3 convolution after each sum; nets for CPUs leave it to the first convolution of the heads.
    """

    def __init__(self, channels: Sequence[int], width: int, extra: int = 0, smooth: bool = True) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels if smooth)
        self.extra = nn.ModuleList(nn.Conv2d(width, width, 3, 2, 1) for _ in range(extra))
        for conv in [*self.lateral, *self.smooth, *self.extra]:
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        top, found = None, []
        for lateral, x in zip(reversed(self.lateral), reversed(maps), strict=True):
            x = lateral(x)
            top = x if top is None else x + F.interpolate(top, size=x.shape[-2:], mode="nearest")
            found.append(top)
        found.reverse()
        if len(self.smooth):
            found = [smooth(x) for smooth, x in zip(self.smooth, found, strict=True)]
        for conv in self.extra:
            found.append(conv(F.relu(found[-1])))
        return found
