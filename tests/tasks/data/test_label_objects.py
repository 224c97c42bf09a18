"""Which shapes are one object and which keypoints are its: links first, then geometry."""

from typing import Any

import numpy as np
import pytest

from tasks.data.label_config import LabelSchema, schema_of_config
from tasks.data.label_objects import LabeledObject, annotation_of, objects_of
from tasks.data.label_regions import regions_of
from tests.data.label_studio import CONFIG, brush, keypoint, polygon, rectangle, region, short_of, square, task

SCHEMA = schema_of_config(CONFIG, "config")


def found(*results: Any, schema: LabelSchema = SCHEMA) -> tuple[list[LabeledObject], list[str]]:
    """The objects, and what is left out."""
    objects, left_out = objects_of(regions_of(results, "5", True), schema, "5")
    return objects, [str(one) for one in left_out]


def found_short(*results: Any) -> list[LabeledObject]:
    """The objects of the same regions in JSON-MIN."""
    record = short_of([task(5, "a.png", results)])[0]
    short = [{"from_name": k, "value": one} for k, v in record.items() if isinstance(v, list) for one in v]
    return objects_of(regions_of(short, "5", False), SCHEMA, "5")[0]


def names(objects: list[LabeledObject]) -> list[list[str]]:
    return [[shape.name for shape in one.regions] for one in objects]


# ---- shapes ---------------------------------------------------------------------------------------------------------


def test_parts_are_linked_by_people() -> None:
    """By a parent, by a relation called "same", by a number; a part of another class is an object of its own."""
    objects, left_out = found(
        square("a", "arm", 0, 0, 10), square("b", "arm", 50, 0, 10, parentID="a"),
        square("in", "bolt", 2, 2, 3, parentID="a"),
        square("c", "arm", 0, 50, 10), square("d", "arm", 20, 50, 10),
        {"type": "relation", "from_id": "c", "to_id": "d", "labels": ["same"]},
        square("e", "arm", 100, 50, 10), square("f", "arm", 120, 50, 10),
        region("e", "group", {"number": 1}), region("f", "group", {"number": 1}),
        square("g", "arm", 150, 50, 10), square("h", "arm", 170, 50, 10, parentID="gone"),
        {"type": "relation", "from_id": "g", "to_id": "h"},
    )  # fmt: skip
    assert names(objects) == [["a", "b"], ["in"], ["c", "d"], ["e", "f"], ["g"], ["h"]]
    assert left_out == []
    assert (objects[0].bounds, objects[0].area()) == ((0, 0, 60, 10), 200)


def test_a_rectangle_is_the_box_of_the_polygon_it_is_drawn_around() -> None:
    """One to one, the best pairs first, from an IoU of 0.9 on, in one class."""
    shapes = [
        square("p", "arm", 10, 10, 40), rectangle("close", "arm", (10, 10, 40, 39)),
        rectangle("same", "arm", (10, 10, 40, 40)),
        square("q", "arm", 100, 10, 40), rectangle("small", "arm", (100, 10, 40, 35)),
        square("r", "bolt", 150, 50, 40), rectangle("other", "arm", (150, 50, 40, 40)),
    ]  # fmt: skip
    objects, _ = found(*shapes)
    assert names(objects) == [["p", "same"], ["close"], ["q"], ["small"], ["r"], ["other"]]
    one = annotation_of(objects[0], {"id": 1}, (), (100, 200))
    assert (one["bbox"], one["ls_box"], one["area"]) == ([10, 10, 40, 40], [10, 10, 40, 40], 1600)
    alone = annotation_of(objects[3], {"id": 1}, (), (100, 200))
    assert (alone["bbox"], alone["segmentation"], "ls_box" in alone) == ([100, 10, 40, 35], [], False)


def test_the_box_is_the_bounds_of_the_polygons() -> None:
    objects, _ = found(
        polygon("p", "arm", [(10, 20), (50, 30), (20, 60)], parentID="r"), rectangle("r", "arm", (0, 0, 90, 90))
    )
    one = annotation_of(objects[0], {"id": 1}, (), (100, 200))
    assert one["bbox"] == [10, 20, 40, 40]
    assert one["ls_box"] == [0, 0, 90, 90]
    assert one["area"] == pytest.approx(abs((40 * 40) - (10 * 10)) / 2)
    assert one["ls_region_id"] == "r"


def test_an_oblique_rectangle_is_a_polygon() -> None:
    objects, _ = found(
        rectangle("r", "arm", (100, 20, 40, 20), rotation=45), rectangle("u", "arm", (20, 20, 40, 20), 90)
    )
    oblique, upright = (annotation_of(one, {"id": 1}, (), (100, 200)) for one in objects)
    side = 0.5**0.5
    assert np.allclose(oblique["bbox"], [100 - 20 * side, 20, 60 * side, 60 * side], rtol=0, atol=1e-12)
    assert oblique["area"] == pytest.approx(800)
    assert len(oblique["segmentation"][0]) == 8
    assert (upright["segmentation"], upright["bbox"]) == ([], [0, 20, 20, 40])


def test_a_brush_joins_polygons_as_pixels() -> None:
    mask = np.zeros((100, 200), bool)
    mask[10:20, 10:20] = True
    mask[14:16, 14:16] = False  # a hole stays one
    objects, _ = found(brush("b", "arm", mask), square("p", "arm", 30, 10, 5, parentID="b"))
    one = annotation_of(objects[0], {"id": 1}, (), (100, 200))
    assert (one["area"], one["bbox"]) == (96 + 25, [10, 10, 25, 10])
    assert one["segmentation"]["size"] == [100, 200]


def test_parts_in_the_short_form() -> None:
    """Without ids: polygons inside a rectangle whose common bounds fit it are one object; others are not."""
    shapes = [
        square("a", "arm", 10, 10, 20), square("b", "arm", 70, 20, 20), rectangle("r", "arm", (10, 10, 80, 30)),
        square("c", "arm", 120, 10, 20), square("d", "arm", 120, 60, 20), rectangle("s", "arm", (120, 10, 20, 20)),
    ]  # fmt: skip
    assert sorted(map(len, names(found_short(*shapes)))) == [1, 2, 3]
    assert sorted(map(len, names(found(*shapes)[0]))) == [1, 1, 1, 1, 2]  # with ids, people would have linked them


# ---- keypoints ------------------------------------------------------------------------------------------------------


def given(objects: list[LabeledObject]) -> list[dict[str, tuple[float, float, int]]]:
    return [one.keypoints for one in objects]


def test_the_smallest_object_that_holds_a_point_has_it() -> None:
    """Two points of a label in both: one each. Two objects of equal area: the one that was drawn first."""
    nested = square("out", "arm", 10, 10, 60), square("in", "arm", 20, 20, 20)
    assert given(found(*nested, keypoint("k", "arm.left", 25, 25))[0]) == [{}, {"arm.left": (25, 25, 2)}]
    both = found(*nested, keypoint("k", "arm.left", 25, 25), keypoint("l", "arm.left", 30, 30))[0]
    assert [set(one) for one in given(both)] == [{"arm.left"}, {"arm.left"}]
    tie = square("x", "arm", 20, 20, 20), square("y", "arm", 20, 20, 20)
    assert given(found(*tie, keypoint("k", "arm.left", 25, 25))[0]) == [{"arm.left": (25, 25, 2)}, {}]


def test_a_link_counts_more_than_geometry() -> None:
    nested = square("out", "arm", 10, 10, 60), square("in", "arm", 20, 20, 20)
    for link in (
        [keypoint("k", "arm.left", 25, 25, parentID="out")],
        [keypoint("k", "arm.left", 25, 25), {"type": "relation", "from_id": "out", "to_id": "k"}],
        [keypoint("k", "arm.left", 25, 25), {"type": "relation", "from_id": "k", "to_id": "out"}],
        [keypoint("k", "arm.left", 25, 25), region("k", "group", {"number": 3}), region("out", "group", {"number": 3})],
    ):
        assert given(found(*nested, *link)[0]) == [{"arm.left": (25, 25, 2)}, {}]


def test_a_link_to_two_objects_does_not_join_them() -> None:
    shapes = (
        square("a", "arm", 10, 10, 20),
        square("b", "arm", 60, 10, 20),
        keypoint("k", "arm.left", 15, 15, parentID="a"),
    )
    objects, _ = found(*shapes, {"type": "relation", "from_id": "b", "to_id": "k"})
    assert names(objects) == [["a"], ["b"]]
    assert given(objects) == [{"arm.left": (15, 15, 2)}, {}]


def test_points_outside() -> None:
    """Within 5 px of the outline, or 2 % of the diagonal, whichever is more; on the border is inside."""
    arm = square("a", "arm", 20, 20, 40)
    assert given(found(arm, keypoint("k", "arm.left", 65, 40))[0]) == [{"arm.left": (65, 40, 2)}]
    objects, left_out = found(arm, keypoint("k", "arm.left", 65.1, 40))
    assert given(objects) == [{}]
    assert left_out == [
        "task 5: region k: is a 'arm.left' that lies in no object that still needs one, nor near to one; expected such "
        "an object: link or delete it"
    ]
    nearer = square("b", "arm", 70, 20, 10), keypoint("k", "arm.left", 66, 25)
    assert given(found(arm, *nearer)[0]) == [{}, {"arm.left": (66, 25, 2)}]


def test_points_on_brushes() -> None:
    mask = np.zeros((100, 200), bool)
    mask[10:20, 10:20] = True
    assert given(found(brush("b", "bolt", mask), keypoint("k", "bolt.head", 24, 15))[0]) == [{"bolt.head": (24, 15, 2)}]
    assert given(found(brush("b", "bolt", mask), keypoint("k", "bolt.head", 26, 15))[0]) == [{}]


def test_a_class_gets_its_own_keypoints_only() -> None:
    objects, left_out = found(
        square("a", "arm", 20, 20, 40), keypoint("k", "bolt.head", 30, 30),
        keypoint("l", "bolt.head", 31, 31, parentID="a"),
        keypoint("m", "arm.left", 30, 30, parentID="a"), keypoint("n", "arm.left", 33, 33, parentID="a"),
        keypoint("o", "nut", 1, 1), square("p", "nut", 1, 1, 5),
    )  # fmt: skip
    assert given(objects) == [{"arm.left": (30, 30, 2)}]
    told = " / ".join(left_out)
    assert len(left_out) == 5
    assert "region o: has the label 'nut'; expected one of arm.left, arm.right, bolt.head: rename it" in told
    assert "region p: has the label 'nut'; expected one of arm, bolt: rename it" in told
    assert "region l: is 'bolt.head' of a arm, which has no such keypoint" in told
    assert "region n: is a second 'arm.left' of one object" in told


def test_visibility_and_absence() -> None:
    """The category's keypoints in its order; one that nobody labeled is 0, 0, 0."""
    objects, _ = found(square("a", "arm", 20, 20, 40), keypoint("k", "arm.right", 30.5, 30, "kp_hidden"))
    one = annotation_of(objects[0], {"id": 1}, [p for p in SCHEMA.keypoints if p.owner == "arm"], (100, 200))
    assert one["keypoints"] == [0, 0, 0, 30.5, 30, 1]
    assert one["num_keypoints"] == 1
