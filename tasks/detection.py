"""Object detection: average precision as COCO counts it, and what drawing boxes costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tasks.average_precision import STATS as STATS
from tasks.average_precision import TOP, Evaluated, evaluated, named
from tasks.types import ClassMap, Detections, Objects, Output, Target


class MeanAveragePrecision:
    """COCO's AP over IoU .50:.05:.95, all areas, 100 detections an image (Lin et al. 2014); 0..1, NaN without truth.

    Crowd objects are ignored: detections inside them count neither for nor against. Classes without ground truth are
    left out of the means.
    """

    main: ClassVar[str] = "map"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._found: dict[str, NDArray[np.float32]] = {}  # image id -> [D, 6]: x1 y1 x2 y2 score label
        self._truth: dict[str, NDArray[np.float32]] = {}  # image id -> [N, 6]: x1 y1 x2 y2 crowd label

    def update(self, outputs: Sequence[Output], targets: Sequence[Target], ids: Sequence[str]) -> None:
        """Add labeled images; ValueError where one is counted twice or is no detection."""
        for output, target, id in zip(outputs, targets, ids, strict=True):
            if not isinstance(output, Detections) or not isinstance(target, Objects):
                raise ValueError(
                    f"detection metric: image {id!r} has a {type(output).__name__} and a {type(target).__name__}; "
                    "expected Detections and Objects"
                )
            self._add(id, *_rows(output, target))

    def merge(self, other: Self) -> None:
        """Add the images of another shard's metric: the result is that of one metric over all of them."""
        if other.names != self.names:
            raise ValueError(f"detection metric: merging classes {other.names} into {self.names}; expected the same")
        for id, found in other._found.items():
            self._add(id, found, other._truth[id])

    def compute(self) -> dict[str, float]:
        """COCO's twelve figures (``map``, ``ap50``, ``ap75``, ``ap_small``, ..., ``ar_large``) and ``ap/<class>``."""
        ids = sorted(self._truth)  # whatever the order of the shards: ties of scores are broken by the image
        found = _table(self._found, ids)
        truth = _table(self._truth, ids)
        rows = _coco(found, truth, len(ids), len(self.names)) if len(truth) else None
        return named(rows, "bbox", self.names)

    def _add(self, id: str, found: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
        if id in self._truth:
            raise ValueError(f"detection metric: image {id!r} came twice; expected every image once")
        self._found[id], self._truth[id] = found, truth


def _rows(output: Detections, target: Objects) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """``[D, 6]`` and ``[N, 6]``: box, score or crowd, label."""
    found = [output.boxes[:TOP], output.scores[:TOP, None], output.labels[:TOP, None]]
    truth = [target.boxes, target.crowd[:, None], target.labels[:, None]]
    rows = [np.concatenate([x.cpu().float().numpy() for x in part], axis=1) for part in (found, truth)]
    return rows[0], rows[1]


def _table(rows: Mapping[str, NDArray[np.float32]], ids: Sequence[str]) -> NDArray[np.float64]:
    """``[M, 7]``: the rows of all images, with the image's number (from 1) in front; boxes become x, y, w, h."""
    number = np.repeat(np.arange(1.0, len(ids) + 1), [len(rows[id]) for id in ids])
    values = np.concatenate([np.zeros((0, 6)), *(rows[id] for id in ids)])
    table = np.column_stack([number, values])
    table[:, 3:5] -= table[:, 1:3]
    return table


def _coco(found: NDArray[np.float64], truth: NDArray[np.float64], images: int, classes: int) -> Evaluated:
    """What COCO counts of these tables."""
    annotations = [
        {
            "id": number + 1,
            "image_id": int(image),
            "category_id": int(label),
            "bbox": [x, y, w, h],
            "area": w * h,
            "iscrowd": int(crowd),
        }
        for number, (image, x, y, w, h, crowd, label) in enumerate(truth.tolist())
    ]
    answers = [
        {"image_id": int(image), "category_id": int(label), "bbox": [x, y, w, h], "score": score}
        for image, x, y, w, h, score, label in found.tolist()
    ]
    return evaluated(annotations, answers, images, classes, "bbox")


@dataclass(frozen=True)
class Detection:
    """Boxes with classes. A box takes ``box_seconds`` to draw; a prediction counts as a box from score ``sure`` on."""

    name: ClassVar[str] = "detection"

    box_seconds: float = 7.0
    sure: float = 0.3

    def metric(self, classes: ClassMap) -> MeanAveragePrecision:
        """A fresh metric; its main figure is ``map``."""
        return MeanAveragePrecision(classes.detection)

    def label_cost(self, label: Target | Output) -> Mapping[str, float]:
        """``{"seconds", "boxes"}`` of labeling this image: true of a target, expected of a prediction."""
        if isinstance(label, Objects):
            boxes = float(len(label.boxes))
        elif isinstance(label, Detections):
            boxes = float((label.scores >= self.sure).sum())
        else:
            raise ValueError(f"detection.label_cost: {type(label).__name__}; expected Objects or Detections")
        return {"seconds": boxes * self.box_seconds, "boxes": boxes}
