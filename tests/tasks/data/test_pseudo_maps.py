"""Maps of a network as PNGs of a data set: they are read back as they were made, at any size of the stored image."""

from pathlib import Path

import numpy as np
import pytest

from tasks.data.decoding import read_depth, read_semantic
from tasks.data.depth_png import MADE, depth_uri
from tasks.data.pseudo_maps import class_png, depth_png
from tasks.data.samples import class_ids
from tasks.geometry import resize_nearest

LUT = (-1, 2, 0, 0, 255, *([-1] * 250), 255)  # the class 1 has no value
SMALL = (6, 8)


@pytest.mark.parametrize("size", [(6, 8), (12, 16), (17, 23)])
def test_classes_come_back_through_the_lut_of_the_data_set(tmp_path: Path, size: tuple[int, int]) -> None:
    classes = np.random.default_rng(0).choice([0, 2, 255], SMALL)
    (tmp_path / "a.png").write_bytes(class_png(classes, LUT, size))
    values = read_semantic("a.png", tmp_path)
    assert values.shape == size
    assert set(np.unique(values)) <= {1, 2, 4}  # of several values the first
    assert np.array_equal(class_ids(resize_nearest(values, SMALL), LUT, "a.png"), classes)


def test_a_class_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="have no value for class 1; expected one"):
        class_png(np.ones(SMALL, np.int64), LUT, SMALL)
    with pytest.raises(ValueError, match="no value for pixels to be ignored"):
        class_png(np.full(SMALL, 255), [0, *([-1] * 255)], SMALL)


def test_metres_come_back_within_half_a_step(tmp_path: Path) -> None:
    metres = np.array([[0.5, np.nan, 80.03, 255.9], [300.0, np.inf, -1.0, 0.001]], np.float32)
    (tmp_path / "a.png").write_bytes(depth_png(metres, (4, 8)))
    found = resize_nearest(read_depth(depth_uri("a.png", MADE), tmp_path), (2, 4))
    known = np.array([[1, 0, 1, 1], [0, 0, 0, 0]], bool)
    assert np.array_equal(np.isfinite(found), known)
    assert np.abs(found[known] - metres[known]).max() <= 0.5 / 256 + 1e-6
