"""Boxes to start from: in the pixels of the stored image, inside of it, above a score."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.checkpoints import Card, build, save_model
from orchestrator.components import Component
from orchestrator.errors import ConfigError, RunError
from orchestrator.picks import Pick
from orchestrator.preannotating import categories_of, predicted
from tasks.classes import ClassMap

CLASSES = ClassMap(("arm", "bolt"), ("ground",), (-1, -1), (), ())
NET = Component("small", {"width": 16})


def model(folder: Path, *tasks: str) -> Path:
    path = folder / "-".join(tasks) / "model.pt"
    save_model(path, build(NET, CLASSES, tasks), Card(NET, tasks, CLASSES, (64, 96), 0))
    return path


def test_boxes_are_of_the_stored_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (200, 400, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    pick = Pick("a", tmp_path / "a.png", (200, 400), {})
    path = model(tmp_path, "detection")
    categories = [{"id": 7, "name": "bolt"}, {"id": 3, "name": "arm"}]
    (boxes,) = predicted(path, [pick], categories, 0.0)
    assert boxes
    assert {one["category_id"] for one in boxes} <= {3, 7}
    assert [one["id"] for one in boxes] == list(range(1, len(boxes) + 1))
    x, y, w, h = np.array([one["bbox"] for one in boxes]).T
    assert (min(x), min(y)) >= (0, 0)
    assert max(x + w) <= 400
    assert max(y + h) <= 200
    assert max(x + w) > 96  # not of the image as the network saw it
    assert list(predicted(path, [pick], categories, 1.0)) == [[]]
    assert [one["name"] for one in categories_of(path)] == ["arm", "bolt"]


@pytest.mark.slow
def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    pick = Pick("a", tmp_path / "a.png", (200, 400), {})
    with pytest.raises(ConfigError, match="finds no objects"):
        next(predicted(model(tmp_path, "segmentation"), [pick], [], 0.3))
    path = model(tmp_path, "detection")
    with pytest.raises(ConfigError, match="knows the class 'bolt', which is not labeled here; expected only arm"):
        next(predicted(path, [pick], [{"id": 1, "name": "arm"}], 0.3))
    with pytest.raises(RunError, match=r"a\.png: no such file"):
        next(predicted(path, [pick], categories_of(path), 0.3))
