"""Instance masks: average precision as COCO counts it, and what drawing outlines costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, cast

from tasks.average_precision import TOP, CocoRows, Row
from tasks.geometry import rle_area, rle_of_polygons
from tasks.types import ClassMap, Detections, Objects, Output, Target


class MaskAveragePrecision:
    """COCO's AP over mask IoU .50:.05:.95, all areas, 100 detections an image (Lin et al. 2014); 0..1.

    Areas are those of the masks. Crowds are ignored, as is an object without a mask: what was found in its box counts
    neither for nor against.
    """

    main: ClassVar[str] = "map"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, names: Sequence[str]) -> None:
        self.rows = CocoRows("instances", names)

    def update(self, outputs: Sequence[Output], targets: Sequence[Target], ids: Sequence[str]) -> None:
        """Add labeled images; ValueError where one is counted twice, or has no masks or masks of another size."""
        for output, target, id in zip(outputs, targets, ids, strict=True):
            if not isinstance(output, Detections) or not isinstance(target, Objects):
                raise ValueError(
                    f"instances metric: image {id!r} has a {type(output).__name__} and a {type(target).__name__}; "
                    "expected Detections and Objects"
                )
            if output.masks is None:
                raise ValueError(f"instances metric: the detections of image {id!r} have no masks; expected one each")
            self.rows.add(id, _truth(output, target, id), _found(output, output.masks))

    def merge(self, other: Self) -> None:
        """Add the images of another shard's metric: the result is that of one metric over all of them."""
        self.rows.merge(other.rows)

    def compute(self) -> dict[str, float]:
        """COCO's twelve figures (``map``, ``ap50``, ``ap75``, ``ap_small``, ..., ``ar_large``) and ``ap/<class>``.

        NaN where there is no truth.
        """
        return self.rows.figures("segm")


def _truth(output: Detections, target: Objects, id: str) -> list[Row]:
    masks = target.rles or (None,) * len(target.labels)
    given = [rle for rle in (*masks, *(output.masks or ())) if rle is not None]
    sizes = {(size[0], size[1]) for size in (cast("list[int]", rle["size"]) for rle in given)}
    if len(sizes) > 1:
        raise ValueError(f"instances metric: image {id!r} has masks of sizes {sorted(sizes)}; expected one size, H, W")
    rows: list[Row] = []
    for box, label, crowd, rle in zip(
        target.boxes.tolist(), target.labels.tolist(), target.crowd.tolist(), masks, strict=True
    ):
        if rle is None and not sizes:
            continue  # nothing was found here, and nothing can be missed
        x1, y1, x2, y2 = box
        mask = rle_of_polygons([[x1, y1, x2, y1, x2, y2, x1, y2]], next(iter(sizes))) if rle is None else dict(rle)
        rows.append(
            {
                "category_id": label,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": mask,
                "area": rle_area(mask),
                "iscrowd": int(crowd or rle is None),
            }
        )
    return rows


def _found(output: Detections, masks: Sequence[Mapping[str, object]]) -> list[Row]:
    scores, labels = output.scores.tolist(), output.labels.tolist()
    rows = zip(scores[:TOP], labels[:TOP], masks[:TOP], strict=True)
    return [{"category_id": label, "segmentation": dict(mask), "score": score} for score, label, mask in rows]


@dataclass(frozen=True)
class Instances:
    """A mask for each object. An outline takes ``outline_seconds``; predictions count from score ``sure`` on."""

    name: ClassVar[str] = "instances"

    outline_seconds: float = 80.0
    sure: float = 0.3

    def metric(self, classes: ClassMap) -> MaskAveragePrecision:
        """A fresh metric; its main figure is ``map``."""
        return MaskAveragePrecision(classes.detection)

    def label_cost(self, label: Target | Output) -> Mapping[str, float]:
        """``{"seconds", "outlines"}`` of labeling this image: true of a target, expected of a prediction."""
        if isinstance(label, Objects):
            outlines = float(len(label.boxes))
        elif isinstance(label, Detections):
            outlines = float((label.scores >= self.sure).sum())
        else:
            raise ValueError(f"instances.label_cost: {type(label).__name__}; expected Objects or Detections")
        return {"seconds": outlines * self.outline_seconds, "outlines": outlines}
