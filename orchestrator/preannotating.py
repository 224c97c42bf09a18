"""What a network sees in images that people are to label: boxes to accept or to correct."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from orchestrator.checkpoints import load_model
from orchestrator.errors import ConfigError, RunError
from orchestrator.picks import Pick
from tasks.data.files import Place
from tasks.data.manifest import Record
from tasks.data.samples import read_sample
from tasks.types import Detections


def categories_of(checkpoint: Place) -> list[dict[str, Any]]:
    """The classes of objects that the network of a checkpoint knows, as categories of the combined COCO file."""
    names = load_model(checkpoint)[1].classes.detection
    return [{"id": i, "name": name, "supercategory": name, "isthing": 1} for i, name in enumerate(names, start=1)]


def predicted(
    checkpoint: Place,
    chosen: Sequence[Pick],
    categories: Sequence[Mapping[str, Any]],
    min_score: float,
) -> Iterator[list[dict[str, Any]]]:
    """For each image the objects that are found with at least this score, as annotations of the combined COCO file.

    Boxes are in pixels of the stored image. Images are read and looked at one at a time. RunError where one cannot be.
    """
    model: Any
    model, card = load_model(checkpoint)
    if "detection" not in card.tasks:
        raise ConfigError(
            f"{checkpoint}: finds no objects (its tasks are {', '.join(card.tasks)}); expected a network with the task "
            f"detection: add --no-predictions"
        )
    numbers = {one["name"]: int(one["id"]) for one in categories}
    unknown = [name for name in card.classes.detection if name not in numbers]
    if unknown:
        raise ConfigError(
            f"{checkpoint}: knows the class {unknown[0]!r}, which is not labeled here; expected only "
            f"{', '.join(numbers)}: give another --checkpoint, or add --no-predictions"
        )
    ids = [numbers[name] for name in card.classes.detection]
    for one in chosen:
        record = Record(one.id, str(one.path), one.size, "train")
        try:
            image = read_sample(record, one.path.parent, card.size, (), (), card.classes).image
        except (ValueError, OSError) as error:
            raise RunError(f"data: {error}") from error
        with torch.inference_mode():
            found = model.predict(image[None], ("detection",))[0].outputs["detection"]
        yield _annotations(found, ids, min_score, one.size, image)


def _annotations(
    found: Detections, ids: Sequence[int], min_score: float, size: tuple[int, int], image: Tensor
) -> list[dict[str, Any]]:
    """Detections in the pixels of ``image`` as annotations of the stored image of H, W."""
    kept = found.keep(found.scores >= min_score)
    across, down = size[1] / image.shape[-1], size[0] / image.shape[-2]
    boxes = (kept.boxes.double() * torch.tensor([across, down, across, down], dtype=torch.float64)).tolist()
    annotations: list[dict[str, Any]] = []
    for box, label, score in zip(boxes, kept.labels.tolist(), kept.scores.tolist(), strict=True):
        (x1, x2), (y1, y2) = ([min(max(v, 0.0), side) for v in pair] for pair, side in _sides(box, size))
        if x2 > x1 and y2 > y1:
            one = {"id": len(annotations) + 1, "category_id": ids[label], "bbox": [x1, y1, x2 - x1, y2 - y1]}
            annotations.append({**one, "score": score})
    return annotations


def _sides(box: Sequence[float], size: tuple[int, int]) -> tuple[tuple[tuple[float, float], int], ...]:
    """The left and right of a box with the width of the image; its top and bottom with the height."""
    return ((box[0], box[2]), size[1]), ((box[1], box[3]), size[0])
