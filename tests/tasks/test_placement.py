"""Orientation and verdict against exact values; every degenerate case has its name; depth by mask and by keypoint."""

from fractions import Fraction
from itertools import permutations
from math import atan2, cos, degrees, nan, pi, radians, sin

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.placement import (
    Placement,
    axis_of_points,
    depth_at,
    depth_of_mask,
    eroded,
    placement,
    principal_axis,
    second_moments,
    towards,
)

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]
Xy = tuple[float, float]
LOCAL = ((-22.0, 5.0), (20.0, 5.0), (0.0, -8.0))  # along the axis and across it: the last is alone on its side


def rectangle(width: int, height: int, at: tuple[int, int] = (7, 9), size: tuple[int, int] = (120, 160)) -> Mask:
    mask = np.zeros(size, np.bool_)
    mask[at[1] : at[1] + height, at[0] : at[0] + width] = True
    return mask


def turned(width: float, height: float, angle: float, side: int = 160, centre: tuple[float, float] = (80, 80)) -> Mask:
    """A rectangle that is turned by ``angle`` radians from x towards y, sampled at pixel centres."""
    y, x = np.mgrid[:side, :side] + 0.5
    dx, dy = x - centre[0], y - centre[1]
    along, across = dx * cos(angle) + dy * sin(angle), -dx * sin(angle) + dy * cos(angle)
    found: Mask = (abs(along) < width / 2) & (abs(across) < height / 2)
    return found


def points(
    angle: float, local: tuple[tuple[float, float], ...] = LOCAL, centre: tuple[float, float] = (80, 80)
) -> Points:
    """Keypoints that turn with such a rectangle."""
    rows = [
        (centre[0] + a * cos(angle) - b * sin(angle), centre[1] + a * sin(angle) + b * cos(angle), 2) for a, b in local
    ]
    return np.array(rows)


def away(a: float, b: float) -> float:
    """Degrees between two axes."""
    return abs(degrees((a - b + pi / 2) % pi - pi / 2))


# ---- the axis --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(60, 20), (20, 60), (1, 1), (33, 1), (7, 4)])
def test_a_rectangle_has_exactly_its_moments(width: int, height: int) -> None:
    xx, yy, xy, centre = second_moments(rectangle(width, height))
    assert (xx, yy, xy) == pytest.approx((width**2 / 12, height**2 / 12, 0), abs=1e-12)
    assert centre == pytest.approx((7 + width / 2, 9 + height / 2), abs=1e-12)
    axis = principal_axis(rectangle(width, height))
    assert axis is not None
    assert axis.elongation == pytest.approx(max(width, height) / min(width, height), abs=1e-12)
    assert axis.width == pytest.approx(min(width, height))
    if width != height:
        assert axis.theta == (0 if width > height else pi / 2)


@pytest.mark.parametrize("phi", range(-85, 91, 7))
def test_a_turned_rectangle_has_its_angle(phi: int) -> None:
    axis = principal_axis(turned(80, 24, radians(phi)))
    assert axis is not None
    assert away(axis.theta, radians(phi)) < 0.5
    assert -pi / 2 < axis.theta <= pi / 2


def test_an_l_shape_against_the_exact_value() -> None:
    """40 x 10 beside 10 x 30 below its left end: moments by integrals over both rectangles, as fractions."""
    parts = [tuple(map(Fraction, part)) for part in ((0, 0, 40, 10), (0, 10, 10, 40))]
    area = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in parts)

    def integral(p: int, q: int) -> Fraction:
        return sum(
            (
                (x2 ** (p + 1) - x1 ** (p + 1)) / (p + 1) * (y2 ** (q + 1) - y1 ** (q + 1)) / (q + 1)
                for x1, y1, x2, y2 in parts
            ),
            Fraction(0),
        )

    cx, cy = integral(1, 0) / area, integral(0, 1) / area
    exact = [
        float(v)
        for v in (integral(2, 0) / area - cx**2, integral(0, 2) / area - cy**2, integral(1, 1) / area - cx * cy)
    ]
    mask = rectangle(40, 10) | rectangle(10, 40)
    xx, yy, xy, centre = second_moments(mask)
    assert [xx, yy, xy] == pytest.approx(exact, rel=1e-12)
    assert centre == pytest.approx((7 + float(cx), 9 + float(cy)))
    axis = principal_axis(mask)
    assert axis is not None
    assert axis.theta == pytest.approx(0.5 * atan2(2 * exact[2], exact[0] - exact[1]), abs=1e-12)
    values = np.linalg.eigvalsh([[exact[0], exact[2]], [exact[2], exact[1]]])
    assert [axis.minor, axis.major] == pytest.approx(values.tolist())


def test_points_have_an_axis_as_masks_have() -> None:
    """Every pixel centre of a mask as a point: the same moments, hence the same axis."""
    mask = turned(40, 14, 0.6, 80, (40, 40))
    rows, columns = np.nonzero(mask)
    axis, same = principal_axis(mask), axis_of_points(np.stack([columns + 0.5, rows + 0.5], 1))
    assert axis is not None
    assert same is not None
    assert (same.centre, same.theta) == (pytest.approx(axis.centre), pytest.approx(axis.theta))
    assert (same.major, same.minor) == (pytest.approx(axis.major), pytest.approx(axis.minor))
    assert same.clarity == pytest.approx(axis.clarity) == pytest.approx((40**2 - 14**2) / (40**2 + 14**2), abs=0.02)
    line = axis_of_points(np.array([[3.0, 4.0], [3.0, 9.0]]))
    assert line is not None
    assert line.theta == pi / 2
    assert line.clarity == pytest.approx(6.25 / (6.25 + 1 / 6))
    alone = axis_of_points(np.array([[3.0, 4.0]]))
    assert alone is not None
    assert (alone.clarity, alone.elongation) == (0, 1)
    assert axis_of_points(np.zeros((0, 2))) is None


# ---- the outer side --------------------------------------------------------------------------------------------------


def found(angle: float, order: tuple[int, ...] = (0, 1, 2)) -> Placement:
    return placement(turned(80, 24, angle), points(angle)[list(order)])


@pytest.mark.parametrize("phi", [0, 30, 90, 135, 180, 225, 270, 359])
def test_the_outer_keypoint_is_found_however_the_part_is_turned(phi: int) -> None:
    angle = radians(phi)
    for order in permutations(range(3)):
        one = found(angle, order)
        assert one.status == "ok"
        assert one.outer == order.index(2)
        assert one.direction is not None
        assert one.direction == pytest.approx((sin(angle), -cos(angle)), abs=0.01)  # up, turned along
    signs = found(angle).offsets
    assert [abs(s) for s in signs] == pytest.approx([5, 5, 8], abs=0.6)


def test_offsets_and_sides_by_hand() -> None:
    """A lying rectangle with its centre at 80, 80: y grows downwards, so what is below is on the right."""
    one = placement(rectangle(80, 24, (40, 68), (160, 160)), points(0))
    assert one.offsets == pytest.approx((5, 5, -8), abs=1e-12)
    assert (one.outer, one.side, one.direction) == (2, "left", (0.0, -1.0))
    assert one.is_correct((0, -1)) is True
    assert one.is_correct((3, -0.1)) is True
    assert one.is_correct((0, 1)) is False
    assert one.is_correct((1, 0)) is False  # a right angle is no agreement
    with pytest.raises(ValueError, match="not both 0"):
        one.is_correct((0, 0))
    with pytest.raises(ValueError, match="reference direction"):
        one.is_correct((nan, 1))


def test_a_mirrored_image_turns_the_side_round() -> None:
    mask, kps = turned(80, 24, 0.4), points(0.4)
    flipped = kps * (1, -1, 1) + (0, 160, 0)
    one, other = placement(mask, kps), placement(mask[::-1], flipped)
    assert one.outer == other.outer == 2
    assert {one.side, other.side} == {"left", "right"}
    assert one.direction is not None
    assert other.direction == pytest.approx((one.direction[0], -one.direction[1]))
    assert one.is_correct((0, -1)) is True
    assert other.is_correct((0, -1)) is False


@pytest.mark.parametrize("phi", [10, 90, 180, 250])
def test_a_reference_that_turns_along_keeps_the_verdict(phi: int) -> None:
    angle = radians(phi)
    assert found(angle).is_correct((sin(angle), -cos(angle))) is True
    assert found(angle).is_correct((-sin(angle), cos(angle))) is False


def test_the_reference_may_be_another_object() -> None:
    part, engine = rectangle(40, 10, (60, 60)), rectangle(9, 9, (76, 5))
    reference = towards(part, engine)
    assert reference == pytest.approx((80.5 - 80, 9.5 - 65))
    assert towards(part, engine & False) is None
    assert reference is not None
    kps = points(0, ((-12.0, 3.0), (12.0, 3.0), (0.0, -4.0)), (80, 65))
    assert placement(part, kps).is_correct(reference) is True
    assert placement(part, kps * (1, -1, 1) + (0, 130, 0)).is_correct(reference) is False


# ---- degenerate cases ------------------------------------------------------------------------------------------------


def test_every_degenerate_case_has_its_name() -> None:
    mask, kps = rectangle(80, 24, (40, 68), (160, 160)), points(0)
    hidden, lost = kps.copy(), kps.copy()
    hidden[1, 2], lost[0, 0] = 0, nan
    same, near, limit = kps.copy(), kps.copy(), kps.copy()
    same[2, 1], near[0, 1], limit[0, 1] = 84, 80 + 1.19, 80 + 1.21  # .05 of 24 px
    square = rectangle(30, 26, (65, 67), (160, 160))  # 1.15 times as long as wide
    cases = [
        (mask, kps, "ok"),
        (mask, hidden, "missing_kp"),
        (mask, lost, "missing_kp"),
        (square, kps, "isotropic"),
        (mask & False, kps, "isotropic"),
        (mask, near, "on_axis"),
        (mask, limit, "ok"),
        (mask, same, "all_same_side"),
        (square, hidden, "missing_kp"),
    ]
    assert [placement(m, k).status for m, k, _ in cases] == [status for *_, status in cases]
    for m, k, status in cases:
        one = placement(m, k)
        assert (one.outer is None, one.direction is None, one.is_correct((0, -1)) is None) == ((status != "ok"),) * 3
    assert np.isnan(placement(mask, hidden).offsets[1])
    assert placement(square, kps, elongated=1.1).status == "ok"


def test_what_is_no_mask_or_no_three_keypoints_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a mask is float64 \(4, 4\); expected bool"):
        principal_axis(np.ones((4, 4)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"keypoints are \(2, 3\); expected three"):
        placement(rectangle(9, 3), np.zeros((2, 3)))
    assert principal_axis(np.zeros((4, 4), np.bool_)) is None


# ---- depth -----------------------------------------------------------------------------------------------------------


def plane(z0: float = 0.468, slope: float = 0.002, size: tuple[int, int] = (120, 160)) -> NDArray[np.float64]:
    """A slanted plane: metres at pixel centres grow with x."""
    return np.broadcast_to(z0 + slope * (np.arange(size[1]) + 0.5), size).copy()


def test_depth_of_a_slanted_plane() -> None:
    mask = rectangle(60, 20)
    one = depth_of_mask(plane(), mask)
    assert one is not None
    middle = 0.468 + 0.002 * (7 + 30)
    assert (one.mean, one.median) == pytest.approx((middle, middle))
    assert one.half_range == pytest.approx(0.002 * (60 - 1) / 2)  # between the outer pixel centres
    assert (one.nearest, one.farthest) == pytest.approx((0.468 + 0.002 * 7.5, 0.468 + 0.002 * 66.5))
    assert one.deviation == pytest.approx(0.002 * ((60**2 - 1) / 12) ** 0.5)
    assert one.pixels == 1200
    point = depth_at(plane(), 36.9, 19.2)
    assert point is not None
    assert (point.metres, point.window) == (pytest.approx(0.468 + 0.002 * 36.5), 1)


def test_a_halo_of_background_moves_the_mask_and_not_the_keypoint() -> None:
    """A mask that is a pixel too large all round sees the background there; erosion takes it off."""
    depth = np.full((120, 160), 2.0, np.float32)
    depth[rectangle(60, 20)] = 0.5
    mask = rectangle(62, 22, (6, 8))
    halo, total = 62 * 22 - 60 * 20, 62 * 22
    biased, clean = depth_of_mask(depth, mask), depth_of_mask(depth, mask, erosion=1)
    assert biased is not None
    assert clean is not None
    assert biased.mean == pytest.approx(0.5 + 1.5 * halo / total)
    assert (biased.median, biased.half_range) == (0.5, 0.75)
    assert (clean.mean, clean.half_range, clean.pixels) == (0.5, 0, 1200)
    point = depth_at(depth, 37, 19)
    assert point is not None
    assert point.metres == 0.5


def test_holes_are_no_depth() -> None:
    depth = plane().astype(np.float32)
    depth[:, 20:40], depth[:60, 50] = nan, 0
    depth[3, 3], depth[4, 4] = np.inf, -1
    one = depth_of_mask(depth, rectangle(60, 20))
    assert one is not None
    assert one.pixels == 20 * (60 - 20 - 1)
    assert depth_of_mask(depth, rectangle(10, 10, (25, 25))) is None
    assert depth_of_mask(depth, rectangle(3, 3), erosion=2) is None


def test_a_keypoint_in_a_hole_takes_the_median_around_it() -> None:
    depth = np.full((9, 9), nan)
    assert depth_at(depth, 4.5, 4.5) is None
    depth[2, 2] = 3.0
    point = depth_at(depth, 4.5, 4.5)
    assert point is not None
    assert (point.metres, point.window) == (3.0, 5)
    depth[3, 3:6] = (1.0, 7.0, 2.0)
    point = depth_at(depth, 4.5, 4.5)
    assert point is not None
    assert (point.metres, point.window) == (2.0, 3)
    corner = depth_at(np.where(np.eye(9) > 0, nan, 5.0), 0, 0)
    assert corner is not None
    assert (corner.metres, corner.window) == (5.0, 3)
    for x, y in ((-0.1, 4), (9, 4), (4, 9), (nan, 4), (4, np.inf)):
        assert depth_at(np.ones((9, 9)), x, y) is None


def test_erosion_takes_the_rim_but_not_at_the_border_of_the_image() -> None:
    mask = rectangle(60, 20)
    assert (eroded(mask) == rectangle(58, 18, (8, 10))).all()
    assert (eroded(mask, 3) == rectangle(54, 14, (10, 12))).all()
    assert (eroded(mask, 0) == mask).all()
    assert (eroded(rectangle(10, 10, (0, 0))) == rectangle(9, 9, (0, 0))).all()
    with pytest.raises(ValueError, match="erosion: -1"):
        eroded(mask, -1)


def test_depth_of_another_size_or_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a mask of \(120, 160\) for a depth map of \(9, 9\)"):
        depth_of_mask(np.ones((9, 9)), rectangle(3, 3))
    with pytest.raises(ValueError, match="expected metres as floats"):
        depth_at(np.ones((9, 9), np.int32), 1, 1)  # type: ignore[arg-type]
