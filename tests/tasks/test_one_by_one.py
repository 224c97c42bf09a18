"""All objects of an image together against each alone, the slow way: the same, bit for bit where the maths is."""

import numpy as np
import pytest

from tasks.joint_transform import JointObject, Limits, transform_objects
from tasks.resampling import Resampling
from tests.tasks.one_by_one import nearest, transform_one_by_one
from tests.tasks.random_scenes import random_chain, random_scene

HIDDEN = ("remove", "crowd")


def check_same(found: JointObject, want: JointObject) -> None:
    """All but the area of polygons, which is a sum in another order."""
    assert (found.id, found.box, found.rle, found.crowd) == (want.id, want.box, want.rle, want.crowd)
    assert (found.is_loose, found.flip_pairs) == (want.is_loose, want.flip_pairs)
    assert len(found.polygons) == len(want.polygons)
    assert all(np.array_equal(a, b) for a, b in zip(found.polygons, want.polygons, strict=True))
    assert (found.keypoints is None) == (want.keypoints is None)
    if found.keypoints is not None and want.keypoints is not None:
        assert np.array_equal(found.keypoints, want.keypoints)
    assert found.area == pytest.approx(want.area, rel=1e-12, abs=1e-9)


def check_seed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = random_scene(rng, 7)
    size = scene.image.shape[0], scene.image.shape[1]
    change = random_chain(
        rng, size, int(rng.integers(1, 4)), ("flips turns cuts", "flips turns moves tilts cuts sizes")[seed % 2]
    )
    limits = Limits(hidden=HIDDEN[seed % 2])  # type: ignore[arg-type]
    resampling = Resampling(change)
    found, removed = transform_objects(scene.objects, change, resampling, limits)
    want, lost = transform_one_by_one(scene.objects, change, limits)
    assert [(one.id, one.reason) for one in removed] == [(one.id, one.reason) for one in lost]
    assert [one.visible for one in removed] == pytest.approx([one.visible for one in lost], rel=1e-12, abs=1e-12)
    assert len(found) == len(want)
    for one, other in zip(found, want, strict=True):
        check_same(one, other)
    for values, fill in ((scene.semantic, 255), (scene.depth, np.nan), (scene.image, 7)):
        assert values is not None
        assert np.array_equal(
            resampling.nearest(values, fill), nearest(values, change, fill), equal_nan=values.ndim == 2
        )


def test_together_is_one_by_one() -> None:
    for seed in range(60):
        check_seed(seed)


@pytest.mark.parametrize(
    "count", [pytest.param(300, marks=pytest.mark.slow), pytest.param(3000, marks=pytest.mark.soak)]
)
def test_many_together_are_one_by_one(count: int) -> None:
    for seed in range(1000, 1000 + count):
        check_seed(seed)
