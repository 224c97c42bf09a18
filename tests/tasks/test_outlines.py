"""Outlines under a cut: exact areas, parts, holes, and masks that go the same way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import outlines as o
from tasks.geometry import mask_of_rle, rle_of_mask, rle_of_polygons
from tasks.resampling import Resampling
from tasks.transform import cropped, mirrored, moved

U = np.array([(10, 10), (50, 10), (50, 50), (40, 50), (40, 20), (20, 20), (20, 50), (10, 50)], np.float64)


def area(rings: tuple[o.Ring, ...]) -> float:
    return sum(o.ring_area(ring) for ring in rings)


def test_a_corner_is_cut_off_by_hand() -> None:
    square = np.array([(-5, -5), (5, -5), (5, 5), (-5, 5)], np.float64)
    parts, share = o.clip_rings([square], (100, 100))
    assert (area(parts), share) == (25.0, 0.25)
    diamond = np.array([(0, -10), (10, 0), (0, 10), (-10, 0)], np.float64)  # a quarter is a triangle
    parts, share = o.clip_rings([diamond], (100, 100))
    assert (len(parts[0]), area(parts), share) == (3, 50.0, 0.25)
    roof = np.array([(-4, 4), (10, 4), (10, 20), (-4, 20)], np.float64) @ np.array([[1, 1], [-1, 1]]) / 2
    parts, share = o.clip_rings([roof], (100, 100))
    assert 0 < share < 1
    assert area(parts) == pytest.approx(share * o.ring_area(roof))


def test_a_u_that_loses_its_floor_is_two_parts() -> None:
    moved_up = U - (0, 30)  # the bar of the U is above the image now
    parts, share = o.clip_rings([moved_up], (100, 100))
    assert sorted(o.points_box(part) for part in parts) == [(10, 0, 20, 20), (40, 0, 50, 20)]
    assert area(parts) == 400.0
    assert share == pytest.approx(400 / o.ring_area(U))


def test_inside_nothing_changes_and_outside_nothing_remains() -> None:
    parts, share = o.clip_rings([U], (100, 100))
    assert parts[0] is U
    assert share == 1.0
    assert o.clip_rings([U + 200], (100, 100)) == ((), 0.0)
    both, share = o.clip_rings([U, U + 200], (100, 100))
    assert len(both) == 1
    assert share == 0.5
    touching, _ = o.clip_rings([U - (50, 0)], (100, 100))  # its right side lies on the border
    assert touching == ()


def test_a_ring_that_winds_around_a_hole_keeps_it() -> None:
    """A keyhole: out, along a slit, around the hole, back. Cut at the border, the hole is still there."""
    keyhole = np.array(
        [(-10, 0), (40, 0), (40, 40), (-10, 40), (-10, 20), (10, 20), (10, 30), (30, 30), (30, 10), (10, 10), (10, 20),
         (-10, 20)], np.float64,
    )  # fmt: skip
    parts, share = o.clip_rings([keyhole], (100, 100))
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
    parts, share = o.clip_rings([tie], (100, 100))
    assert area(parts) == pytest.approx(100)
    assert share == pytest.approx(0.5)


def test_masks_move_by_the_nearest_pixel() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:10, 4:12] = True
    flip = mirrored((20, 30))
    rle, pixels, tight, share = o.move_rle(rle_of_mask(mask), flip, Resampling(flip))
    assert np.array_equal(mask_of_rle(rle), mask[:, ::-1])
    assert (pixels, tight, share) == (40, (18, 5, 26, 10), 1.0)
    cut = cropped((20, 30), 8, 0, (20, 22))
    assert o.move_rle(rle_of_mask(mask), cut, Resampling(cut))[1:] == (20, (0, 5, 4, 10), 0.5)
    gone = cropped((20, 30), 20, 0, (20, 10))
    assert o.move_rle(rle_of_mask(mask), gone, Resampling(gone))[1:] == (0, None, 0.0)
    smaller = moved((20, 30), scale=0.5)
    assert o.move_rle(rle_of_mask(mask), smaller, Resampling(smaller))[3] == 1.0  # all of it is in the picture
    empty = rle_of_mask(np.zeros((20, 30), bool))
    assert o.move_rle(empty, flip, Resampling(flip))[1:] == (0, None, 0.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_is_cut_is_never_more_than_there_was(seed: int) -> None:
    """Stars around a centre: parts lie inside, the share is the share, and cutting again changes nothing."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    ring = rng.uniform(-10, 60, 2) + rng.uniform(3, 40, (9, 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
    parts, share = o.clip_rings([ring], (50, 50))
    assert 0 <= share <= 1 + 1e-9
    for part in parts:
        assert (part >= 0).all()
        assert (part <= 50).all()
    again, whole = o.clip_rings(parts, (50, 50))
    assert area(again) == area(parts)
    assert whole == (1.0 if parts else 0.0) or not parts
