"""Semantic segmentation: intersection over union, and what painting a map costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tasks.types import IGNORE, ClassMap, Output, SegMap, Target


class MeanIoU:
    """Intersection over union of each class from one confusion matrix over all images (the Cityscapes convention)."""

    main: ClassVar[str] = "miou"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.confusion: NDArray[np.int64] = np.zeros((len(names), len(names)), np.int64)  # [truth, predicted] pixels

    def update(self, outputs: Sequence[Output], targets: Sequence[Target], ids: Sequence[str]) -> None:
        """Add labeled images; predictions are enlarged (bilinear) to the size of the truth, the best class counts."""
        for output, target, id in zip(outputs, targets, ids, strict=True):
            if not isinstance(output, SegMap) or not isinstance(target, Tensor):
                raise ValueError(
                    f"segmentation metric: image {id!r} has a {type(output).__name__} and a {type(target).__name__}; "
                    "expected a SegMap and a map of classes"
                )
            self.confusion += self._count(output.log_probs, target, id)

    def merge(self, other: Self) -> None:
        """Add the pixels of another shard's metric: the result is that of one metric over all images."""
        if other.names != self.names:
            raise ValueError(f"segmentation metric: merging classes {other.names} into {self.names}; expected the same")
        self.confusion += other.confusion

    def compute(self) -> dict[str, float]:
        """``miou`` over the classes that occur in truth or prediction, ``miou_all`` with 0 for the others,
        ``pixel_accuracy``, ``iou/<class>`` (NaN where a class does not occur).
        """
        right = np.diag(self.confusion).astype(np.float64)
        union = self.confusion.sum(0) + self.confusion.sum(1) - right
        iou = np.full(len(right), np.nan)
        np.divide(right, union, out=iou, where=union > 0)
        pixels, nan = int(self.confusion.sum()), float("nan")
        return {
            "miou": float(np.nanmean(iou)) if pixels else nan,
            "miou_all": float(np.nan_to_num(iou).mean()) if pixels else nan,
            "pixel_accuracy": float(right.sum() / pixels) if pixels else nan,
        } | {f"iou/{name}": float(value) for name, value in zip(self.names, iou, strict=True)}

    def _count(self, log_probs: Tensor, target: Tensor, id: str) -> NDArray[np.int64]:
        """``[K, K]`` pixels of one image: truth x prediction; ignored pixels count nowhere."""
        classes = len(self.names)
        if log_probs.shape[-2:] != target.shape:
            size = (target.shape[0], target.shape[1])
            log_probs = F.interpolate(log_probs[None].float(), size=size, mode="bilinear", align_corners=False)[0]
        truth = target.to(log_probs.device)
        valid = truth != IGNORE
        truth = truth[valid].long()
        predicted = log_probs.max(0).indices[valid]  # the first of equals, as argmax, in a quarter of its time
        if len(truth) and not 0 <= int(truth.min()) <= int(truth.max()) < classes:
            found = f"{int(truth.min())}..{int(truth.max())}"
            raise ValueError(
                f"segmentation metric: image {id!r} has classes {found}; expected 0..{classes - 1} or {IGNORE}"
            )
        counts: NDArray[np.int64] = torch.bincount(truth * classes + predicted, minlength=classes**2).cpu().numpy()
        return counts.reshape(classes, classes)


@dataclass(frozen=True)
class Segmentation:
    """A class for every pixel. A whole map takes ``map_seconds`` to paint, whatever is in it."""

    name: ClassVar[str] = "segmentation"

    map_seconds: float = 1500.0

    def metric(self, classes: ClassMap) -> MeanIoU:
        """A fresh metric; its main figure is ``miou``."""
        return MeanIoU(classes.segmentation)

    def label_cost(self, label: Target | Output) -> Mapping[str, float]:
        """``{"seconds", "pixels"}`` of labeling this image; a prediction counts the pixels of its own grid."""
        if isinstance(label, Tensor):
            pixels = float((label != IGNORE).sum())
        elif isinstance(label, SegMap):
            pixels = float(label.log_probs[0].numel())
        else:
            raise ValueError(f"segmentation.label_cost: {type(label).__name__}; expected a map of classes or a SegMap")
        return {"seconds": self.map_seconds, "pixels": pixels}

    def pseudo(
        self, output: Output, size: tuple[int, int], threshold: float, mirrored: Output | None = None
    ) -> Tensor | None:
        """The best class ``[H, W]`` int64 where its probability is above ``threshold``, elsewhere 255.

        None where no pixel's is. The log-probabilities are enlarged first, as for the metric.
        """
        if not isinstance(output, SegMap):
            raise ValueError(f"segmentation.pseudo: {type(output).__name__}; expected a SegMap")
        logits = F.interpolate(output.log_probs[None].float(), size=size, mode="bilinear", align_corners=False)
        probability, best = logits.softmax(1)[0].max(0)
        label = torch.where(probability > threshold, best, IGNORE)
        return label if bool((label != IGNORE).any()) else None
