"""Depth: how far off predicted metres are, and what their labels cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.types import ClassMap, DepthMap, Output, Target

NEAREST = 1e-3  # metres: predictions are cut at it, so that one pixel cannot cost without bound in the logarithm
AGREEMENT = 0.1  # of the metres: by how much an answer and the mirror image's may differ
DELTA = 1.25  # prediction / truth (or its inverse) below which a pixel counts as right


class DepthError:
    """Errors over all valid pixels (truth > 0) of all images: an image counts by how many of them it has.

    Each image's sums are kept, and are added up exactly, so figures do not depend on shards or their order.
    """

    main: ClassVar[str] = "rmse"
    higher_is_better: ClassVar[bool] = False

    def __init__(self) -> None:
        # image id -> valid pixels, and their sums: squares, squares of logarithms, absolute, relative, right
        self._sums: dict[str, tuple[float, ...]] = {}

    def update(self, outputs: Sequence[Output], targets: Sequence[Target], ids: Sequence[str]) -> None:
        """Add labeled images; predictions are enlarged (bilinear) to the size of the truth and cut at 1e-3 m."""
        for output, target, id in zip(outputs, targets, ids, strict=True):
            if not isinstance(output, DepthMap) or not isinstance(target, Tensor) or not target.is_floating_point():
                raise ValueError(
                    f"depth metric: image {id!r} has a {type(output).__name__} and a {type(target).__name__}; "
                    "expected a DepthMap and a map of metres"
                )
            self._add(id, _sums(output.metres, target))

    def merge(self, other: Self) -> None:
        """Add the images of another shard's metric: the result is that of one metric over all of them."""
        for id, sums in other._sums.items():
            self._add(id, sums)

    def compute(self) -> dict[str, float]:
        """``rmse`` and ``mae`` in metres, ``log_rmse`` (natural logarithm), ``abs_rel`` (error / truth), ``delta1``
        (share of pixels within a factor of 1.25); NaN without any valid pixel.
        """
        columns = list(zip(*self._sums.values(), strict=True)) or [()] * 6
        count, *totals = (fsum(column) for column in columns)
        square, log_square, absolute, relative, right = (x / count if count else float("nan") for x in totals)
        return {
            "rmse": sqrt(square),
            "log_rmse": sqrt(log_square),
            "mae": absolute,
            "abs_rel": relative,
            "delta1": right,
        }

    def _add(self, id: str, sums: tuple[float, ...]) -> None:
        if id in self._sums:
            raise ValueError(f"depth metric: image {id!r} came twice; expected every image once")
        self._sums[id] = sums


def _sums(metres: Tensor, target: Tensor) -> tuple[float, ...]:
    """What ``DepthError`` keeps of an image; float64."""
    if metres.shape != target.shape:
        size = (target.shape[0], target.shape[1])
        metres = F.interpolate(metres[None, None].float(), size=size, mode="bilinear", align_corners=False)[0, 0]
    truth = target.to(metres.device)
    valid = (truth > 0) & truth.isfinite()
    found, truth = metres[valid].double().clamp(min=NEAREST), truth[valid].double()
    away, factor = found - truth, found.log() - truth.log()
    right = torch.maximum(found / truth, truth / found) < DELTA
    parts = (away.square(), factor.square(), away.abs(), away.abs() / truth, right)
    return (float(len(truth)), *(float(part.sum()) for part in parts))


@dataclass(frozen=True)
class Depth:
    """Metres for every pixel. A map takes ``map_seconds``: nothing where a sensor measures it along with the image."""

    name: ClassVar[str] = "depth"

    map_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.map_seconds < float("inf"):
            raise ValueError(f"map_seconds is {self.map_seconds}; expected seconds an image, 0 or more")

    def metric(self, classes: ClassMap) -> DepthError:
        """A fresh metric; its main figure is ``rmse``, in metres."""
        return DepthError()

    def label_cost(self, label: Target | Output) -> Mapping[str, float]:
        """``{"seconds"}`` of labeling this image, whatever is in it."""
        if not isinstance(label, Tensor | DepthMap):
            raise ValueError(f"depth.label_cost: {type(label).__name__}; expected a map of metres or a DepthMap")
        return {"seconds": self.map_seconds}

    def pseudo(
        self, output: Output, size: tuple[int, int], threshold: float, mirrored: Output | None = None
    ) -> Tensor | None:
        """The metres ``[H, W]`` float32, NaN where they are not above 0; None where no pixel's are.

        There is no probability, so ``threshold`` changes nothing: all pixels are kept, or with ``mirrored`` those where
        both answers agree within a tenth.
        """
        metres = _enlarged(output, size)
        sure = (metres > 0) & metres.isfinite()
        if mirrored is not None:
            sure &= (metres - _enlarged(mirrored, size).flip(-1)).abs() < AGREEMENT * metres
        return torch.where(sure, metres, float("nan")) if bool(sure.any()) else None


def _enlarged(output: Output, size: tuple[int, int]) -> Tensor:
    if not isinstance(output, DepthMap):
        raise ValueError(f"depth.pseudo: {type(output).__name__}; expected a DepthMap")
    found = F.interpolate(output.metres[None, None].float(), size=size, mode="bilinear", align_corners=False)
    return found[0, 0]
