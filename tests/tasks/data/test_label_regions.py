"""Regions in pixels: every number here was worked out by hand."""

from typing import Any

import numpy as np
import pytest

from tasks.data.label_regions import regions_of
from tests.data.label_studio import brush, keypoint, polygon, region, square


def corners(value: dict[str, Any], **more: Any) -> Any:
    one = {"x": 20, "y": 20, "width": 30, "height": 20, "rectanglelabels": ["a"], **value}
    return regions_of([region("r", "box", one, **more)], "1", True).shapes[0]


def test_a_rectangle_turns_in_pixels() -> None:
    """1000 x 500 px, turned by 90 degrees about its first corner (200, 100): 300 px wide becomes 300 px high."""
    size = {"original_width": 1000, "original_height": 500}
    assert corners({}, **size).bounds == (200, 100, 500, 200)
    turned = corners({"rotation": 90}, **size)
    assert turned.points.tolist() == [[200, 100], [200, 400], [100, 400], [100, 100]]
    assert turned.bounds == (100, 100, 200, 400)
    assert turned.is_upright
    assert corners({"rotation": -90}, **size).bounds == (200, -200, 300, 100)
    assert corners({"rotation": 450}, **size).bounds == turned.bounds


def test_an_oblique_rectangle() -> None:
    """30 degrees clockwise, y down: the right corner goes down. Not what turning in percent would give."""
    one = corners({"x": 10, "y": 10, "width": 10, "height": 10, "rotation": 30})  # 20 x 10 px at (20, 10)
    half, root = 0.5, 3**0.5 / 2
    expected = [[20, 10], [20 + 20 * root, 10 + 20 * half], [15 + 20 * root, 20 + 10 * root], [15, 10 + 10 * root]]
    assert np.allclose(one.points, expected, rtol=0, atol=1e-12)
    assert not one.is_upright


@pytest.mark.parametrize(("turn", "point"), [(0, (20, 20)), (90, (40, 90)), (180, (180, 80)), (270, (160, 10))])
def test_a_view_that_was_turned(turn: int, point: tuple[float, float]) -> None:
    """Percent (10, 20) on 200 x 100 px; the view of a quarter turn is 100 x 200, and there that is px (10, 40)."""
    value = {"x": 10, "y": 20, "width": 0.5, "keypointlabels": ["a"]}
    shape = regions_of([region("k", "kp", value, image_rotation=turn)], "1", True).shapes[0]
    assert shape.points.tolist() == [list(point)]


def test_a_rectangle_on_a_turned_view() -> None:
    """Percent (10, 20, 30, 10) of the 100 x 200 view: px (10, 40) to (40, 60) there; x = y', y = 100 - x'."""
    value = {"x": 10, "y": 20, "width": 30, "height": 10, "rectanglelabels": ["a"]}
    assert regions_of([region("r", "box", value, image_rotation=90)], "1", True).shapes[0].bounds == (40, 60, 60, 90)


def test_polygons() -> None:
    closing = polygon("p", "a", [(10, 10), (20, 10), (20, 20), (10, 10)])
    assert regions_of([closing], "1", True).shapes[0].points.tolist() == [[10, 10], [20, 10], [20, 20]]
    crossing = polygon("p", "a", [(10, 10), (20, 20), (20, 10), (10, 20)])  # kept as it was drawn
    assert len(regions_of([crossing], "1", True).shapes[0].points) == 4


def test_what_the_controls_say() -> None:
    mask = np.zeros((100, 200), bool)
    mask[2, 3] = True
    results = [
        keypoint("k", "a", 1, 1, "kp_hidden"), brush("c", "a", mask, "crowd"),
        {**keypoint("v", "a", 1, 1), "value": {"x": 1, "y": 1, "width": 1, "hidden": True, "keypointlabels": ["a"]}},
        region("k", "group", {"x": 1, "y": 1, "number": 4}), region("k", "note", {"text": ["hm"], "x": 1, "y": 1}),
        {"type": "relation", "from_id": "k", "to_id": "c", "labels": ["same"]},
    ]  # fmt: skip
    found = regions_of(results, "1", True)
    assert [(one.is_hidden, one.is_crowd) for one in found.shapes] == [(True, False), (False, True), (True, False)]
    assert found.shapes[1].bounds == (3, 2, 4, 3)
    assert found.groups == {"k": "4"}
    assert found.links == (("k", "c", True),)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (polygon("p", "a", [(1, 1), (5, 5)]), "is a polygon that has 2 points; expected"),
        ({**square("p", "a", 1, 1, 5), "value": {**square("p", "a", 1, 1, 5)["value"], "closed": False}}, "not closed"),
        (region("p", "poly", {"points": [[1, 1], [2, 2], [3, 1]], "polygonlabels": []}), "has no label"),
        (region("p", "poly", {"points": [[1, 1], [2, 2], [3, 1]]}), "has no label"),
        (region("r", "box", {"x": 1, "y": 1, "width": 2, "height": 3, "labels": ["a", "b"]}), "has 2 labels"),
        (keypoint("k", "a", 250, 20), "outside of the image of 200 x 100 px"),
        (region("e", "e", {"x": 1, "y": 1, "radiusX": 2, "radiusY": 3, "ellipselabels": ["a"]}), "is a shape of x, y"),
        (brush("b", "a", np.zeros((100, 200), bool)), "without a pixel"),
        (brush("b", "a", np.ones((100, 200), bool), image_rotation=90), "turned by 90"),
    ],
)
def test_what_is_left_out(result: dict[str, Any], words: str) -> None:
    found = regions_of([result, square("good", "a", 1, 1, 5)], "77", True)
    assert [one.name for one in found.shapes] == ["good"]
    assert words in str(found.left_out[0])
    assert str(found.left_out[0]).startswith(f"task 77: region {result['id']}: ")


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (square("p", "a", 1, 1, 5, image_rotation=45), "has image_rotation 45; expected 0, 90, 180 or 270"),
        (square("p", "a", 1, 1, 5, original_width=None), "has original_width None"),
        (square("p", "a", 1, 1, 5, original_width=100), r"images of 200 x 100 px \(good\), 100 x 100 px \(p\)"),
        (region("p", "poly", {"points": [[1, "x"]], "polygonlabels": ["a"]}), "expected pairs of numbers"),
        (region("r", "box", {"x": None, "y": 1, "width": 1, "height": 1, "labels": ["a"]}), "x None, y 1"),
        (region("b", "brush", {"rle": [1, 2], "brushlabels": ["a"]}), "runs end after 2 bytes"),
        ({"id": "v", "value": 3}, "has the value '3'; expected an object"),
    ],
)
def test_what_cannot_be_read(result: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=rf"^task 77: .*{words}"):
        regions_of([square("good", "a", 1, 1, 5), result], "77", True)
