"""Maps that are painted from masks."""

import os
from math import isnan
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.data.semantic_maps import box_of, clipped, fill_box, is_newer, painted_classes, painted_lut, write_map


def test_classes_share_names_and_background_is_one() -> None:
    classes = painted_classes(["road"], ["car", "truck", "car"])
    assert classes.segmentation == ("background", "road", "car", "truck")
    assert (classes.detection, classes.det_to_seg) == (("car", "truck"), (2, 3))
    assert painted_lut(classes) == (0, 1, 2, 3, *(-1,) * 251, 255)


def test_a_map_is_an_8_bit_png_and_newer_than_its_sources(tmp_path: Path) -> None:
    made, source = tmp_path / "deep" / "map.png", tmp_path / "table.json"
    assert not is_newer(made, (source,))
    source.write_text("[]")
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write_map(made, values)
    with Image.open(made) as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), values)
    os.utime(source, ns=(1, 1))
    assert is_newer(made, (source,))
    os.utime(source, ns=(made.stat().st_mtime_ns + 1,) * 2)
    assert not is_newer(made, (source,))
    assert not is_newer(made, (tmp_path / "gone.json",))


def test_a_box_fills_every_pixel_that_it_touches() -> None:
    values = np.zeros((4, 6), np.uint8)
    fill_box(values, (1.5, 0.0, 3.0, 2.2), 9)
    assert np.argwhere(values).tolist() == [[y, x] for y in range(3) for x in (1, 2)]
    fill_box(values, (-5.0, 3.0, 99.0, 99.0), 7)
    assert (values[3] == 7).all()
    fill_box(values, (float("nan"),) * 4, 1)
    assert not (values == 1).any()


def test_boxes_are_cut_at_the_border_and_faults_stay_visible() -> None:
    assert clipped((-3.0, 2.0, 50.0, 5.0), (10, 20)) == (0.0, 2.0, 20.0, 5.0)
    assert box_of([1, 2.5, 3, 4]) == (1.0, 2.5, 3.0, 4.0)
    for bad in (None, [1, 2, 3], ["1", 2, 3, 4], [True, 2, 3, 4]):
        assert isnan(clipped(box_of(bad), (10, 20))[0])


@pytest.mark.parametrize("name", ["car", "background"])
def test_a_class_that_is_also_a_surface_counts_once(name: str) -> None:
    classes = painted_classes([name], [name])
    assert classes.segmentation.count(name) == 1
    assert classes.segmentation[classes.det_to_seg[0]] == name
