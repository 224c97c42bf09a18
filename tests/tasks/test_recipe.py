"""What may be drawn, and that each key does what its name says."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from tasks.recipe import Recipe
from tasks.transform import Transform, identity, mirrored, quarter_turned, upside_down

SIZE = (60, 100)
STILL = Recipe(flip=0.0)
CHANGES: dict[str, Any] = {
    "flip": 1.0, "flip_vertical": 1.0, "quarter_turns": 1.0, "rotate": 20.0, "scale": (1.2, 1.4), "shift": 0.1,
    "shear": 10.0, "perspective": 0.1, "crop": (0.5, 0.6), "size": (30, 40),
}  # fmt: skip


def drawn(recipe: Recipe, seed: int = 0, keep_size: bool = False) -> Transform:
    return recipe.draw(np.random.default_rng(seed), SIZE, keep_size)


def test_nothing_is_nothing_bit_for_bit() -> None:
    assert np.array_equal(drawn(STILL).matrix, np.eye(3))
    assert drawn(STILL).target == SIZE


@pytest.mark.parametrize("key", CHANGES)
def test_every_key_changes_something(key: str) -> None:
    change = drawn(replace(STILL, **{key: CHANGES[key]}))
    assert not np.array_equal(change.matrix, identity(SIZE).matrix)
    others = set(CHANGES) | {"warp", "min_area", "min_visible", "photometric"}
    assert others == {f.name for f in fields(Recipe)}


def test_exact_keys_by_name() -> None:
    assert np.array_equal(drawn(replace(STILL, flip=1.0)).matrix, mirrored(SIZE).matrix)
    assert np.array_equal(drawn(replace(STILL, flip_vertical=1.0)).matrix, upside_down(SIZE).matrix)
    turns = {tuple(drawn(replace(STILL, quarter_turns=1.0), seed).matrix.ravel()) for seed in range(40)}
    assert turns == {tuple(quarter_turned(SIZE, k).matrix.ravel()) for k in (1, 2, 3)}


def test_ranges_are_kept() -> None:
    recipe = replace(STILL, rotate=30.0, scale=(0.5, 2.0))
    for seed in range(50):
        change = drawn(recipe, seed)
        linear = change.matrix[:2, :2]
        assert 0.5 <= np.linalg.det(linear) ** 0.5 <= 2.0
        assert change.depth_scale == pytest.approx(np.linalg.det(linear) ** 0.5)
        assert abs(np.degrees(np.arctan2(linear[1, 0], linear[0, 0]))) <= 30
        crop = drawn(replace(STILL, crop=(0.5, 0.8)), seed)
        assert 30 <= crop.target[0] <= 48
        assert crop.is_exact
        assert crop.depth_scale == 1.0


def test_samples_keep_their_size_and_crops_are_enlarged() -> None:
    recipe = replace(STILL, quarter_turns=1.0, crop=(0.5, 0.5), size=(7, 9))
    for seed in range(20):
        change = drawn(recipe, seed, keep_size=True)
        assert change.target == SIZE
        assert change.depth_scale == 2.0


def test_a_key_does_not_shift_what_others_draw() -> None:
    """The same turn, with and without a mirror before it; and after each draw the generator stands alike."""
    plain, more = np.random.default_rng(3), np.random.default_rng(3)
    replace(STILL, rotate=30.0).draw(plain, SIZE)
    replace(STILL, rotate=30.0, flip=1.0, perspective=0.1, crop=(0.5, 1.0)).draw(more, SIZE)
    assert plain.random() == more.random()
    turned = drawn(replace(STILL, rotate=30.0, flip=1.0), 3).matrix
    assert np.allclose(turned, drawn(replace(STILL, rotate=30.0), 3).matrix @ mirrored(SIZE).matrix)


def test_warp_zero_never_resamples() -> None:
    recipe = Recipe(flip=0.5, flip_vertical=0.5, quarter_turns=0.5, warp=0.0, rotate=90, scale=(2, 3), crop=(0.5, 1))
    assert all(drawn(recipe, seed).is_exact for seed in range(30))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("flip", 1.5, "flip is 1.5; expected 0 to 1"),
        ("rotate", 200, "rotate is 200; expected 0 to 180"),
        ("perspective", 0.3, "perspective is 0.3; expected 0 to 0.2"),
        ("min_area", -1, "min_area is -1; expected 0 or more"),
        ("min_area", float("inf"), "min_area is inf"),
        ("scale", (2.0, 1.0), r"scale is \[2.0, 1.0\]; expected \[from, to\] with 0.05 <= from <= to <= 20"),
        ("crop", (0.0, 1.0), r"crop is \[0.0, 1.0\]"),
        ("size", (0, 5), r"size is \[0, 5\]; expected \[height, width\]"),
        ("shear", float("nan"), "shear is nan"),
        ("photometric", ({"name": "Rotate"},), r"photometric\[0\]: Rotate is not a change of light alone"),
    ],
)
def test_bad_values_are_named(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(STILL, **{key: value})
