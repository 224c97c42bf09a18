"""COCO's average precision (Lin et al. 2014) of boxes, masks or keypoints: one floor below the tasks that report it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

Kind = Literal["bbox", "segm", "keypoints"]
Row = Mapping[str, object]  # an annotation or an answer in COCO's form, without its id and its image

TOP = 100  # detections of an image that count, as in COCO
STATS = (
    *("map", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)
KEYPOINT_STATS = (
    *("oks", "oks_ap50", "oks_ap75", "oks_ap_medium", "oks_ap_large"),
    *("oks_ar", "oks_ar50", "oks_ar75", "oks_ar_medium", "oks_ar_large"),
)


class CocoRows:
    """What was labeled and what was found, image by image; rows of several shards add up exactly."""

    def __init__(self, task: str, names: Sequence[str]) -> None:
        self.task, self.names = task, tuple(names)
        self._rows: dict[str, tuple[Sequence[Row], Sequence[Row]]] = {}  # image id -> truth, found

    def add(self, id: str, truth: Sequence[Row], found: Sequence[Row]) -> None:
        """Add one image; ValueError where it is counted twice."""
        if id in self._rows:
            raise ValueError(f"{self.task} metric: image {id!r} came twice; expected every image once")
        self._rows[id] = truth, found

    def merge(self, other: Self) -> None:
        """Add the images of another shard."""
        if other.names != self.names:
            raise ValueError(f"{self.task} metric: merging classes {other.names} into {self.names}; expected the same")
        for id, (truth, found) in other._rows.items():
            self.add(id, truth, found)

    def figures(self, kind: Kind, sigmas: Sequence[float] | None = None) -> dict[str, float]:
        """COCO's statistics by name and ``ap/<class>``; NaN where there is no truth."""
        ids = sorted(self._rows)  # whatever the order of the shards: ties of scores are broken by the image
        truth = [{**row, "image_id": n} for n, id in enumerate(ids, 1) for row in self._rows[id][0]]
        found = [{**row, "image_id": n} for n, id in enumerate(ids, 1) for row in self._rows[id][1]]
        for number, row in enumerate(truth, 1):
            row["id"] = number
        counted = evaluated(truth, found, len(ids), len(self.names), kind, sigmas) if truth else None
        return named(counted, kind, self.names)


Evaluated = tuple[NDArray[np.float64], NDArray[np.float64]]


def evaluated(
    annotations: Sequence[Mapping[str, object]],
    answers: Sequence[Mapping[str, object]],
    images: int,
    classes: int,
    kind: Kind,
    sigmas: Sequence[float] | None = None,
) -> Evaluated:
    """COCO's 12 statistics (10 of keypoints) and its precisions ``[T, R, K, areas, limits]``; -1 without truth.

    Rows are in COCO's form: images are numbered from 1, classes from 0; ``sigmas`` belong to keypoints. Equal to
    pycocotools' figures, in a fraction of the time.
    """
    data = {
        "images": [{"id": i + 1, "height": 1, "width": 1} for i in range(images)],  # masks bring their own size
        "categories": [{"id": c, "name": str(c)} for c in range(classes)],
        "annotations": list(annotations),
    }
    reference = COCO(data, print_function=_silent)
    given: dict[str, Any] = {} if sigmas is None else {"kpt_oks_sigmas": list(sigmas)}
    found = reference.loadRes([dict(row) for row in answers])
    evaluation = COCOeval_faster(reference, found, kind, print_function=_silent, **given)
    evaluation.params.catIds = list(range(classes))  # of keypoints the library would take the labeled classes alone
    evaluation.run()
    stats = np.array(evaluation.all_stats[: len(_names(kind))], dtype=np.float64)
    return stats, np.asarray(evaluation.eval["precision"], np.float64)


def named(found: Evaluated | None, kind: Kind, classes: Sequence[str]) -> dict[str, float]:
    """The statistics by name and ``ap/<class>``; NaN in place of -1, and of everything where nothing was evaluated."""
    names = (*_names(kind), *(f"ap/{name}" for name in classes))
    if found is None:
        return dict.fromkeys(names, float("nan"))
    stats, precision = found
    aps = precision[:, :, :, 0, -1].mean((0, 1))  # a class without truth holds -1 everywhere
    values = np.concatenate([stats, aps])
    return dict(zip(names, np.where(values < 0, np.nan, values).tolist(), strict=True))


def _names(kind: Kind) -> tuple[str, ...]:
    return KEYPOINT_STATS if kind == "keypoints" else STATS


def _silent(*words: object) -> None:
    """What the library calls instead of ``print``."""
