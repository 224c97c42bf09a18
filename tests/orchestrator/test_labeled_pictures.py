"""One image with its labels as pictures: what is there, what is not, and what cannot be read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator.drawing import Tile, colors_of
from orchestrator.labeled_pictures import TASKS, Artist, Drawn, Fault
from tasks.classes import ClassMap
from tasks.data.manifest import ObjectRecord, Record
from tasks.geometry import rle_of_mask
from tasks.types import Detections, Prediction, SegMap

CLASSES = ClassMap(("car", "cup"), ("road", "car"), (1, -1), ("left", "right"), ((0, 1),), ((0, 1),))
LUT = (0, 1, *[-1] * 253, 255)
SIZE = (100, 200)  # of the images here


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A black image with a car whose mask is its upper half, a map of two halves and depth."""
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a.png")
    values = np.zeros(SIZE, np.uint8)
    values[:, 100:] = 1
    Image.fromarray(values).save(tmp_path / "map.png")
    np.save(tmp_path / "depth.npy", np.full(SIZE, 3.5, np.float32))
    mask = np.zeros(SIZE, bool)
    mask[20:50, 50:150] = True
    car = ObjectRecord((50.0, 20.0, 150.0, 80.0), 0, False, rle_of_mask(mask), (), (60.0, 70.0, 2.0, 90.0, 70.0, 1.0))
    return Record("a", "a.png", SIZE, "train", "", (car,), "map.png", "depth.npy")


def drawn(record: Record, folder: Path, tasks: tuple[str, ...] = TASKS, found: Prediction | None = None) -> Drawn:
    return Artist(folder, CLASSES, LUT, tasks, 400).draw(record, None, found)


def pixels(one: object) -> np.ndarray:
    assert isinstance(one, Tile)
    return one.picture.astype(int)


def test_the_box_the_mask_and_the_map_are_where_they_were_labeled(record: Record, tmp_path: Path) -> None:
    found = drawn(record, tmp_path)
    objects, classes, depth = found.tiles
    (car, _), _ = colors_of(CLASSES)
    rows, columns = np.nonzero((pixels(objects)[45:] == car).all(-1))
    assert (columns.min(), columns.max()) == pytest.approx((100, 299), abs=1), "the picture is twice the image"
    assert rows.max() + 45 == pytest.approx(159, abs=1)
    assert pixels(objects)[70, 200] == pytest.approx(0.45 * np.array(car), abs=1), "the mask"
    assert pixels(objects)[110, 250] == pytest.approx(0, abs=0), "in the box, below the mask"
    assert pixels(classes)[150, 330] == pytest.approx(0.62 * np.array(car), abs=1)
    assert isinstance(depth, Tile)
    assert "3.5 to 3.5 m" in depth.span
    assert found.facts == ("1 car",)
    assert found.objects == {"car": 1}
    assert found.pixels is not None
    assert found.pixels.tolist() == [10_000, 10_000]


def test_polygons_are_drawn_like_masks(record: Record, tmp_path: Path) -> None:
    assert record.objects is not None
    part = (50.0, 20.0, 150.0, 20.0, 150.0, 50.0, 50.0, 50.0)
    other = replace(record, objects=(replace(record.objects[0], rle=None, polygons=(part,)),))
    first, second = (pixels(drawn(one, tmp_path, ("instances",)).tiles[0]) for one in (record, other))
    assert np.abs(first - second).max(-1).astype(bool).mean() < 0.02, "but for the rim"


def test_only_the_tasks_that_are_asked_for(record: Record, tmp_path: Path) -> None:
    assert len(drawn(record, tmp_path, ("depth",)).tiles) == 1
    plain = pixels(drawn(record, tmp_path, ("detection",)).tiles[0])
    assert plain[70, 200] == pytest.approx(0, abs=0), "no mask"
    bought = Artist(tmp_path, CLASSES, LUT, TASKS, 400).draw(record, frozenset({"segmentation"}))
    assert [tile.caption for tile in bought.tiles] == ["image", "classes of pixels"]
    assert bought.facts == ("no label of objects",)


def test_what_is_not_labeled_is_told_apart_from_what_is_empty(record: Record, tmp_path: Path) -> None:
    bare = replace(record, objects=None, segmentation=None, depth=None)
    assert drawn(bare, tmp_path).facts == ("no label of objects", "no label of pixels")
    assert len(drawn(bare, tmp_path).tiles) == 1
    assert drawn(replace(bare, objects=()), tmp_path).facts[0] == "labeled: no object is there"


def test_a_file_that_is_gone_or_broken_is_a_sentence_in_its_place(record: Record, tmp_path: Path) -> None:
    (tmp_path / "map.png").write_bytes(b"\x89PNG no more")
    (tmp_path / "depth.npy").unlink()
    objects, classes, depth = drawn(record, tmp_path).tiles
    assert isinstance(objects, Tile)
    assert isinstance(classes, Fault)
    assert "map.png: cannot be decoded" in classes.sentence
    assert isinstance(depth, Fault)
    assert "no such file" in depth.sentence
    (tmp_path / "a.png").unlink()
    (gone,) = drawn(record, tmp_path).tiles
    assert isinstance(gone, Fault)
    assert gone.sentence.count("\n") == 0
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    (other,) = drawn(record, tmp_path).tiles
    assert isinstance(other, Fault)
    assert "is 20 x 20 px (H x W); expected 100 x 200" in other.sentence


def test_objects_that_mean_nothing_are_counted_and_not_drawn(record: Record, tmp_path: Path) -> None:
    nan = float("nan")
    bad = (
        ObjectRecord((nan, 0, 1, 1), 0),
        ObjectRecord((0, 0, 9, 9), 0, rle={"size": [3, 3], "counts": b"9"}),
        ObjectRecord((0, 0, 9, 9), 0, polygons=((1.0, 2.0),)),
        ObjectRecord((5, 5, 30, 30), -1),
    )
    found = drawn(replace(record, objects=bad), tmp_path)
    assert found.facts == ("3 car, 1 unknown class", "3 cannot be drawn: a box or a mask is not what the format says")


def test_predictions_stand_beside_the_labels(record: Record, tmp_path: Path) -> None:
    box = torch.tensor([[0.25, 0.2, 0.75, 0.8]])
    boxes = Detections(box, torch.tensor([0.9]), torch.tensor([0]), torch.zeros(1, 2))
    maps = SegMap(torch.zeros(2, 10, 20).log_softmax(0))
    found = drawn(record, tmp_path, found=Prediction({"detection": boxes, "segmentation": maps}))
    assert [tile.caption for tile in found.tiles[3:]] == [
        "predicted detection: 1 of 1 boxes, score ≥ 0.3",
        "predicted segmentation",
    ]
    rows, columns = np.nonzero((pixels(found.tiles[3]) == colors_of(CLASSES)[0][0]).all(-1))
    assert (columns.min(), columns.max(), rows.max()) == pytest.approx((100, 300, 160), abs=1)


@pytest.mark.parametrize("size", [(4, 4), (1, 3000), (3000, 1)])
def test_pictures_of_any_shape_stay_within_bounds(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size[::-1]).save(tmp_path / "a.png")
    picture = pixels(drawn(Record("a", "a.png", size, "train", objects=()), tmp_path).tiles[0])
    assert max(picture.shape[:2]) <= 400
    assert max(picture.shape[:2]) <= 4 * max(size)
