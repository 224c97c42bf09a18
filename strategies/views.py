"""Other pixels of an image, to see whether the model answers alike.  @plugin-dev: copy HFlip for your own view.

Every view renders a whole batch at once; a view's heads (``reads``) are no part of its identity, so that two strategies
that flip the image share one forward pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import roi_align

from strategies.base import Rendered
from tasks.types import Detections, Prediction


@dataclass(frozen=True)
class HFlip:
    """The mirrored image."""

    reads: tuple[str, ...] = field(default=("segmentation",), compare=False, repr=False)

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
        """Every image of the batch mirrored about its vertical axis."""
        count, width = images.shape[0], images.shape[-1]
        mirror = torch.tensor([[-1.0, 0.0, width], [0.0, 1.0, 0.0]], device=images.device)
        return Rendered(
            images=images.flip(-1),
            index=torch.arange(count, device=images.device),
            matrix=mirror.expand(count, 2, 3),
            inputs={name: x.flip(-1) for name, x in inputs.items()},
        )


@dataclass(frozen=True)
class BoxCrops:
    """A square window around each confident detection, resized to a fixed size.

    Rendered after the plain pass. Windows and their rows follow ``confident_boxes``: image by image, best box first.
    Sampled as RoIAlign does (aligned, ``ceil(side / crop_size)`` points a bin and axis); what lies outside of the image
    is the model's mean colour.
    """

    crop_size: int = 128  # pixels; a multiple of the model's stride
    margin: float = 0.1  # of the longer side, on each side
    min_side: float = 32.0  # pixels: no window is smaller
    min_score: float = 0.3
    limit: int = 50  # boxes an image
    reads: tuple[str, ...] = field(default=("segmentation",), compare=False, repr=False)

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
        """The crops ``[M, 3, crop_size, crop_size]`` of all boxes of the batch."""
        assert plain is not None, "BoxCrops is rendered from the plain predictions"
        boxes = confident_boxes([p.detections for p in plain], self.min_score, self.limit)
        windows = boxmask_windows(boxes.boxes.to(images.dtype), self.margin, self.min_side)
        x, y, side = windows.unbind(1)
        scale, zero = self.crop_size / side, torch.zeros_like(side)
        matrix = torch.stack([scale, zero, -x * scale, zero, scale, -y * scale], 1).view(-1, 2, 3)
        mean = fill.to(images).view(1, -1, 1, 1)
        return Rendered(
            images=crop_windows(images - mean, boxes.image, windows, self.crop_size).add_(mean),
            index=boxes.image,
            matrix=matrix.float(),
            inputs={name: crop_windows(t, boxes.image, windows, self.crop_size) for name, t in inputs.items()},
        )


@dataclass(frozen=True)
class BatchBoxes:
    """Boxes of several images in one table, image by image."""

    image: Tensor  # [N] int64: row of the image in the batch
    boxes: Tensor  # [N, 4] xyxy
    labels: Tensor  # [N] int64
    probs: Tensor  # [N, K]


def confident_boxes(detections: Sequence[Detections], min_score: float, limit: int) -> BatchBoxes:
    """The first ``limit`` detections of each image with a score of at least ``min_score`` (they come best first)."""
    device = detections[0].scores.device
    sizes = [len(d.scores) for d in detections]
    image = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(device)
    place = torch.cat([torch.arange(size) for size in sizes]).to(device)
    scores = torch.cat([d.scores for d in detections])
    kept = ((scores >= min_score) & (place < limit)).nonzero().flatten()
    return BatchBoxes(
        image=image[kept],
        boxes=torch.cat([d.boxes for d in detections])[kept],
        labels=torch.cat([d.labels for d in detections])[kept],
        probs=torch.cat([d.probs for d in detections])[kept],
    )


def boxmask_windows(boxes: Tensor, margin: float = 0.1, min_side: float = 32.0) -> Tensor:
    """Square windows ``[N, 3]`` (left, top, side; pixels) centred on boxes ``[N, 4]``."""
    low, high = boxes[:, :2], boxes[:, 2:]
    side = ((1 + 2 * margin) * (high - low).amax(1)).clamp(min=min_side)
    return torch.cat([(low + high) / 2 - side[:, None] / 2, side[:, None]], 1)


def crop_windows(images: Tensor, image: Tensor, windows: Tensor, size: int, points: int = -1) -> Tensor:
    """Windows ``[N, 3]`` of ``images[image]`` as ``[N, C, size, size]``; zero outside of the images.

    ``points`` sampling points a bin and axis; -1 = ``ceil(side / size)``.
    """
    corner, side = windows[:, :2], windows[:, 2:]
    far = corner + side
    # rounding must not make a window wider than its side: one point a bin would become two
    far = torch.where(far - corner > side, torch.nextafter(far, corner), far)
    rois = torch.cat([image[:, None].to(windows), corner, far], 1)
    crops: Tensor = roi_align(images, rois, output_size=size, spatial_scale=1.0, sampling_ratio=points, aligned=True)
    return crops
