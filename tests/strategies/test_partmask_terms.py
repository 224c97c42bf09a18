"""The terms of one instance: by hand, against a reference of plain loops, every degenerate case, invariances."""

from math import atan2, cos, degrees, hypot, pi, radians, sin

import numpy as np
import pytest
from numpy.typing import NDArray

from strategies.partmask_terms import Rules, Terms, in_pixels, terms_of
from tasks.geometry import rle_of_mask

Mask = NDArray[np.bool_]
Points = list[tuple[float, float, float]]
SIZE = (60, 80)
BOX = (20.0, 10.0, 60.0, 30.0)  # 40 x 20 px: its diagonal is 44.7 px


def filled(x1: int, y1: int, x2: int, y2: int, size: tuple[int, int] = SIZE) -> Mask:
    mask = np.zeros(size, np.bool_)
    mask[y1:y2, x1:x2] = True
    return mask


def terms(mask: Mask, box: tuple[float, ...] = BOX, points: Points | None = None, **rules: object) -> Terms:
    keypoints = np.array(points or [], np.float64).reshape(-1, 3)
    return terms_of(rle_of_mask(mask), np.array(box), keypoints, mask.shape, Rules(**rules))  # type: ignore[arg-type]


def values(one: Terms) -> tuple[float, ...]:
    return one.box, one.out, one.away, one.axis, one.angle


# ---- by hand ---------------------------------------------------------------------------------------------------------

AGREES: Points = [(25, 20, 2), (40, 20, 2), (55, 20, 2)]


def test_what_agrees_is_zero() -> None:
    found = terms(filled(20, 10, 60, 30), points=AGREES)
    assert values(found) == pytest.approx((0, 0, 0, 0, 0), abs=1e-12)
    assert found.bounds == BOX
    assert (found.points, found.off is not None and len(found.off)) == (3, 0)


def test_a_mask_of_half_the_box() -> None:
    found = terms(filled(20, 10, 40, 30), points=AGREES)
    assert found.box == pytest.approx(0.5)
    assert found.out == pytest.approx(1 / 3)  # 40 lies on the edge of the mask, 55 lies 15 px off
    diagonal = hypot(40, 20)
    assert found.away == pytest.approx(1 / 3)  # 15 px are more than a tenth of it
    assert terms(filled(20, 10, 40, 30), points=AGREES, far=1.0).away == pytest.approx(15 / diagonal / 3)
    assert terms(filled(20, 10, 40, 30), points=AGREES, slack=0.4).out == 0
    assert found.parts == (found.out + found.away) / 2
    assert found.off is not None
    assert found.off.tolist() == [[55, 20]]
    assert found.axis == 0  # a square has no axis
    assert found.angle == 0


def test_points_across_the_mask() -> None:
    """40 x 20 px: lambda of 1600 / 12 and 400 / 12, hence a clarity of .6; of points 8 px apart with 1/12 each .996."""
    found = terms(filled(20, 10, 60, 30), points=[(40, 16, 2), (40, 24, 2)])
    spread = 16 + 1 / 12
    assert found.axis == pytest.approx(0.6 * (spread - 1 / 12) / (spread + 1 / 12))
    assert found.angle == pytest.approx(90)
    turned = terms(filled(20, 10, 60, 30), points=[(40 - 4, 20 - 4, 2), (40 + 4, 20 + 4, 2)])
    assert turned.angle == pytest.approx(45)
    assert turned.axis == pytest.approx(0.6 * 0.5 * 16 * 2 / (16 * 2 + 1 / 6))


def test_edges_of_boxes_are_taken_to_whole_pixels() -> None:
    assert in_pixels(np.array([10.4, 3.6, 20.6, 9.5]), SIZE) == (10, 4, 21, 9)
    assert in_pixels(np.array([-5.0, -5.0, 500.0, 500.0]), SIZE) == (0, 0, 80, 60)
    assert in_pixels(np.array([7.6, 7.6, 7.7, 7.7]), SIZE) == (8, 8, 9, 9)
    assert terms(filled(10, 4, 21, 9), (10.4, 3.6, 20.6, 9.5)).box == 0


# ---- degenerate cases ------------------------------------------------------------------------------------------------


def test_without_a_pixel_all_is_said_by_the_rule() -> None:
    nothing = filled(0, 0, 0, 0)
    assert values(terms(nothing, points=AGREES)) == (1, 1, 1, 0, 0)
    assert values(terms(nothing, points=AGREES, empty="zero")) == (0, 0, 0, 0, 0)
    assert values(terms(nothing)) == (1, 0, 0, 0, 0)
    assert terms(nothing).bounds is None
    assert terms(nothing, points=AGREES).points == 3


def test_without_a_visible_keypoint_only_the_box_counts() -> None:
    for points in (None, [(0.0, 0.0, 0.0)], [(70.0, 50.0, 1.0), (0.0, 0.0, 0.0)]):  # hidden ones may lie anywhere
        found = terms(filled(20, 10, 40, 30), points=points)
        assert values(found) == pytest.approx((0.5, 0, 0, 0, 0))
        assert found.points == 0


def test_what_has_no_axis_is_across_nothing() -> None:
    square, bar = filled(20, 10, 40, 30), filled(20, 10, 60, 30)
    assert terms(square, points=[(30, 12, 2), (30, 28, 2)]).axis == pytest.approx(0, abs=1e-12)
    assert terms(bar, points=[(40, 20, 2)]).axis == 0
    assert terms(bar, points=[(40, 20, 2), (40, 20, 2)]).axis == 0
    cross: Points = [(30, 20, 2), (50, 20, 2), (40, 10, 2), (40, 30, 2)]
    assert terms(bar, points=cross).axis == pytest.approx(0, abs=1e-12)
    assert terms(filled(5, 5, 6, 6), (5, 5, 6, 6), [(5.5, 5.5, 2)]).axis == 0  # a single pixel
    almost = [terms(bar, points=[(40, 20 - d, 2), (40, 20 + d, 2)]).axis for d in (0.01, 0.1, 1, 5)]
    assert almost == sorted(almost)
    assert almost[0] < 0.01  # points that nearly coincide say little


def test_boxes_off_the_image_and_without_area() -> None:
    mask = filled(20, 10, 40, 30)
    assert terms(mask, (200, 200, 240, 240)).box == 1
    assert terms(mask, (-50, 3, -40, 9)).box == 1
    assert terms(filled(30, 20, 31, 21), (30.5, 20.5, 30.5, 20.5)).box == 0  # at least a pixel
    far = terms(filled(30, 20, 31, 21), (30.5, 20.5, 30.5, 20.5), [(33, 20.5, 2)])
    assert (far.out, far.away) == (1, 1)  # a diagonal of a pixel at least


# ---- a reference of plain loops --------------------------------------------------------------------------------------


def slow(mask: Mask, box: tuple[float, ...], points: Points) -> tuple[float, ...]:
    """All terms of an instance with pixels by the words of the docstring, a pixel and a keypoint at a time."""
    pixels = [(x, y) for y in range(mask.shape[0]) for x in range(mask.shape[1]) if mask[y, x]]
    inside = {
        (x, y)
        for y in range(mask.shape[0])
        for x in range(mask.shape[1])
        if box[0] <= x + 0.5 < box[2] and box[1] <= y + 0.5 < box[3]
    }
    x1, x2 = min(x for x, _ in pixels), max(x for x, _ in pixels)
    y1, y2 = min(y for _, y in pixels), max(y for _, y in pixels)
    bounds = {(x, y) for x in range(x1, x2 + 1) for y in range(y1, y2 + 1)}
    s_box = 1 - len(inside & bounds) / len(inside | bounds)
    diagonal = hypot(box[2] - box[0], box[3] - box[1])
    seen = [(x, y) for x, y, v in points if v == 2]
    away = [
        min(hypot(max(i - x, 0, x - i - 1), max(j - y, 0, y - j - 1)) for i, j in pixels) / diagonal for x, y in seen
    ]
    if not seen:
        return s_box, 0, 0, 0, 0
    (theta, clear), (other, plain) = lean([(x + 0.5, y + 0.5) for x, y in pixels]), lean(seen)
    apart = abs(theta - other) % pi
    apart = min(apart, pi - apart)
    return (
        s_box,
        sum(d > 0.02 for d in away) / len(away),
        sum(min(d / 0.1, 1) for d in away) / len(away),
        clear * plain * sin(apart) ** 2,
        degrees(apart) if clear * plain > 1e-9 else 0,
    )


def lean(points: list[tuple[float, float]]) -> tuple[float, float]:
    """The angle of the eigenvector of the larger eigenvalue of the moments, and how much larger that is."""
    moments = np.cov(np.array(points).T, bias=True) + np.eye(2) / 12
    small, large = np.linalg.eigh(moments)[0]
    along = np.linalg.eigh(moments)[1][:, 1]
    return atan2(along[1], along[0]), float((large - small) / (large + small))


@pytest.mark.parametrize("seed", range(12))
def test_all_terms_against_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    box = (*rng.uniform(3, 12, 2), *rng.uniform(16, 30, 2))
    y, x = np.mgrid[:32, :34] + 0.5
    mask = (abs((x - 18) * cos(seed) + (y - 15) * sin(seed)) < 4 + seed % 5) & (abs(y - 15) < 12)
    mask &= rng.random(mask.shape) < 0.9
    points = [(*rng.uniform(0, 32, 2), float(v)) for v in rng.integers(0, 3, 6)]
    expected = slow(mask, box, points)
    found = terms(mask, box, points)
    assert values(found) == pytest.approx(expected, abs=1e-6)
    assert any(expected)


# ---- invariances -----------------------------------------------------------------------------------------------------


def shape(seed: int) -> tuple[Mask, tuple[float, ...], Points]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:60, :80] + 0.5
    phi = radians(20 + 40 * seed)
    mask = (abs((x - 40) * cos(phi) + (y - 30) * sin(phi)) < 18) & (abs((y - 30) * cos(phi) - (x - 40) * sin(phi)) < 7)
    points = [(*rng.normal([40, 30], 9), 2.0) for _ in range(3)]
    return mask, (22.0, 14.0, 57.0, 46.0), points


@pytest.mark.parametrize("seed", range(4))
def test_a_mirrored_a_moved_and_a_larger_picture_score_alike(seed: int) -> None:
    mask, box, points = shape(seed)
    here = values(terms(mask, box, points))
    mirrored = terms(mask[:, ::-1], (80 - box[2], box[1], 80 - box[0], box[3]), [(80 - x, y, v) for x, y, v in points])
    assert values(mirrored) == pytest.approx(here, abs=1e-9)
    upright = terms(mask.T, (box[1], box[0], box[3], box[2]), [(y, x, v) for x, y, v in points])
    assert values(upright) == pytest.approx(here, abs=1e-9)
    wide = np.zeros((90, 120), np.bool_)
    wide[11:71, 23:103] = mask
    moved = terms(
        wide, (box[0] + 23, box[1] + 11, box[2] + 23, box[3] + 11), [(x + 23, y + 11, v) for x, y, v in points]
    )
    assert values(moved) == pytest.approx(here, abs=1e-9)
    larger = terms(
        mask.repeat(3, 0).repeat(3, 1), tuple(3 * edge for edge in box), [(3 * x, 3 * y, v) for x, y, v in points]
    )
    assert values(larger) == pytest.approx(here, abs=5e-3)  # a keypoint is a pixel wide in either picture
    assert values(terms(mask, box, points[::-1])) == pytest.approx(here, abs=1e-12)
