"""Outlines under a cut: exact areas, parts, holes, and masks that go the same way."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks import outlines as o
from tasks.geometry import mask_of_rle, polygon_area, rle_of_mask, rle_of_polygons
from tasks.resampling import Resampling
from tasks.transform import Transform, cropped, identity, mirrored, moved

U = np.array([(10, 10), (50, 10), (50, 50), (40, 50), (40, 20), (20, 20), (20, 50), (10, 50)], np.float64)


def area(rings: tuple[o.Ring, ...]) -> float:
    return sum(polygon_area(ring) for ring in rings)


def clipped(rings: Sequence[o.Ring], size: tuple[int, int]) -> tuple[tuple[o.Ring, ...], float]:
    """The parts within an image of H, W, and their share."""
    shown = o.move_rings([rings], identity(size))[0]
    assert (shown.box is None) == (not shown.parts)
    assert shown.area == pytest.approx(area(shown.parts), rel=1e-12)
    return shown.parts, shown.visible


def mask_moved(mask: NDArray[np.bool_], change: Transform) -> o.Shown:
    return o.move_rle(rle_of_mask(mask), change, Resampling(change))


def test_a_corner_is_cut_off_by_hand() -> None:
    square = np.array([(-5, -5), (5, -5), (5, 5), (-5, 5)], np.float64)
    parts, share = clipped([square], (100, 100))
    assert (area(parts), share) == (25.0, 0.25)
    diamond = np.array([(0, -10), (10, 0), (0, 10), (-10, 0)], np.float64)  # a quarter is a triangle
    parts, share = clipped([diamond], (100, 100))
    assert (len(parts[0]), area(parts), share) == (3, 50.0, 0.25)
    roof = np.array([(-4, 4), (10, 4), (10, 20), (-4, 20)], np.float64) @ np.array([[1, 1], [-1, 1]]) / 2
    parts, share = clipped([roof], (100, 100))
    assert 0 < share < 1
    assert area(parts) == pytest.approx(share * polygon_area(roof))


def test_a_u_that_loses_its_floor_is_two_parts() -> None:
    moved_up = U - (0, 30)  # the bar of the U is above the image now
    parts, share = clipped([moved_up], (100, 100))
    assert sorted(o.points_box(part) for part in parts) == [(10, 0, 20, 20), (40, 0, 50, 20)]
    assert area(parts) == 400.0
    assert share == pytest.approx(400 / polygon_area(U))


def test_inside_nothing_changes_and_outside_nothing_remains() -> None:
    parts, share = clipped([U], (100, 100))
    assert np.array_equal(parts[0], U)
    assert share == 1.0
    assert clipped([U + 200], (100, 100)) == ((), 0.0)
    both, share = clipped([U, U + 200], (100, 100))
    assert len(both) == 1
    assert share == 0.5
    touching, _ = clipped([U - (50, 0)], (100, 100))  # its right side lies on the border
    assert touching == ()


def test_a_ring_that_winds_around_a_hole_keeps_it() -> None:
    """A keyhole: out, along a slit, around the hole, back. Cut at the border, the hole is still there."""
    keyhole = np.array(
        [(-10, 0), (40, 0), (40, 40), (-10, 40), (-10, 20), (10, 20), (10, 30), (30, 30), (30, 10), (10, 10), (10, 20),
         (-10, 20)], np.float64,
    )  # fmt: skip
    parts, share = clipped([keyhole], (100, 100))
    assert area(parts) == pytest.approx(40 * 40 - 20 * 20)
    assert share == pytest.approx(1200 / 1600)
    flat = [part.ravel().tolist() for part in parts]
    mask = mask_of_rle(rle_of_polygons(flat, (50, 50)))
    want = np.zeros((50, 50), bool)
    want[:40, :40] = True
    want[10:30, 10:30] = False
    assert np.array_equal(mask, want)


def test_a_bow_tie_counts_where_it_winds_once() -> None:
    tie = np.array([(-10, 0), (10, 20), (10, 0), (-10, 20)], np.float64)
    parts, share = clipped([tie], (100, 100))
    assert area(parts) == pytest.approx(100)
    assert share == pytest.approx(0.5)


def test_masks_move_by_the_nearest_pixel() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:10, 4:12] = True
    shown = mask_moved(mask, mirrored((20, 30)))
    assert shown.rle is not None
    assert np.array_equal(mask_of_rle(shown.rle), mask[:, ::-1])
    assert (shown.box, shown.area, shown.visible, shown.parts) == ((18, 5, 26, 10), 40.0, 1.0, ())
    assert mask_moved(mask, cropped((20, 30), 8, 0, (20, 22)))[:3] == ((0, 5, 4, 10), 20.0, 0.5)
    assert mask_moved(mask, cropped((20, 30), 20, 0, (20, 10)))[:3] == (None, 0.0, 0.0)
    assert mask_moved(mask, moved((20, 30), scale=0.5)).visible == 1.0  # all of it is in the picture
    assert mask_moved(np.zeros((20, 30), bool), mirrored((20, 30)))[:3] == (None, 0.0, 0.0)


def test_boxes_alone_are_hulls_cut_at_the_border() -> None:
    boxes = [(1.0, 2.0, 5.0, 4.0), (-2.0, 2.0, 2.0, 4.0), (40.0, 2.0, 50.0, 4.0), (30.0, 2.0, 34.0, 4.0)]
    whole, half, away, touching = o.move_boxes(boxes, identity((20, 30)))
    assert whole == o.Shown((1, 2, 5, 4), 8.0, 1.0)
    assert half == o.Shown((0, 2, 2, 4), 4.0, 0.5)
    assert away == touching == o.Shown(None, 0.0, 0.0)
    assert o.move_boxes([], identity((20, 30))) == o.move_rings([], identity((20, 30))) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_is_cut_is_never_more_than_there_was(seed: int) -> None:
    """Stars around a centre: parts lie inside, the share is the share, and cutting again changes nothing."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    ring = rng.uniform(-10, 60, 2) + rng.uniform(3, 40, (9, 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
    parts, share = clipped([ring], (50, 50))
    assert 0 <= share <= 1 + 1e-9
    for part in parts:
        assert (part >= 0).all()
        assert (part <= 50).all()
    if parts:
        again, whole = clipped(parts, (50, 50))
        assert area(again) == area(parts)
        assert whole == 1.0
