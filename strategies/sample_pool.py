"""A small pool and a fixed network without training, on which strategies are tried out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from strategies.base import Seen, Strategy
from strategies.seeing import Images, Predict, see
from tasks.classes import ClassMap
from tasks.geometry import clip_boxes, rle_of_patch
from tasks.seeding import key_of, rng_of
from tasks.types import Detections, Prediction, SegMap

CLASSES = ClassMap(
    detection=("car", "person", "bus", "kite"),
    segmentation=("sky", "road", "vehicle", "person", "tree"),
    det_to_seg=(2, 3, 2, -1),  # two share a class, one has none
    keypoints=("front", "middle", "back"),
)
ONE_CLASS = ClassMap(detection=("car",), segmentation=("car",), det_to_seg=(0,), keypoints=("front", "back"))
_STRIDE, _CELL = 8, 16


@dataclass(frozen=True)
class SampleNetwork:
    """Answers every head from an image's pixels with fixed weights: deterministic, never trained, content matters."""

    classes: ClassMap = CLASSES
    min_score: float = 0.05
    provides: frozenset[str] = frozenset(
        ("detection", "instances", "keypoints", "segmentation", "features", "predicted_loss", "detection.dense")
    )

    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        """One prediction an image of ``[B, 3, H, W]``, H and W multiples of 8; ``heads`` limits what is answered."""
        wanted = self.provides if heads is None else set(heads)
        fine = avg_pool2d(images, _STRIDE)
        coarse = avg_pool2d(images, _CELL)
        seg = self._segment(fine) if "segmentation" in wanted else None
        dense = conv2d(coarse - 0.5, self._weights("dense", len(self.classes.detection), 1, 9.0)) - 1.0
        answers = []
        for row in range(len(images)):
            outputs: dict[str, Detections | SegMap] = {}
            if boxes := [head for head in ("detection", "instances", "keypoints") if head in wanted]:
                found = self._parts(self._detect(dense[row], coarse[row]), images[row], boxes)
                outputs |= dict.fromkeys(boxes, found)
            if seg is not None:
                outputs["segmentation"] = SegMap(seg[row])
            answers.append(
                Prediction(
                    outputs,
                    features=fine[row].flatten(1).mean(1).repeat(2) if "features" in wanted else None,
                    predicted_loss=self._losses(coarse[row]) if "predicted_loss" in wanted else {},
                    dense=dense[row].flatten(1).T if "detection.dense" in wanted else None,
                )
            )
        return answers

    def _weights(self, name: str, out: int, size: int, scale: float) -> Tensor:
        drawn = rng_of("sample network", name).normal(0.0, scale / size, (out, 3, size, size))
        return torch.from_numpy(drawn.astype(np.float32))

    def _segment(self, fine: Tensor) -> Tensor:
        logits = conv2d(fine - 0.5, self._weights("segmentation", len(self.classes.segmentation), 3, 8.0), padding=1)
        ramp = torch.linspace(0.0, 1.0, fine.shape[-1])  # so that a mirrored image is answered differently
        logits = logits + ramp * torch.arange(len(self.classes.segmentation))[:, None, None] / 2
        return torch.log_softmax(logits, 1)

    def _detect(self, dense: Tensor, coarse: Tensor) -> Detections:
        probs = dense.sigmoid().flatten(1).T  # [A, C], a box a cell
        scores, labels = probs.max(1)
        y, x = torch.meshgrid(*(torch.arange(n) * _CELL + _CELL / 2 for n in dense.shape[1:]), indexing="ij")
        centre = torch.stack([x.flatten(), y.flatten()], 1)
        half = _CELL * (0.4 + coarse.flatten(1).T[:, :2])  # some boxes reach beyond the image
        order = scores.sort(descending=True, stable=True).indices
        order = order[scores[order] >= self.min_score]
        boxes = torch.cat([centre - half, centre + half], 1)
        return Detections(boxes[order], scores[order], labels[order], probs[order])

    def _parts(self, found: Detections, image: Tensor, heads: Sequence[str]) -> Detections:
        """With masks where a box is blue, and keypoints along its diagonal, of which a class has more than the last."""
        size, count = (image.shape[-2], image.shape[-1]), len(self.classes.keypoints)
        masks, points = None, None
        if "instances" in heads:
            blue = (image[2] > 0.4).cpu().numpy()
            corners = clip_boxes(found.boxes, size).round().int().tolist()
            masks = tuple(rle_of_patch(blue[y1:y2, x1:x2], y1, x1, size)[0] for x1, y1, x2, y2 in corners)
        if "keypoints" in heads:
            place = ((torch.arange(count) + 0.5) / max(count, 1))[None, :, None] + found.probs[:, :1, None] / 2
            xy = found.boxes[:, None, :2] + place * (found.boxes[:, None, 2:] - found.boxes[:, None, :2])
            v = 2.0 * (torch.arange(count) <= found.labels[:, None])
            points = torch.cat([xy, v[..., None]], 2) * (v > 0)[..., None]
        return replace(found, masks=masks, keypoints=points)

    def _losses(self, coarse: Tensor) -> dict[str, Tensor]:
        return {"detection": coarse.std(), "segmentation": coarse.mean()}


def sample_images(count: int, height: int = 56, width: int = 72) -> Tensor:
    """Patchwork images ``[count, 3, height, width]``, the same every time."""
    patches = rng_of("sample images").random((count, 3, height // 8, width // 8), dtype=np.float32)
    return torch.from_numpy(patches).repeat_interleave(8, 2).repeat_interleave(8, 3)


def sample_seen(
    strategy: Strategy, count: int = 7, network: SampleNetwork | None = None, *, all_heads: bool = False
) -> list[Seen]:
    """What a strategy would see of ``count`` sample images: what it declares, or with ``all_heads`` everything."""
    return seen_of(strategy, sample_images(count), network or SampleNetwork(), all_heads=all_heads)


class Network(Protocol):
    """What answers in place of a model."""

    @property
    def classes(self) -> ClassMap: ...

    @property
    def provides(self) -> frozenset[str]: ...

    @property
    def predict(self) -> Predict: ...


def seen_of(strategy: Strategy, pixels: Tensor, network: Network, *, all_heads: bool = False) -> list[Seen]:
    """What a strategy would see of images ``[B, 3, H, W]`` that are called sample/0, sample/1 and so on."""
    ids = [f"sample/{row}" for row in range(len(pixels))]
    images = Images(ids, [key_of(id) for id in ids], network.classes, pixels)
    every = tuple(sorted(network.provides))
    heads = every if all_heads else tuple(strategy.reads)
    views = {view: every if all_heads else tuple(view.reads) for view in strategy.views}
    with torch.inference_mode():
        return see(network.predict, images, heads, views, 0, 0, torch.full((3,), 0.5)).seen
