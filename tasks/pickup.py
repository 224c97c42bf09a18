"""Picking up objects: where to take hold of one, how it is learned, how it is judged and what its labels cost.

A network has one output layer for each class and is asked for one class at a time (Eq. 4 and section III of the paper
on AuxNet, IROS 2018). The answer is the centre of that layer's activations. Labels are ``Objects`` with masks and one
keypoint each, the pickup point; a class can be asked for where an object of it has both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import pi
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.geometry import mask_of_rle
from tasks.types import ClassMap, Objects, Output, Pickups, Target

Form = Literal["jaccard", "literal"]
DEAD = 1e-4  # summed activation below which a layer answers nothing
ELONGATED = 1.2  # length to width from which on there is an axis to grasp across


# ---- what is asked for -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Query:
    """A class that is asked for in one image, and the truth about it."""

    label: int
    mask: Tensor  # [H, W] float32, 0 or 1: all objects of the class
    points: Tensor  # [n, 2] xy: one for each of them; the nearest counts


def askable(objects: Objects) -> list[int]:
    """The classes that can be asked for, ascending: those of an object with a mask and a pickup point, no crowds."""
    return sorted({int(objects.labels[i]) for i in _usable(objects)})


def query(objects: Objects, label: int) -> Query:
    """The truth about one of the classes of ``askable``."""
    rows = [i for i in _usable(objects) if int(objects.labels[i]) == label]
    masks = [mask_of_rle(rle) for i in rows if (rle := objects.rles[i]) is not None]
    assert masks, f"class {label} cannot be asked for"
    assert objects.keypoints is not None
    return Query(label, torch.from_numpy(np.any(masks, axis=0)).float(), objects.keypoints[rows, 0, :2].float())


def _usable(objects: Objects) -> list[int]:
    if objects.keypoints is None or not objects.keypoints.shape[1] or not objects.rles:
        return []
    known = (objects.keypoints[:, 0, 2] > 0) & ~objects.crowd
    return [i for i in known.nonzero().flatten().tolist() if objects.rles[i] is not None]


# ---- errors, each differentiable -------------------------------------------------------------------------------------


def soft_iou_error(activations: Tensor, masks: Tensor, form: Form = "jaccard") -> Tensor:
    """``[...]`` 1 - IoU of activations ``[..., H, W]`` >= 0 and masks of 0 and 1; 0..1, no unit.

    "jaccard" is I / (sum a + sum m - I) with I = sum a m, after the paper's reference on the soft IoU; activations are
    cut at 1, for otherwise it exceeds 1. "literal" is I / (sum a + sum m), as the caption of Fig. 4 says: it needs no
    cut, and its error does not fall to 0 (a = m gives 1/2). Without overlap there is no gradient that leads to it.
    """
    if form == "jaccard":
        activations = activations.clamp(max=1)
    inside = (activations * masks).sum((-2, -1))
    both = activations.sum((-2, -1)) + masks.sum((-2, -1))
    return 1 - inside / (both - inside if form == "jaccard" else both).clamp(min=DEAD)


def centroid(activations: Tensor) -> tuple[Tensor, Tensor]:
    """The centres ``[..., 2]`` xy in pixels (at pixel centres) of activations ``[..., H, W]``, and which are dead.

    A factor on all activations changes nothing. A dead layer (their sum is below 1e-4) answers the centre of the
    image, without gradient.
    """
    height, width = activations.shape[-2:]
    x = torch.arange(width, device=activations.device) + 0.5
    y = torch.arange(height, device=activations.device) + 0.5
    mass = activations.sum((-2, -1))
    dead = mass < DEAD
    moments = torch.stack([(activations.sum(-2) * x).sum(-1), (activations.sum(-1) * y).sum(-1)], -1)
    middle = moments.new_tensor([width / 2, height / 2])
    return torch.where(dead[..., None], middle, moments / mass.clamp(min=DEAD)[..., None]), dead


def point_distance(found: Tensor, points: Tensor) -> Tensor:
    """``[...]`` pixels from each point ``[..., 2]`` to the nearest of ``[..., n, 2]``."""
    nearest: Tensor = torch.linalg.vector_norm(found[..., None, :] - points, dim=-1).amin(-1)
    return nearest


def pickup_error(centimetres: float) -> float:
    """The probability that a grasp fails so far from the pickup point: 0, .5, .9 at 0, 1, 3 cm (Eq. 4)."""
    return centimetres**2 / (centimetres**2 + 1)


# ---- the answer ------------------------------------------------------------------------------------------------------


def decode(activations: Tensor) -> Pickups:
    """Points and angles of activations ``[K, H, W]``."""
    points, dead = centroid(activations)
    return Pickups(activations, points, grasp_angle(activations), dead)


def grasp_angle(activations: Tensor) -> Tensor:
    """``[...]`` radians in [-pi/2, pi/2), from x towards y: across the longest axis of activations ``[..., H, W]``.

    The axis is that of the second moments, each pixel a unit square. NaN where a layer is dead, or not 1.2 times as
    long as wide. Fig. 1: the dominant axis is where the object faces, and the gripper stands perpendicular to it.
    """
    height, width = activations.shape[-2:]
    centres, dead = centroid(activations)
    x = torch.arange(width, device=activations.device) + 0.5 - centres[..., :1]
    y = torch.arange(height, device=activations.device) + 0.5 - centres[..., 1:]
    mass = activations.sum((-2, -1)).clamp(min=DEAD)
    xx = (activations.sum(-2) * x**2).sum(-1) / mass + 1 / 12
    yy = (activations.sum(-1) * y**2).sum(-1) / mass + 1 / 12
    xy = ((activations * y[..., None]).sum(-2) * x).sum(-1) / mass
    root = torch.sqrt((xx - yy) ** 2 + 4 * xy**2)
    flat = (xx + yy + root) < ELONGATED**2 * (xx + yy - root)
    across = 0.5 * torch.atan2(2 * xy, xx - yy) + pi / 2
    across = torch.where(across >= pi / 2, across - pi, across)
    return torch.where(flat | dead, torch.nan, across)


# ---- the metric ------------------------------------------------------------------------------------------------------

COLUMNS = ("label", "iou_error", "distance_px", "dead")


class PickupRate:
    """What would be picked up: every class that can be asked for in an image is one query, and all count alike."""

    main: ClassVar[str] = "pickup_rate"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, names: Sequence[str], cm_per_px: float, form: Form) -> None:
        self.names, self.cm_per_px, self.form = tuple(names), cm_per_px, form
        self._rows: dict[str, NDArray[np.float64]] = {}  # image id -> [queries, COLUMNS]

    def update(self, outputs: Sequence[Output], targets: Sequence[Target], ids: Sequence[str]) -> None:
        """Add labeled images; ValueError where one is counted twice or has no such answer."""
        for output, target, id in zip(outputs, targets, ids, strict=True):
            if not isinstance(output, Pickups) or not isinstance(target, Objects):
                raise ValueError(
                    f"pickup metric: image {id!r} has a {type(output).__name__} and a {type(target).__name__}; "
                    "expected Pickups and Objects"
                )
            self._add(id, np.array([self._row(output, target, c) for c in askable(target)]).reshape(-1, len(COLUMNS)))

    def merge(self, other: Self) -> None:
        """Add the images of another shard's metric: the result is that of one metric over all of them."""
        if (other.names, other.cm_per_px, other.form) != (self.names, self.cm_per_px, self.form):
            raise ValueError("pickup metric: merging one of other classes or scale; expected the same")
        for id, rows in other._rows.items():
            self._add(id, rows)

    def compute(self) -> dict[str, float]:
        """Means over all queries, NaN without any: ``pickup_rate``, ``pickup_error``, ``iou_error``, ``summed_error``
        (pickup + IoU error, as in Figs. 10 and 13), ``distance_px``, ``distance_cm`` and ``pickup_rate/<class>``;
        ``queries`` and ``dead`` are counts.
        """
        rows = np.concatenate([np.zeros((0, len(COLUMNS))), *(self._rows[id] for id in sorted(self._rows))])
        label, iou_error, pixels, dead = rows.T
        centimetres = pixels * self.cm_per_px
        fails = np.array([pickup_error(cm) for cm in centimetres.tolist()])
        return {
            "pickup_rate": _mean(1 - fails),
            "pickup_error": _mean(fails),
            "iou_error": _mean(iou_error),
            "summed_error": _mean(fails + iou_error),
            "distance_px": _mean(pixels),
            "distance_cm": _mean(centimetres),
            "queries": float(len(rows)),
            "dead": float(dead.sum()),
        } | {f"pickup_rate/{name}": _mean(1 - fails[label == c]) for c, name in enumerate(self.names)}

    def _row(self, output: Pickups, target: Objects, label: int) -> tuple[float, float, float, float]:
        asked, layer = query(target, label), output.activations[label].float().cpu()
        if layer.shape != asked.mask.shape:
            raise ValueError(
                f"pickup metric: activations of {tuple(layer.shape)} for a mask of {tuple(asked.mask.shape)}; expected "
                "the size of the image"
            )
        error = float(soft_iou_error(layer, asked.mask, self.form))
        away = float(point_distance(output.points[label].float().cpu(), asked.points))
        return float(label), error, away, float(output.dead[label])

    def _add(self, id: str, rows: NDArray[np.float64]) -> None:
        if id in self._rows:
            raise ValueError(f"pickup metric: image {id!r} came twice; expected every image once")
        self._rows[id] = rows


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")


@dataclass(frozen=True)
class Pickup:
    """A pickup point for each object. ``cm_per_px`` holds at ``data.size``, where the objects lie.

    A point takes ``point_seconds`` to set; the masks are approximate ones that need nobody (Fig. 8). ``iou`` is the
    form of the IoU error that is reported (see ``soft_iou_error``).
    """

    name: ClassVar[str] = "pickup"

    cm_per_px: float = 0.2
    iou: Form = "jaccard"
    point_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.cm_per_px < float("inf"):
            raise ValueError(f"cm_per_px is {self.cm_per_px}; expected centimetres, more than 0, that a pixel covers")

    def metric(self, classes: ClassMap) -> PickupRate:
        """A fresh metric; its main figure is ``pickup_rate``."""
        return PickupRate(classes.detection, self.cm_per_px, self.iou)

    def label_cost(self, label: Target | Output) -> Mapping[str, float]:
        """``{"seconds", "points"}`` of labeling this image; a prediction counts the layers that are not dead."""
        if isinstance(label, Objects):
            points = float((~label.crowd).sum())
        elif isinstance(label, Pickups):
            points = float((~label.dead).sum())
        else:
            raise ValueError(f"pickup.label_cost: {type(label).__name__}; expected Objects or Pickups")
        return {"seconds": points * self.point_seconds, "points": points}
