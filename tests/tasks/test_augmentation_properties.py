"""Random scenes under random chains of changes: what must hold whatever is drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks import transform as t
from tasks.geometry import mask_box, mask_of_rle, rle_of_mask, rle_of_polygons
from tasks.joint_transform import JointObject, Limits, Scene, transform_scene
from tasks.outlines import move_rings, move_rle
from tasks.resampling import Resampling
from tests.tasks.random_scenes import PAIRS, random_chain, random_scene

CATEGORY = {0: "arm", 1: "gear", 2: "bolt", 3: "arm", 4: "gear", 5: "bolt", 6: "tray"}  # of the object of that id
LARGE, FINE = 400, 4  # px²; pixels to the pixel
SEEDS = st.integers(0, 2**32 - 1)
LENGTHS = st.integers(1, 4)


def check_all_of_it(seed: int, length: int) -> None:
    """Ids keep what they name, counts stay, nothing is NaN, and nothing lies outside of the image."""
    rng = np.random.default_rng(seed)
    before = random_scene(rng, len(CATEGORY))
    known = {one.id: one for one in before.objects}
    change = random_chain(rng, size_of(before), length)
    after, removed = transform_scene(before, change, Limits(hidden="crowd"))
    assert size_of(after) == change.target
    assert sorted([int(one.id) for one in after.objects] + [int(one.id) for one in removed]) == sorted(CATEGORY)
    assert [one.id for one in after.objects] == [id for id in known if id not in {one.id for one in removed}]
    for one in after.objects:
        check_form(one, known[one.id], change)
        check_inside(one, change.target)
    assert after.semantic is not None
    assert after.depth is not None
    assert np.array_equal(np.isnan(after.depth), after.semantic == 255)


def check_form(one: JointObject, before: JointObject, change: t.Transform) -> None:
    """What it was labeled as it is labeled as, under its name, with as many keypoints."""
    assert (one.rle is None, not one.polygons) == (before.rle is None, not before.polygons)
    assert (one.keypoints is None) == (before.keypoints is None)
    assert one.crowd or not before.crowd
    if one.keypoints is None or before.keypoints is None:
        return
    assert one.keypoints.shape == before.keypoints.shape
    v, order = before.keypoints[:, 2], np.arange(len(before.keypoints))
    for a, b in PAIRS if change.mirrors else ():
        order[a], order[b] = b, a
    assert ((one.keypoints[:, 2] == v[order]) | (one.keypoints[:, 2] == 0)).all()


def check_inside(one: JointObject, size: t.Size) -> None:
    x1, y1, x2, y2 = one.box
    assert 0 <= x1 < x2 <= size[1]
    assert 0 <= y1 < y2 <= size[0]
    assert one.area >= 1
    for points in (*one.polygons, one.keypoints if one.keypoints is not None else np.zeros((0, 3))):
        assert np.isfinite(points).all()
        assert (points[:, :2] >= 0).all()
        assert (points[:, :2] <= size[::-1]).all()
    if one.rle is not None:
        mask = mask_of_rle(one.rle)
        assert mask.shape == size
        assert (mask_box(mask), mask.sum()) == (one.box, one.area)


def check_outline_and_mask(seed: int, length: int) -> None:
    """A polygon that moves and its own mask that moves are one thing: IoU > .97 from 400 px on.

    Both are drawn four times as fine as the image: at its own size, the rim of a pixel alone is 5 % of 400 px.
    """
    rng = np.random.default_rng(seed)
    size = int(rng.integers(60, 90)), int(rng.integers(60, 90))
    change = random_chain(rng, size, length, "flips turns moves cuts")
    angles = np.linspace(0, 2 * np.pi, int(rng.integers(5, 16)), endpoint=False) + rng.uniform(0, 0.3)
    spokes = np.stack([np.cos(angles), np.sin(angles)], 1)
    reach = rng.uniform(12, 0.4 * min(size)) * rng.uniform(0.7, 1, (len(angles), 1))
    ring = rng.uniform(0.45, 0.55, 2) * size[::-1] + reach * spokes  # within the image, as its mask is
    shown = move_rings([[ring]], change)[0]
    if min(shown.area, shown.area / abs(np.linalg.det(change.matrix))) < LARGE:
        return
    source, target = (size[0] * FINE, size[1] * FINE), (change.target[0] * FINE, change.target[1] * FINE)
    fine = change.scaled(source, target)
    painted = move_rle(rle_of_polygons([(ring * FINE).ravel().tolist()], source), fine, Resampling(fine))
    assert painted.rle is not None
    mask = mask_of_rle(painted.rle)
    outline = mask_of_rle(rle_of_polygons([(part * FINE).ravel().tolist() for part in shown.parts], target))
    assert (outline & mask).sum() / (outline | mask).sum() > 0.97


def check_exact(seed: int, length: int) -> None:
    """Mirrors and quarter turns are bit for bit those of numpy, in pixels, maps, masks and rendered rectangles."""
    rng = np.random.default_rng(seed)
    scene = random_scene(rng, 0)
    size = size_of(scene)
    x, y = np.sort(rng.integers(0, size[1] + 1, 2)), np.sort(rng.integers(0, size[0] + 1, 2))
    x[0], y[0] = min(x[0], size[1] - 1), min(y[0], size[0] - 1)  # a pixel of it at least is in the image
    x[1], y[1] = max(x[1], x[0] + 1), max(y[1], y[0] + 1)
    ring = np.array([(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])], np.float64)
    mask = rng.random(size) < 0.5
    mask[0, 0] = True
    objects = (
        JointObject(id=0, box=(0, 0, 1, 1), polygons=(ring,)),
        JointObject(id=1, box=(0, 0, 1, 1), rle=rle_of_mask(mask)),
    )
    change, turned = t.identity(size), [scene.image, scene.semantic, scene.depth, drawn(objects[0], size), mask]
    for kind in rng.integers(0, 5, length).tolist():
        steps = (t.mirrored, t.upside_down, *(lambda now, k=k: t.quarter_turned(now, k) for k in (1, 2, 3)))
        change = change.then(steps[kind](change.target))
        turned = [
            (np.fliplr, np.flipud)[kind](v) if kind < 2 else np.rot90(v, 1 - kind) for v in turned if v is not None
        ]
    after = transform_scene(Scene(scene.image, objects, scene.semantic, scene.depth), change, Limits(0, 0))[0]
    rectangle, painted = after.objects
    assert painted.rle is not None
    found = [after.image, after.semantic, after.depth, drawn(rectangle, change.target), mask_of_rle(painted.rle)]
    for one, want in zip(found, turned, strict=True):
        assert np.array_equal(one, want)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(SEEDS, LENGTHS)
def test_nothing_loses_its_name_its_form_or_its_place(seed: int, length: int) -> None:
    check_all_of_it(seed, length)


@settings(max_examples=40, deadline=None)
@given(SEEDS, LENGTHS)
def test_an_outline_stays_on_its_mask(seed: int, length: int) -> None:
    check_outline_and_mask(seed, length)


@settings(max_examples=40, deadline=None)
@given(SEEDS, LENGTHS)
def test_mirrors_and_quarter_turns_are_those_of_numpy(seed: int, length: int) -> None:
    check_exact(seed, length)


@pytest.mark.parametrize(
    "count", [pytest.param(400, marks=pytest.mark.slow), pytest.param(2000, marks=pytest.mark.soak)]
)
def test_many_scenes(count: int) -> None:
    """All laws on as many scenes; the same ones each time."""

    @settings(max_examples=count, deadline=None, derandomize=True)
    @given(SEEDS, LENGTHS)
    def check(seed: int, length: int) -> None:
        check_all_of_it(seed, length)
        check_outline_and_mask(seed, length)
        check_exact(seed, length)

    check()


def size_of(scene: Scene) -> t.Size:
    return scene.image.shape[0], scene.image.shape[1]


def drawn(one: JointObject, size: t.Size) -> NDArray[np.bool_]:
    return mask_of_rle(rle_of_polygons([ring.ravel().tolist() for ring in one.polygons], size))
