"""Keypoints of objects: average precision by OKS, the share of correct points, and what setting points costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.average_precision import CocoRows, Row
from tasks.geometry import box_overlaps, rle_area
from tasks.types import ClassMap, Detections, Objects, Output, Target

SIGMA = 0.05  # of a point for which no other is given
COCO_SIGMAS = {  # of COCO's persons: standard deviations between annotators, over the root of the object's area
    "nose": 0.026, "left_eye": 0.025, "right_eye": 0.025, "left_ear": 0.035, "right_ear": 0.035,
    "left_shoulder": 0.079, "right_shoulder": 0.079, "left_elbow": 0.072, "right_elbow": 0.072,
    "left_wrist": 0.062, "right_wrist": 0.062, "left_hip": 0.107, "right_hip": 0.107,
    "left_knee": 0.087, "right_knee": 0.087, "left_ankle": 0.089, "right_ankle": 0.089,
}  # fmt: skip
CLOSE = 0.1  # of the diagonal of the true box: a point that near is correct
SAME = 0.5  # IoU of boxes from which on a detection may be an object


class KeypointPrecision:
    """COCO's AP over object keypoint similarity (OKS) .50:.05:.95 (Lin et al. 2014); 0..1.

    Of each class the 20 best detections of an image count. The area in the OKS is that of an object's mask; of its box
    where it has no mask. Crowds and objects without a labeled point are ignored. Beside it stands PCK: of all labeled
    points the share that lies within .1 of the diagonal of the object's box. For it, detections take objects of their
    class, best first, each the free one of largest IoU (from .5 on); the points of an object that nobody took are not
    correct.
    """

    main: ClassVar[str] = "oks"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, names: Sequence[str], points: Sequence[str], sigmas: Sequence[float]) -> None:
        self.rows = CocoRows("keypoints", names)
        self.points, self.sigmas = tuple(points), tuple(sigmas)
        self._right = np.zeros(len(self.points), np.int64)
        self._labeled = np.zeros(len(self.points), np.int64)

    def update(self, outputs: Sequence[Output], targets: Sequence[Target], ids: Sequence[str]) -> None:
        """Add labeled images; ValueError where one is counted twice, or lacks keypoints or has other ones."""
        for output, target, id in zip(outputs, targets, ids, strict=True):
            if not isinstance(output, Detections) or not isinstance(target, Objects):
                raise ValueError(
                    f"keypoints metric: image {id!r} has a {type(output).__name__} and a {type(target).__name__}; "
                    "expected Detections and Objects"
                )
            found, truth = self._of(output, "detections", id), self._of(target, "objects", id)
            self.rows.add(id, _truth(target, truth), _found(output, found))
            right, labeled = _correct(output, found, target, truth)
            self._right += right
            self._labeled += labeled

    def merge(self, other: Self) -> None:
        """Add the images of another shard's metric: the result is that of one metric over all of them."""
        if (other.points, other.sigmas) != (self.points, self.sigmas):
            raise ValueError("keypoints metric: merging one of other points or sigmas; expected the same")
        self.rows.merge(other.rows)
        self._right += other._right
        self._labeled += other._labeled

    def compute(self) -> dict[str, float]:
        """``oks`` (the AP), ``oks_ap50``, ..., ``oks_ar_large``, ``ap/<class>``, ``pck`` and ``pck/<point>``.

        NaN where there is no truth.
        """
        right = np.append(self._right, self._right.sum()).astype(np.float64)
        labeled = np.append(self._labeled, self._labeled.sum())
        shares = np.divide(right, labeled, out=np.full(len(right), np.nan), where=labeled > 0).tolist()
        names = (*(f"pck/{point}" for point in self.points), "pck")
        return self.rows.figures("keypoints", self.sigmas) | dict(zip(names, shares, strict=True))

    def _of(self, one: Detections | Objects, what: str, id: str) -> NDArray[np.float64]:
        """``[N, P, 3]`` keypoints."""
        shape = None if one.keypoints is None else tuple(one.keypoints.shape)
        if one.keypoints is None or shape != (len(one.boxes), len(self.points), 3):
            raise ValueError(
                f"keypoints metric: the {what} of image {id!r} have keypoints {shape}; expected "
                f"{(len(one.boxes), len(self.points), 3)}"
            )
        values: NDArray[np.float64] = one.keypoints.detach().cpu().double().numpy()
        return values


def _truth(target: Objects, points: NDArray[np.float64]) -> list[Row]:
    rows: list[Row] = []
    masks = target.rles or (None,) * len(points)
    boxes, labels, crowds = (part.tolist() for part in (target.boxes, target.labels, target.crowd))
    for (x1, y1, x2, y2), label, crowd, mask, own in zip(boxes, labels, crowds, masks, points, strict=True):
        rows.append(
            {
                "category_id": label,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1) if mask is None else rle_area(mask),
                "iscrowd": int(crowd),
                "keypoints": own.ravel().tolist(),
                "num_keypoints": int((own[:, 2] > 0).sum()),
            }
        )
    return rows


def _found(output: Detections, points: NDArray[np.float64]) -> list[Row]:
    rows = zip(output.labels.tolist(), output.scores.tolist(), points, strict=True)
    return [{"category_id": label, "keypoints": own.ravel().tolist(), "score": score} for label, score, own in rows]


def _correct(
    output: Detections, found: NDArray[np.float64], target: Objects, truth: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many of each point ``[P]`` are correct, and how many are labeled."""
    known = (truth[..., 2] > 0) & ~target.crowd.cpu().numpy()[:, None]
    labeled = known.sum(0)
    boxes = target.boxes.cpu().double()
    close = CLOSE * torch.linalg.vector_norm(boxes[:, 2:] - boxes[:, :2], dim=1).numpy()
    overlap, _ = box_overlaps(output.boxes.cpu().double(), boxes)
    overlap[output.labels.cpu()[:, None] != target.labels.cpu()[None]] = 0
    free = overlap.masked_fill(target.crowd.cpu()[None], 0).numpy()
    right = np.zeros_like(labeled)
    for row in range(len(free)):
        taken = int(free[row].argmax()) if free.shape[1] else -1
        if taken < 0 or free[row, taken] < SAME:
            continue
        free[:, taken] = 0
        away = np.linalg.norm(found[row, :, :2] - truth[taken, :, :2], axis=1)
        right += known[taken] & (away <= close[taken])
    return right, labeled


@dataclass(frozen=True)
class Keypoints:
    """Named points of each object. A point takes ``point_seconds``; detections count from score ``sure`` on.

    ``sigmas`` gives some points their own ``{name: sigma}`` of the OKS; the others have COCO's where the data set has
    COCO's 17, else .05.
    """

    name: ClassVar[str] = "keypoints"

    point_seconds: float = 5.0
    sure: float = 0.3
    sigmas: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bad := [name for name, sigma in self.sigmas.items() if not 0 < sigma < float("inf")]:
            raise ValueError(f"sigmas: {bad[0]!r} has {self.sigmas[bad[0]]}; expected a number above 0")

    def metric(self, classes: ClassMap) -> KeypointPrecision:
        """A fresh metric; its main figure is ``oks``. ValueError where the data set has no such points."""
        if not classes.keypoints:
            raise ValueError("tasks: the data set names no keypoints; leave the task 'keypoints' out")
        if unknown := sorted(set(self.sigmas) - set(classes.keypoints)):
            raise ValueError(
                f"tasks.keypoints.sigmas: no keypoint is called {unknown[0]!r}; expected some of "
                f"{', '.join(classes.keypoints)}"
            )
        is_coco = classes.keypoints == tuple(COCO_SIGMAS)
        usual = COCO_SIGMAS if is_coco else dict.fromkeys(classes.keypoints, SIGMA)
        sigmas = {**usual, **self.sigmas}
        return KeypointPrecision(classes.detection, classes.keypoints, [sigmas[name] for name in classes.keypoints])

    def label_cost(self, label: Target | Output) -> Mapping[str, float]:
        """``{"seconds", "points"}`` of labeling this image: true of a target, expected of a prediction."""
        if not isinstance(label, Objects | Detections):
            raise ValueError(f"keypoints.label_cost: {type(label).__name__}; expected Objects or Detections")
        points = 0.0
        if label.keypoints is not None:
            known = label.keypoints[..., 2] > 0
            points = float((known if isinstance(label, Objects) else known[label.scores >= self.sure]).sum())
        return {"seconds": points * self.point_seconds, "points": points}
