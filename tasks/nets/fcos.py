"""FCOS: anchor-free detection (Tian et al. 2019): targets, losses per image, decoding, and a head of any weight."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from tasks.nets.decode import STANDARD, Decode, decode
from tasks.nets.heads import Answers, Norm, Size
from tasks.types import Objects, Target

RADIUS = 1.5  # centre sampling, in strides


@dataclass(frozen=True)
class Grid:
    """The locations of all levels, concatenated."""

    points: Tensor  # [A, 2] x, y in pixels: the centres of the cells
    stride: Tensor  # [A]
    reach: Tensor  # [A, 2]: a location answers for objects whose farthest side lies in (low, high] pixels
    cells: tuple[int, ...]  # locations of each level


@dataclass(frozen=True)
class Assignment:
    """Which location answers for which object."""

    object: Tensor  # [B, A] int64 index of the object, -1 = background
    ignored: Tensor  # [B, A] bool: inside a crowd, so neither object nor background


@dataclass(frozen=True)
class Dense:
    """Raw answers at every location, float32."""

    logits: Tensor  # [B, A, C]
    sides: Tensor  # [B, A, 4] left, top, right, bottom distances in pixels
    centerness: Tensor  # [B, A] logits
    grid: Grid

    @property
    def boxes(self) -> Tensor:
        """``[B, A, 4]`` xyxy pixels, not clipped."""
        return boxes_of(self.grid.points, self.sides)


def grid_of(maps: Sequence[Tensor], strides: Sequence[int], reach: float) -> Grid:
    """The locations of ``maps``; level l takes objects up to ``reach`` strides away, the last level all larger ones."""
    points, stride, limits, low = [], [], [], 0.0
    for x, s in zip(maps, strides, strict=True):
        height, width = x.shape[-2:]
        ys = (torch.arange(height, device=x.device, dtype=torch.float32) + 0.5) * s
        xs = (torch.arange(width, device=x.device, dtype=torch.float32) + 0.5) * s
        grid = torch.stack(torch.meshgrid(ys, xs, indexing="ij"), -1).view(-1, 2).flip(1)
        high = inf if s == strides[-1] else reach * s
        points.append(grid)
        stride.append(torch.full((len(grid),), float(s), device=x.device))
        limits.append(torch.tensor([[low, high]], device=x.device).expand(len(grid), 2))
        low = high
    return Grid(torch.cat(points), torch.cat(stride), torch.cat(limits), tuple(map(len, points)))


def boxes_of(points: Tensor, sides: Tensor) -> Tensor:
    """Boxes ``[..., A, 4]`` xyxy from locations ``[A, 2]`` and their distances to the four sides."""
    return torch.cat([points - sides[..., :2], points + sides[..., 2:]], -1)


def sides_of(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances left, top, right, bottom ``[..., 4]`` of ``points [..., 2]`` to ``boxes``; negative outside."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1)


def assign(grid: Grid, boxes: Tensor, crowd: Tensor) -> Assignment:
    """The object of each location: around it, near its centre, of the level's size; the smallest where several fit.

    ``boxes [B, N, 4]`` are padded with zeros, ``crowd [B, N]`` with False. Tian et al. 2019, Section 3.2, with the
    centre sampling of their later code.
    """
    if boxes.shape[1] == 0:
        nothing = torch.zeros(len(boxes), len(grid.points), dtype=torch.bool, device=boxes.device)
        return Assignment(nothing.long() - 1, nothing)
    sides = sides_of(grid.points[None, :, None], boxes[:, None])  # [B, A, N, 4]
    inside = sides.amin(-1) > 0
    farthest = sides.amax(-1)
    low, high = grid.reach[:, 0, None], grid.reach[:, 1, None]
    centre = (boxes[..., :2] + boxes[..., 2:])[:, None] / 2
    near = (grid.points[None, :, None] - centre).abs().amax(-1) < RADIUS * grid.stride[:, None]
    fits = inside & near & (farthest > low) & (farthest <= high) & ~crowd[:, None]
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    least = torch.where(fits, area[:, None], inf).min(-1)
    found = torch.where(least.values < inf, least.indices, -1)
    return Assignment(found, (inside & crowd[:, None]).any(-1) & (found < 0))


def centerness_of(sides: Tensor) -> Tensor:
    """1 at the centre of the object, falling to 0 at its border (Tian et al. 2019, Eq. 3); ``sides [..., 4]``."""
    across, down = sides[..., [0, 2]], sides[..., [1, 3]]
    return ((across.amin(-1) / across.amax(-1)) * (down.amin(-1) / down.amax(-1))).clamp(min=0).sqrt()


def padded(targets: Sequence[Target | None], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes ``[B, N, 4]``, labels ``[B, N]``, crowd ``[B, N]`` of a batch; zeros and False where there is no object."""
    boxes, labels, crowd = [], [], []
    for target in targets:
        if target is not None and not isinstance(target, Objects):
            raise ValueError(f"detection target is a {type(target).__name__}; expected Objects")
        boxes.append(torch.zeros(0, 4) if target is None else target.boxes.float().cpu())
        labels.append(torch.zeros(0, dtype=torch.int64) if target is None else target.labels.cpu())
        crowd.append(torch.zeros(0, dtype=torch.bool) if target is None else target.crowd.cpu())
    stacked = [pad_sequence(x, batch_first=True).to(device, non_blocking=True) for x in (boxes, labels, crowd)]
    return stacked[0], stacked[1], stacked[2]


def fcos_losses(dense: Dense, targets: Sequence[Target | None]) -> dict[str, Tensor]:
    """``{"cls", "box", "centerness"}``: ``[B]`` each, divided by that image's own max(1, positives).

    Focal loss, generalised IoU loss, binary cross-entropy. The paper divides by the positives of the whole batch; an
    image's own number keeps losses comparable between images, which loss prediction needs.
    """
    device = dense.logits.device
    boxes, labels, crowd = padded(targets, device)
    known = torch.tensor([t is not None for t in targets], device=device)
    matched = assign(dense.grid, boxes, crowd)
    image, location = (matched.object >= 0).nonzero(as_tuple=True)
    number = (matched.object >= 0).sum(1).clamp(min=1)
    row = matched.object[image, location]

    truth = torch.zeros_like(dense.logits)
    truth[image, location, labels[image, row]] = 1.0
    counted = (~matched.ignored & known[:, None]).unsqueeze(-1)
    cls = (sigmoid_focal_loss(dense.logits, truth) * counted).sum((1, 2))

    box = boxes[image, row]
    points = dense.grid.points[location]
    giou = generalized_box_iou_loss(boxes_of(points, dense.sides[image, location]), box)
    central = F.binary_cross_entropy_with_logits(
        dense.centerness[image, location], centerness_of(sides_of(points, box)), reduction="none"
    )

    def per_image(values: Tensor) -> Tensor:  # each location once: no atomic adds, so the sum has one order
        return torch.zeros_like(dense.centerness).index_put((image, location), values).sum(1)

    return {"cls": cls / number, "box": per_image(giou) / number, "centerness": per_image(central) / number}


class FcosHead(nn.Module):
    """Classes, boxes and centerness at every location of the maps that lie at ``strides`` (maps ``first`` and on).

    ``shared``: one tower for classes and boxes (light nets); else two. Convolutions are shared by the levels, norms are
    not.
    """

    parts = ("cls", "box", "centerness")

    def __init__(
        self,
        channels: int,
        classes: int,
        strides: Sequence[int],
        *,
        norm: Norm,
        first: int = 0,
        depth: int = 4,
        shared: bool = False,
        reach: float = 8.0,
        settings: Decode = STANDARD,
    ) -> None:
        super().__init__()
        self.strides, self.first, self.reach, self.settings = tuple(strides), first, reach, settings
        self.towers = nn.ModuleList(_Tower(channels, depth, len(strides), norm) for _ in range(1 if shared else 2))
        self.classify = _output(channels, classes, bias=-log(99.0))  # a prior of 1 %: Lin et al. 2017, focal loss
        self.regress = _output(channels, 5, bias=0.0)  # four sides and the centerness
        self.scale = nn.Parameter(torch.ones(len(strides)))

    def forward(self, maps: Sequence[Tensor]) -> Dense:
        """Raw answers at every location."""
        maps = maps[self.first : self.first + len(self.strides)]
        logits, sides, centerness = [], [], []
        for level, (x, stride) in enumerate(zip(maps, self.strides, strict=True)):
            seen = [tower(x, level) for tower in self.towers]
            logits.append(_rows(self.classify(seen[0])))
            raw = _rows(self.regress(seen[-1]))
            sides.append(F.softplus(raw[..., :4] * self.scale[level]) * (2.0 * stride))
            centerness.append(raw[..., 4])
        grid = grid_of(maps, self.strides, self.reach)
        return Dense(torch.cat(logits, 1), torch.cat(sides, 1), torch.cat(centerness, 1), grid)

    def losses(self, maps: Sequence[Tensor], targets: Sequence[Target | None], size: Size) -> dict[str, Tensor]:
        """``{"cls": [B], "box": [B], "centerness": [B]}``."""
        return fcos_losses(self(maps), targets)

    def answers(self, maps: Sequence[Tensor], size: Size, *, outputs: bool, dense: bool) -> Answers:
        """Decoded detections (score: root of class times centerness); ``dense``: the logits of every location."""
        raw = self(maps)
        found = []
        if outputs:
            probs = raw.logits.sigmoid()
            scores = (probs * raw.centerness.sigmoid().unsqueeze(-1)).sqrt()
            found = decode(scores, probs, raw.boxes, raw.grid.cells, size, self.settings)
        return Answers(found, raw.logits if dense else None)


class _Tower(nn.Module):
    """3x3 convolutions shared by all levels, with a norm of each level's own."""

    def __init__(self, channels: int, depth: int, levels: int, norm: Norm) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(depth))
        self.norms = nn.ModuleList(nn.ModuleList(norm(channels) for _ in range(depth)) for _ in range(levels))
        for conv in self.convs:
            nn.init.kaiming_normal_(cast(nn.Conv2d, conv).weight, nonlinearity="relu")

    def forward(self, x: Tensor, level: int) -> Tensor:
        for conv, norm in zip(self.convs, cast(nn.ModuleList, self.norms[level]), strict=True):
            x = F.relu(norm(conv(x)), inplace=True)
        return x


def _output(inputs: int, outputs: int, bias: float) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(cast(Tensor, conv.bias), bias)
    return conv


def _rows(x: Tensor) -> Tensor:
    """``[B, c, h, w]`` to float32 ``[B, h w, c]``."""
    return x.float().permute(0, 2, 3, 1).flatten(1, 2)
