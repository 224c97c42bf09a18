"""From labels to classes, from numbers to objects."""

import numpy as np
import pytest

from tasks.data.label_maps import check_labels, class_map, objects_of, semantic_lut
from tasks.geometry import mask_of_rle


def test_a_class_of_boxes_belongs_to_the_one_class_of_its_pixels() -> None:
    pixels = {"road": "flat", "path": "flat", "car": "vehicle", "bus": "vehicle", "dog": "animal"}
    detection = {"car": "car", "bus": "big", "van": "big", "cat": "pet", "path": "way", "road": "way"}
    classes = class_map(detection, pixels, pixels)
    assert classes.detection == ("car", "big", "pet", "way")
    assert classes.segmentation == ("flat", "vehicle", "animal")
    assert classes.det_to_seg == (1, -1, -1, 0)  # a van has no pixels


def test_a_lut_knows_what_is_ignored_and_what_must_not_occur() -> None:
    lut = semantic_lut({0: "void", 3: "car", 9: "bus", 4: "road"}, {"road": "road", "car": "vehicle", "bus": "vehicle"})
    assert [lut[i] for i in (0, 3, 9, 4, 1, 254, 255)] == [255, 1, 1, 0, -1, -1, 255]
    assert len(lut) == 256


def test_objects_of_numbers() -> None:
    ids = np.zeros((6, 9), np.int64)
    ids[1:3, 2:5], ids[4:, 7:], ids[0, 0] = 70000, 5, 6
    ids[4, 0] = 5  # two parts, one object
    objects = objects_of(ids, {5: (1, True), 70000: (0, False), 8: (2, False)}.get)
    assert [(o.box, o.label, o.crowd) for o in objects] == [((0, 4, 9, 6), 1, True), ((2, 1, 5, 3), 0, False)]
    for one, value in zip(objects, (5, 70000), strict=True):
        assert one.rle is not None
        np.testing.assert_array_equal(mask_of_rle(one.rle), ids == value)
    assert objects_of(ids, lambda value: None) == ()


def test_labels_that_are_named_have_to_be_there() -> None:
    with pytest.raises(ValueError, match=r"x: 'cow' is no label; expected some of cat, dog: correct it"):
        check_labels("x", ["cat", "cow"], ("cat", "dog"))
    assert check_labels("x", ["cat"], ("cat", "dog")) is None
