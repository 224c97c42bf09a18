"""How CALD changes an image: smaller, turned, with holes. (Its fourth view is HFlip.)"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, cos, floor, isfinite, radians, sin
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, pad

from strategies.base import Rendered
from strategies.cald_terms import padded, references
from tasks.geometry import Size, compose_affine, invert_affine
from tasks.types import Prediction

Offset = Literal["exact", "official"]


@dataclass(frozen=True)
class Resize:
    """The image at another scale, bilinear with antialiasing, at the upper left of a canvas of the mean colour.

    Pixels lie exactly at ``scale`` times where they were; the authors stretch the image to whole pixels instead, which
    moves its far edges by less than one. The canvas is the next multiple of the model's stride, as in torchvision's
    detectors.
    """

    scale: float = 0.8
    multiple: int = 32  # pixels: the model's stride divides it
    reads: tuple[str, ...] = field(default=("detection",), compare=False, repr=False)

    def __post_init__(self) -> None:
        if not (isfinite(self.scale) and self.scale > 0) or self.multiple < 1:
            raise ValueError(
                f"Resize(scale={self.scale}, multiple={self.multiple}): expected a scale above 0 and a multiple of at "
                "least 1 pixel; correct them"
            )

    @property
    def after(self) -> bool:
        return False

    def shown(self, size: Size) -> Size:
        """H, W of what an image of H, W becomes, without the canvas around it."""
        return int(self.scale * size[0]), int(self.scale * size[1])

    def render(
        self,
        images: Tensor,
        inputs: Mapping[str, Tensor],
        plain: Sequence[Prediction] | None,
        rngs: Sequence[np.random.Generator],
        fill: Tensor,
    ) -> Rendered:
        """Every image of the batch at the scale; ValueError where no pixel is left."""
        size = (images.shape[-2], images.shape[-1])
        if min(self.shown(size)) < 1:
            raise ValueError(
                f"Resize: {size[0]}x{size[1]} pixels at scale {self.scale} are none; choose a larger scale"
            )
        mean = fill.to(images).view(1, -1, 1, 1)
        matrix = torch.tensor([[self.scale, 0.0, 0.0], [0.0, self.scale, 0.0]], device=images.device)
        return Rendered(
            images=self._canvas(images - mean) + mean,
            index=torch.arange(len(images), device=images.device),
            matrix=matrix.expand(len(images), 2, 3),
            inputs={name: self._canvas(x) for name, x in inputs.items()},
        )

    def _canvas(self, images: Tensor) -> Tensor:
        small = interpolate(
            images, scale_factor=self.scale, mode="bilinear", antialias=True, recompute_scale_factor=False
        )
        return pad(small, (0, -small.shape[-1] % self.multiple, 0, -small.shape[-2] % self.multiple))


@dataclass(frozen=True)
class Rotate:
    """The image turned counter-clockwise about its centre, shrunk so that it fits into its own size, black around it.

    ``offset="official"`` maps boxes as the authors' program does: the canvas there is a pixel or two larger than the
    one that its boxes are centred on, so they are off by 0.5 to 1 pixel. Pixels are where they are in either case.
    """

    angle: float = 5.0  # degrees
    offset: Offset = "exact"
    reads: tuple[str, ...] = field(default=("detection",), compare=False, repr=False)

    def __post_init__(self) -> None:
        if not abs(self.angle) < 90:
            raise ValueError(f"Rotate.angle is {self.angle}; expected degrees between -90 and 90: correct it")

    @property
    def after(self) -> bool:
        return False

    def render(
        self,
        images: Tensor,
        inputs: Mapping[str, Tensor],
        plain: Sequence[Prediction] | None,
        rngs: Sequence[np.random.Generator],
        fill: Tensor,
    ) -> Rendered:
        """Every image of the batch turned, bilinear, in its own size."""
        height, width = images.shape[-2:]
        pixels = rotation_matrix(self.angle, (height, width))
        # grid_sample counts from -1 to 1 between the edges, and asks where a pixel comes from
        unit = torch.tensor([[2 / width, 0.0, -1.0], [0.0, 2 / height, -1.0]], dtype=torch.float64)
        back = compose_affine(unit, compose_affine(invert_affine(pixels), invert_affine(unit)))
        grid = affine_grid(back[None], [1, 1, height, width], align_corners=False).to(images.device)
        boxes = rotation_matrix(self.angle, (height, width), self.offset)
        return Rendered(
            images=_sampled(images, grid),
            index=torch.arange(len(images), device=images.device),
            matrix=boxes.float().to(images.device).expand(len(images), 2, 3),
            inputs={name: _sampled(x, grid) for name, x in inputs.items()},
        )


@dataclass(frozen=True)
class Holes:
    """Where holes may be cut."""

    count: int = 2  # at most, in an image
    size: tuple[float, float] = (0.05, 0.2)  # of the image's height, and of its width
    cover: tuple[float, float] = (0.1, 0.4)  # the share that a hole hides of the box that it hides most of
    tries: int = 50

    def __post_init__(self) -> None:
        if not (0 <= self.size[0] <= self.size[1] <= 1 and 0 <= self.cover[0] <= self.cover[1]):
            raise ValueError(f"cutout: {self}; expected shares of 0..1, the smaller one first: correct size or cover")
        if self.count < 1 or self.tries < 1:
            raise ValueError(f"cutout: {self}; expected a count and tries of at least 1: correct them")


@dataclass(frozen=True)
class Cutout:
    """The image with black holes that hide a part of some detected box; rendered after the plain pass.

    An image without detections, or where no try fits, stays as it is.
    """

    holes: Holes = Holes()
    min_score: float = 0.05
    limit: int = 100  # boxes an image
    ref_limit: tuple[int, int] = (40, 50)
    reads: tuple[str, ...] = field(default=("detection",), compare=False, repr=False)

    @property
    def after(self) -> bool:
        return True

    def render(
        self,
        images: Tensor,
        inputs: Mapping[str, Tensor],
        plain: Sequence[Prediction] | None,
        rngs: Sequence[np.random.Generator],
        fill: Tensor,
    ) -> Rendered:
        """Every image of the batch, with its holes; each draws its tries from its own rng."""
        assert plain is not None, "Cutout is rendered from the plain predictions"
        refs = references(padded([p.detections for p in plain], self.min_score, self.limit), *self.ref_limit)
        drawn = np.stack([rngs[row].random((self.holes.tries, 4)) for row in range(len(images))])
        size = (images.shape[-2], images.shape[-1])
        holes = cut_holes(torch.from_numpy(drawn).to(images.device), refs.boxes, refs.there, size, self.holes)
        black = hole_mask(holes, size)[:, None]
        return Rendered(
            images=images.masked_fill(black, 0.0),
            index=torch.arange(len(images), device=images.device),
            matrix=torch.eye(2, 3, device=images.device).expand(len(images), 2, 3),
            inputs={name: x.masked_fill(black, 0.0) for name, x in inputs.items()},
        )


def rotated_size(angle: float, size: Size) -> Size:
    """H, W of the canvas of whole pixels that an image of H, W needs when it is turned by ``angle`` degrees."""
    c, s = cos(radians(angle)), abs(sin(radians(angle)))
    half = ((size[0] * c + size[1] * s) / 2, (size[1] * c + size[0] * s) / 2)
    height, width = (ceil(n / 2 + h) - floor(n / 2 - h) for n, h in zip(size, half, strict=True))
    return height, width


def rotation_matrix(angle: float, size: Size, offset: Offset = "exact") -> Tensor:
    """The map ``[2, 3]`` float64 of an image of H, W to itself, turned counter-clockwise and shrunk to its own size."""
    (height, width), (tall, wide) = size, rotated_size(angle, size)
    c, s = cos(radians(angle)), sin(radians(angle))
    down, right = (tall, wide)
    if offset == "official":
        down, right = int(height * c + width * abs(s)), int(height * abs(s) + width * c)
    turn = [
        [c, s, (right - c * width - s * height) / 2],
        [-s, c, (down + s * width - c * height) / 2],
    ]
    shrink = torch.tensor([[width / wide], [height / tall]], dtype=torch.float64)
    return shrink * torch.tensor(turn, dtype=torch.float64)


def cut_holes(drawn: Tensor, boxes: Tensor, there: Tensor, size: Size, rules: Holes) -> Tensor:
    """The holes ``[B, count, 4]`` int64 (x1, y1, x2, y2; all 0 = none): the first tries that hide neither much nor
    little of a box.

    ``drawn [B, T, 4]`` uniforms of height, width, left and top of each try; ``boxes [B, R, 4]``, those that are
    ``there [B, R]``. A box without area is hidden by nothing.
    """
    height, width = size
    low, high = rules.size
    full = drawn.new_tensor([height, width])
    sides = (low + (high - low) * drawn[..., :2].double()) * full  # h, w
    corner = drawn[..., 2:].double().flip(-1) * (full - sides)  # top, left
    holes = torch.cat([corner.flip(-1), (corner + sides).flip(-1)], -1).long()
    hidden = _hidden(holes.double(), boxes.double()).masked_fill(~there[:, None], -1.0).amax(-1)  # [B, T]
    fits = (hidden >= rules.cover[0]) & (hidden <= rules.cover[1])
    taken = fits & (fits.cumsum(1) <= rules.count)
    first = (~taken).int().argsort(dim=1, stable=True)[:, : rules.count, None]
    return (holes * taken[..., None]).take_along_dim(first, 1)


def hole_mask(holes: Tensor, size: Size) -> Tensor:
    """``[B, H, W]`` bool: in one of the holes ``[B, n, 4]``."""
    x, y = (torch.arange(n, device=holes.device) for n in (size[1], size[0]))
    column = (x >= holes[..., 0, None]) & (x < holes[..., 2, None])  # [B, n, W]
    row = (y >= holes[..., 1, None]) & (y < holes[..., 3, None])
    return (row[..., :, None] & column[..., None, :]).any(1)


def _hidden(holes: Tensor, boxes: Tensor) -> Tensor:
    """The share ``[B, T, R]`` of each box ``[B, R, 4]`` that each hole ``[B, T, 4]`` hides."""
    first = torch.maximum(holes[:, :, None, :2], boxes[:, None, :, :2])
    last = torch.minimum(holes[:, :, None, 2:], boxes[:, None, :, 2:])
    area = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)[:, None]
    common = (last - first).clamp(min=0).prod(-1)
    return torch.where(area > 0, common / area, 0.0)


def _sampled(images: Tensor, grid: Tensor) -> Tensor:
    grid = grid.to(images.dtype).expand(len(images), -1, -1, -1)
    turned: Tensor = grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return turned
