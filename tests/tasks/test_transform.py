"""One matrix for every change: points go where hand and step-by-step arithmetic say."""

import numpy as np
import pytest

from tasks import transform as t

SIZE = (100, 200)


def one(change: t.Transform, x: float, y: float) -> list[float]:
    return change.points(np.array([x, y])).tolist()


def test_exact_changes_by_hand() -> None:
    assert one(t.mirrored(SIZE), 10, 30) == [190, 30]
    assert one(t.upside_down(SIZE), 10, 30) == [10, 70]
    assert [one(t.quarter_turned(SIZE, k), 10, 30) for k in range(4)] == [[10, 30], [70, 10], [190, 70], [30, 190]]
    assert [t.quarter_turned(SIZE, k).target for k in range(5)] == [SIZE, (200, 100), SIZE, (200, 100), SIZE]
    assert one(t.cropped(SIZE, 4, 5, (20, 30)), 10, 30) == [6, 25]
    assert all(change.is_exact for change in (t.mirrored(SIZE), t.quarter_turned(SIZE, 3), t.cropped(SIZE, 4, 5, SIZE)))


def test_sizes_and_zooms_by_hand() -> None:
    twice = t.resized(SIZE, (200, 400))
    assert one(twice, 10, 30) == [20, 60]
    assert (twice.depth_scale, twice.is_exact, twice.is_upright) == (1.0, False, True)
    zoom = t.zoomed(SIZE, 50, 25, (50, 100), SIZE)
    assert one(zoom, 60, 30) == [20, 10]
    assert zoom.depth_scale == 2.0


def test_turns_are_clockwise_about_the_centre_of_the_edges() -> None:
    turn = t.moved(SIZE, degrees=90)
    assert one(turn, 100, 50) == [100, 50]
    assert one(turn, 110, 50) == [100, 60]  # right of the centre goes below it
    square = (64, 64)
    assert np.array_equal(t.moved(square, degrees=90).matrix, t.quarter_turned(square, 1).matrix)
    assert np.array_equal(t.moved(square, degrees=-90).matrix, t.quarter_turned(square, 3).matrix)
    assert one(t.moved(SIZE, scale=2, shift=(3, 4)), 110, 50) == [123, 54]
    assert one(t.moved(SIZE, shear=45), 100, 60) == pytest.approx([110, 60])
    assert t.moved(SIZE, scale=2).depth_scale == 2


def test_a_tilt_sends_the_corners_where_they_are_asked_to_go() -> None:
    corners = np.array([(10, 5), (190, 0), (200, 100), (0, 90)], np.float64)
    tilt = t.tilted(SIZE, corners)
    assert np.allclose(tilt.points(np.array([(0, 0), (200, 0), (200, 100), (0, 100)], np.float64)), corners)
    assert not tilt.is_affine
    assert not tilt.mirrors
    assert t.mirrored(SIZE).then(tilt).mirrors
    with pytest.raises(ValueError, match="convex"):
        t.tilted(SIZE, corners[::-1])


def test_one_matrix_equals_step_by_step() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (50, 2))
    for _ in range(20):
        a, b, c = rng.uniform(-40, 40), rng.uniform(0.5, 2), rng.uniform(-20, 20)
        steps = [
            t.mirrored(SIZE),
            t.tilted(SIZE, np.array([(5, 5), (199, 9), (202, 100), (-7, 91)]) + rng.uniform(-3, 3, (4, 2))),
            t.moved(SIZE, a, b, (c, 2 * c), c),
            t.zoomed(SIZE, 10, 20, (40, 100), (80, 160)),
        ]
        whole, slow = t.identity(SIZE), points
        for step in steps:
            whole, slow = whole.then(step), step.points(slow)
        assert np.abs(whole.points(points) - slow).max() < 1e-9 * max(1, np.abs(slow).max())
        assert whole.depth_scale == pytest.approx(b * (2.5 * 2) ** 0.5)
        assert whole.mirrors
        assert whole.target == (80, 160)


def test_a_mirror_twice_is_nothing() -> None:
    for step in (t.mirrored(SIZE), t.upside_down(SIZE)):
        assert np.array_equal(step.then(step).matrix, np.eye(3))


def test_a_map_of_half_the_size_moves_alike() -> None:
    small = t.mirrored(SIZE).scaled((50, 100), (50, 100))
    assert np.array_equal(small.matrix, t.mirrored((50, 100)).matrix)


def test_steps_must_fit() -> None:
    with pytest.raises(ValueError, match=r"a change of \(9, 9\) follows one that makes \(100, 200\)"):
        t.mirrored(SIZE).then(t.mirrored((9, 9)))
