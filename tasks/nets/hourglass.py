"""The hour-glass network that finds pickup points: strided convolutions down, transposed ones up, a layer a class.

After Fig. 3 of the paper on AuxNet (IROS 2018), whose numbers of channels are only in the picture: those here are
ours. As there: four input channels, ReLUs, dropout in convolutions 6 and 7, no shortcuts from one side to the other.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.base import wanted_heads
from tasks.nets.inputs import channels_of, stacked
from tasks.pickup import Form, Query, askable, centroid, decode, point_distance, query, soft_iou_error
from tasks.types import Batch, ClassMap, Losses, Objects, Prediction, Target

Loss = Literal["iou", "dist", "ce", "class"]
WIDTHS = (1.0, 1.5, 2.0, 3.0, 4.0, 4.0)  # channels of the convolutions on the way down, in ``width``s


class Hourglass(nn.Module):
    """Satisfies ``tasks.base.Model``; sides of images must be multiples of 2 ** ``levels``.

    Losses, of one class in each image that is drawn from those it shows, at every step anew:

    * ``iou``: the soft IoU error; ``iou="jaccard"`` cuts activations at 1, ``"literal"`` does not (see
      ``soft_iou_error``);
    * ``dist``: from the centre of the activations to the nearest pickup point, px / ``distance_unit`` (1: raw px, 100:
      the paper's scaled distance);
    * ``ce``: cross-entropy of the mask, mean over the pixels;
    * ``class``: cross-entropy of the class vector that the innermost layer doubles as (which classes are there?).

    ``norm="none"`` is the paper's; without normalisation a short training may never leave the state in which all
    activations are alike. ``leaky`` makes the ReLUs inside leaky; the output stays at 0 or above. ``depth_range`` is
    what depth is scaled by, in metres.
    """

    mean_colour: Tensor  # [3] what views fill empty pixels with

    def __init__(
        self,
        classes: ClassMap,
        tasks: Sequence[str],
        *,
        inputs: tuple[str, ...] = ("rgb", "depth"),
        width: int = 32,
        levels: int = 6,
        norm: Literal["group", "none"] = "group",
        leaky: bool = False,
        dropout: float = 0.15,
        losses: tuple[Loss, ...] = ("iou", "dist"),
        iou: Form = "jaccard",
        distance_unit: float = 1.0,
        depth_range: tuple[float, float] = (0.3, 0.7),
    ) -> None:
        super().__init__()
        _check(classes, tasks, width, levels, dropout, losses, distance_unit, depth_range)
        self.inputs, self.losses, self.iou = inputs, losses, iou
        self.distance_unit, self.depth_range, self.stride = distance_unit, depth_range, 2**levels
        self.provides = frozenset({"pickup", "features"})
        widths = [round(width * share) for share in WIDTHS[:levels]]
        count, inner = len(classes.detection), widths[-1]

        def block(conv: nn.Module, channels: int, drop: bool = False) -> nn.Sequential:
            parts = [conv, nn.GroupNorm(4, channels)] if norm == "group" else [conv]
            parts += [nn.LeakyReLU(0.01) if leaky else nn.ReLU()]
            return nn.Sequential(*parts, *([nn.Dropout(dropout)] if drop else []))

        down = zip([channels_of(inputs), *widths], widths, strict=False)
        self.down = nn.Sequential(
            *(block(nn.Conv2d(a, b, 3, 2, 1), b, drop=i == levels - 1) for i, (a, b) in enumerate(down)),
            block(nn.Conv2d(inner, inner, 3, 1, 1), inner, drop=True),
        )
        up = zip([inner, *widths[::-1][1:]], widths[::-1][1:], strict=False)
        self.up = nn.Sequential(
            *(block(nn.ConvTranspose2d(a, b, 4, 2, 1), b) for a, b in up),
            nn.ConvTranspose2d(widths[0], count, 4, 2, 1),
        )
        self.vector = nn.Conv2d(inner, count, 1) if "class" in losses else None
        self.register_buffer("mean_colour", torch.full((3,), 0.5), persistent=False)

    @property
    def shared(self) -> tuple[nn.Parameter, ...]:
        """The parameters of the last layers that all losses share: the output, or the innermost with a class vector."""
        return tuple((self.up[-1] if self.vector is None else self.down[-1]).parameters())

    def maps(self, images: Tensor, inputs: Mapping[str, Tensor] | None) -> tuple[Tensor, Tensor]:
        """The innermost map ``[B, C, h, w]`` and the layers ``[B, K, H, W]`` before the last ReLU."""
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"images of {height}x{width}: expected multiples of {self.stride}, the stride of this model; "
                "set data.size or model.levels accordingly"
            )
        inner = self.down(stacked(images, inputs, self.inputs, self.depth_range))
        return inner, self.up(inner).float()

    def activations(self, layers: Tensor) -> Tensor:
        """What is read as the answer, ``[...]`` >= 0: cut at 1 where the IoU needs it."""
        return layers.clamp(0, 1) if self.iou == "jaccard" else layers.relu()

    def forward(self, batch: Batch) -> Losses:
        """The losses of each image; 0, connected to the graph, where no class can be asked for."""
        inner, layers = self.maps(batch.images, batch.inputs)
        targets = batch.targets.get("pickup", (None,) * len(batch.images))
        asked = [_drawn(target) for target in targets]
        size, device = (layers.shape[-2], layers.shape[-1]), layers.device
        masks, points = _stacked(asked, size, device)
        labels = torch.tensor([0 if one is None else one.label for one in asked], device=device)
        labeled = torch.tensor([one is not None for one in asked], device=device)
        chosen = layers[torch.arange(len(layers), device=device), labels]
        seen = self.activations(chosen)
        values = {}
        for name in self.losses:
            if name == "iou":
                value = soft_iou_error(seen, masks, self.iou)
            elif name == "dist":
                value = point_distance(centroid(seen)[0], points) / self.distance_unit
            elif name == "ce":
                value = F.binary_cross_entropy_with_logits(chosen, masks, reduction="none").mean((1, 2))
            else:
                value = self._class_error(inner, targets)
            values[f"pickup.{name}"] = value * labeled
        return Losses(values, {"pickup": labeled})

    def _class_error(self, inner: Tensor, targets: Sequence[Target | None]) -> Tensor:
        """``[B]``: which classes are in the image, a yes or no for each."""
        assert self.vector is not None
        logits = self.vector(inner.mean((2, 3), keepdim=True)).flatten(1).float()
        there = torch.zeros_like(logits)
        for row, target in zip(there, targets, strict=True):
            if isinstance(target, Objects):
                row[target.labels[~target.crowd].to(row.device)] = 1
        return F.binary_cross_entropy_with_logits(logits, there, reduction="none").mean(1)

    @torch.inference_mode()
    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        """One prediction an image. ValueError for a head that is not in ``provides``. Call ``eval()`` first."""
        assert not self.training, "predict() in training mode: call eval() first"
        wanted = wanted_heads(self.provides, heads)
        inner, layers = self.maps(images, inputs)
        pooled = inner.float().mean((2, 3))
        return [
            Prediction(
                outputs={"pickup": decode(self.activations(one))} if "pickup" in wanted else {},
                features=features if "features" in wanted else None,
            )
            for one, features in zip(layers, pooled, strict=True)
        ]


def _drawn(target: Target | None) -> Query | None:
    """The truth about one class of an image, drawn as dropout is; None where no class can be asked for."""
    if target is None:
        return None
    if not isinstance(target, Objects):
        raise ValueError(f"pickup target is a {type(target).__name__}; expected Objects")
    labels = askable(target)
    return query(target, labels[int(torch.randint(len(labels), ()))]) if labels else None


def _stacked(asked: Sequence[Query | None], size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Masks ``[B, H, W]`` and points ``[B, n, 2]``: an image with fewer of these repeats its first one."""
    most = max((len(one.points) for one in asked if one is not None), default=1)
    masks, points = torch.zeros(len(asked), *size), torch.zeros(len(asked), most, 2)
    for b, one in enumerate(asked):
        if one is None:
            continue
        if one.mask.shape != size:
            raise ValueError(f"pickup mask is {tuple(one.mask.shape)}; expected {size}, the size of the image")
        masks[b], points[b] = one.mask, one.points[0]
        points[b, : len(one.points)] = one.points
    return masks.to(device, non_blocking=True), points.to(device, non_blocking=True)


def _check(
    classes: ClassMap,
    tasks: Sequence[str],
    width: int,
    levels: int,
    dropout: float,
    losses: Sequence[str],
    distance_unit: float,
    depth_range: tuple[float, float],
) -> None:
    """ValueError for what this network cannot be made from."""
    if tuple(tasks) != ("pickup",):
        raise ValueError(f"tasks: {list(tasks)}; expected 'pickup' alone, which is all that an hour-glass learns")
    if not classes.detection or not classes.keypoints:
        raise ValueError(
            "the data set names no classes of boxes, or no keypoints; expected objects with a pickup point"
        )
    if width < 8 or width % 8:
        raise ValueError(f"model.width: {width}; expected a multiple of 8, from 8 on")
    if not 2 <= levels <= len(WIDTHS):
        raise ValueError(f"model.levels: {levels}; expected 2 to {len(WIDTHS)} halvings")
    if not 0 <= dropout < 1:
        raise ValueError(f"model.dropout: {dropout}; expected a share of 0 or more, below 1")
    if not losses or len(set(losses)) != len(losses):
        raise ValueError(f"model.losses: {list(losses)}; expected at least one of iou, dist, ce, class, each once")
    if not 0 < distance_unit < float("inf"):
        raise ValueError(f"model.distance_unit: {distance_unit}; expected pixels, more than 0")
    if not 0 <= depth_range[0] < depth_range[1] < float("inf"):
        raise ValueError(f"model.depth_range: {list(depth_range)}; expected [nearest, farthest] in metres")
