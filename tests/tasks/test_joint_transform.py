"""Pixels, boxes, polygons, masks, keypoints and maps move together, and nothing loses its name."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks import transform as t
from tasks.geometry import mask_box, mask_of_rle, polygon_area, rle_of_mask, rle_of_polygons
from tasks.joint_transform import JointObject, Limits, Scene, move_keypoints, transform_scene
from tasks.outlines import corners_of, points_box
from tasks.recipe import Recipe

SIZE = (100, 200)
RECTANGLE = corners_of((10, 10, 30, 20))
POINTS = np.array([(12, 12, 2), (28, 18, 1), (0, 0, 0)], np.float64)


def thing(ring: NDArray[np.float64], **more: object) -> JointObject:
    one = JointObject(id=7, box=points_box(ring), polygons=(ring,), area=polygon_area(ring))
    return replace(one, **more)  # type: ignore[arg-type]


def scene_of(*objects: JointObject, size: t.Size = SIZE) -> Scene:
    rng = np.random.default_rng(0)
    semantic = rng.integers(0, 5, size, dtype=np.uint8)
    return Scene(rng.integers(0, 256, (*size, 3), dtype=np.uint8), objects, semantic, rng.random(size, np.float32))


def drawn(one: JointObject, size: t.Size) -> NDArray[np.bool_]:
    return mask_of_rle(rle_of_polygons([ring.ravel().tolist() for ring in one.polygons], size))


def test_a_mirrored_rectangle_is_its_mirrored_mask() -> None:
    after, removed = transform_scene(scene_of(thing(RECTANGLE)), t.mirrored(SIZE), Limits())
    one = after.objects[0]
    assert removed == []
    assert (one.id, one.box, one.area) == (7, (170, 10, 190, 20), 200.0)
    assert np.array_equal(drawn(one, SIZE), drawn(thing(RECTANGLE), SIZE)[:, ::-1])


@pytest.mark.parametrize("change", [t.mirrored(SIZE), t.upside_down(SIZE), t.quarter_turned(SIZE, 2)])
def test_exact_changes_twice_are_nothing_bit_for_bit(change: t.Transform) -> None:
    mask = np.zeros(SIZE, bool)
    mask[40:60, 50:90] = True
    painted = JointObject(id="b", box=(50, 40, 90, 60), rle=rle_of_mask(mask), area=800.0, crowd=True)
    before = scene_of(thing(RECTANGLE, keypoints=POINTS, flip_pairs=((0, 1),)), painted)
    after = transform_scene(transform_scene(before, change, Limits())[0], change, Limits())[0]
    for name in ("image", "semantic", "depth"):
        assert np.array_equal(getattr(after, name), getattr(before, name)), name
    for old, new in zip(before.objects, after.objects, strict=True):
        assert (new.id, new.box, new.area, new.crowd, new.rle) == (old.id, old.box, old.area, old.crowd, old.rle)
        assert all(np.array_equal(a, b) for a, b in zip(old.polygons, new.polygons, strict=True))
    assert np.array_equal(after.objects[0].keypoints, POINTS)


def test_keypoints_keep_their_number_and_their_side() -> None:
    turned = move_keypoints(POINTS, t.mirrored(SIZE), ((0, 1),))
    assert turned.tolist() == [[172, 18, 1], [188, 12, 2], [0, 0, 0]]
    both_ways = move_keypoints(POINTS, t.mirrored(SIZE), ((0, 1), (1, 0)))  # a table may name a pair twice
    assert np.array_equal(turned, both_ways)
    assert move_keypoints(POINTS, t.quarter_turned(SIZE, 2), ((0, 1),))[0].tolist() == [188, 88, 2]  # turned, no mirror
    cut = move_keypoints(POINTS, t.cropped(SIZE, 20, 0, (50, 8)), ())
    assert cut.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0]]  # x = 8 is the border: outside
    assert move_keypoints(POINTS, t.cropped(SIZE, 20, 0, (50, 9)), ()).tolist()[1] == [8, 18, 1]
    left_edge = np.array([(0.0, 5.0, 2.0)])
    assert move_keypoints(left_edge, t.mirrored(SIZE), ()).tolist() == [[200, 5, 2]]  # a mirror loses none


def test_what_leaves_is_named_and_its_neighbours_stay() -> None:
    away = thing(RECTANGLE, id="away", keypoints=POINTS)
    stays = thing(RECTANGLE + 40, id="stays", keypoints=POINTS + np.array([40, 40, 0]))
    after, removed = transform_scene(scene_of(away, stays), t.cropped(SIZE, 40, 30, (60, 100)), Limits())
    assert [one.id for one in after.objects] == ["stays"]
    assert [(one.id, one.reason, one.visible) for one in removed] == [("away", "outside", 0.0)]
    points = after.objects[0].keypoints
    assert points is not None
    assert points.shape == (3, 3)


def test_too_little_is_removed_ignored_or_kept() -> None:
    cut = t.cropped(SIZE, 29, 0, (100, 100))  # 1 of 20 columns is left
    for hidden, crowd, expected in (("remove", False, []), ("crowd", False, [True]), ("remove", True, [True])):
        limits = Limits(hidden=hidden)  # type: ignore[arg-type]
        after, removed = transform_scene(scene_of(thing(RECTANGLE, crowd=crowd)), cut, limits)
        assert [one.crowd for one in after.objects] == expected
        assert [(one.reason, one.visible) for one in removed] == ([] if expected else [("hardly visible", 0.05)])
    _, removed = transform_scene(scene_of(thing(RECTANGLE)), t.moved(SIZE, scale=0.05), Limits())
    assert [one.reason for one in removed] == ["too small"]


def test_a_box_alone_is_exact_upright_and_loose_when_turned() -> None:
    boxed = JointObject(id=1, box=(10, 10, 30, 20), area=200.0)
    turned = transform_scene(scene_of(boxed), t.quarter_turned(SIZE, 1), Limits())[0].objects[0]
    assert (turned.box, turned.is_loose, turned.polygons) == ((80, 10, 90, 30), False, ())
    askew = transform_scene(scene_of(boxed), t.moved(SIZE, degrees=45, shift=(0, 80)), Limits())[0].objects[0]
    assert askew.is_loose
    assert askew.area == pytest.approx(450)  # the hull of a turned 20 x 10 box: (20 + 10)² / 2
    halved = transform_scene(scene_of(boxed), t.cropped(SIZE, 20, 0, (100, 100)), Limits())[0].objects[0]
    assert (halved.box, halved.area) == ((0, 10, 10, 20), 100.0)


def test_depth_is_divided_and_unknown_stays_unknown() -> None:
    scene = replace(scene_of(), depth=np.full(SIZE, 6.0, np.float32))
    zoom = transform_scene(scene, t.zoomed(SIZE, 50, 25, (50, 100), SIZE), Limits())[0]
    assert zoom.depth is not None
    assert (zoom.depth == 3.0).all()
    turned = transform_scene(scene, t.moved(SIZE, degrees=30), Limits())[0]
    assert turned.depth is not None
    assert turned.semantic is not None
    assert np.array_equal(np.isnan(turned.depth), turned.semantic == 255)
    assert np.nanmax(turned.depth) == 6.0


@pytest.mark.slow
def test_many_affine_changes_keep_polygons_on_their_masks() -> None:
    """A rendered polygon, transformed, against the polygon transformed and then rendered: the rim of one pixel only."""
    rng, shares = np.random.default_rng(1), []
    for _ in range(200):
        angles = np.linspace(0, 2 * np.pi, 8, endpoint=False) + rng.uniform()
        ring = np.array([100, 60]) + rng.uniform(28, 45, (8, 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
        size = (120, 200)
        change = t.moved(size, rng.uniform(-180, 180), rng.uniform(0.7, 1.3), tuple(rng.uniform(-9, 9, 2)), 10.0)
        if rng.random() < 0.5:
            change = t.mirrored(size).then(change)
        one = thing(ring)
        painted = replace(one, polygons=(), rle=rle_of_mask(drawn(one, size)))
        after = transform_scene(scene_of(one, painted, size=size), change, Limits())[0].objects
        mask = drawn(after[0], size)
        assert after[1].rle is not None
        moved = mask_of_rle(after[1].rle)
        shares.append((mask & moved).sum() / (mask | moved).sum())
        assert not (mask & ~grown(moved)).any()  # a rim of one pixel
        assert not (moved & ~grown(mask)).any()
    assert min(shares) > 0.95
    assert np.mean(shares) > 0.978


def grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and the pixels that touch it, also at their corners."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    shifts = [padded[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
    return np.logical_or.reduce(shifts)


RECIPE = Recipe(
    flip_vertical=0.3, quarter_turns=0.3, rotate=180, scale=(0.5, 1.6), shift=0.2, shear=20, perspective=0.15,
    crop=(0.5, 1.0),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_whatever_is_drawn_labels_hold_together(seed: int) -> None:
    """Ids and keypoint counts stay; boxes are the hull of what remains; all lies in the picture; each is told of."""
    rng = np.random.default_rng(seed)
    objects = []
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    for i in range(4):
        ring = rng.uniform((20, 20), (180, 80)) + rng.uniform(8, 20, 2) * np.stack([np.cos(angles), np.sin(angles)], 1)
        points = np.concatenate([ring[:5], rng.integers(0, 3, (5, 1))], 1) * [1, 1, 1]
        one = thing(ring, id=i, keypoints=points, flip_pairs=((0, 1), (2, 3)))
        objects.append(one if i % 2 else replace(one, polygons=(), rle=rle_of_mask(drawn(one, SIZE))))
    change = RECIPE.draw(rng, SIZE)
    after, removed = transform_scene(scene_of(*objects), change, Limits())
    height, width = change.target
    assert after.image.shape == (height, width, 3)
    assert sorted([int(one.id) for one in after.objects] + [int(one.id) for one in removed]) == [0, 1, 2, 3]
    for one in after.objects:
        x1, y1, x2, y2 = one.box
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert one.keypoints is not None
        assert one.keypoints.shape == (5, 3)
        inside = one.keypoints[one.keypoints[:, 2] > 0]
        assert (inside[:, :2] >= 0).all()
        assert (inside[:, :2] <= (width, height)).all()
        assert (one.rle is None) == bool(int(one.id) % 2)  # the form stays
        if one.rle is not None:
            mask = mask_of_rle(one.rle)
            assert one.box == mask_box(mask)
            assert one.area == mask.sum()
        else:
            assert one.box == points_box(np.concatenate(one.polygons))
            assert one.area == pytest.approx(sum(polygon_area(ring) for ring in one.polygons))
            tight = mask_box(drawn(one, change.target))
            cut = x1 == 0 or y1 == 0 or x2 == width or y2 == height  # a cut may leave a tip thinner than a pixel
            assert tight is not None or one.area < 10
            assert tight is None or cut or np.abs(np.array(tight) - one.box).max() <= 1
