"""Light changes, places do not; the same seed gives the same light."""

import random

import numpy as np
import pytest

from tasks.photometric import ALLOWED, check_steps, relight

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
STEPS = ({"name": "RandomBrightnessContrast", "p": 1.0}, {"name": "GaussNoise", "p": 1.0})
SLOW = {"CLAHE"}  # 0.3 s at its first call


@pytest.mark.parametrize("name", [name for name in ALLOWED if name not in SLOW])
def test_every_allowed_step_is_a_pure_function_of_its_seed(name: str) -> None:
    steps = ({"name": name, "p": 1.0},)
    np.random.seed(1)  # noqa: NPY002 - the global generators must not matter
    random.seed(1)
    first = relight(IMAGE, steps, 7)
    np.random.seed(2)  # noqa: NPY002
    random.seed(2)
    again = relight(IMAGE, steps, 7)
    relight(IMAGE, steps, 8)  # what a pipeline did before must not matter either
    assert np.array_equal(first, relight(IMAGE, steps, 7))
    assert first.shape == IMAGE.shape
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)


def test_seeds_differ_and_nothing_is_nothing() -> None:
    assert not np.array_equal(relight(IMAGE, STEPS, 1), relight(IMAGE, STEPS, 2))
    assert not np.array_equal(relight(IMAGE, STEPS, 1), IMAGE)
    assert relight(IMAGE, (), 1) is IMAGE
    assert np.array_equal(
        relight(IMAGE, STEPS, 1 << 62), relight(IMAGE, STEPS, 1 << 62)
    )  # albumentations takes 32 bits


@pytest.mark.parametrize(
    "name", ["AdvancedBlur", "Blur", "Defocus", "GaussianBlur", "MedianBlur", "MotionBlur", "UnsharpMask"]
)
def test_what_is_smeared_stays_in_its_place(name: str) -> None:
    """The centre of a bright square on black, weighted by its light."""
    square = np.zeros((41, 41, 3), np.uint8)
    square[16:25, 16:25] = 255
    for seed in range(8):
        light = relight(square, ({"name": name, "p": 1.0},), seed)[..., 0].astype(float)
        rows, columns = np.mgrid[:41, :41]
        assert abs((light * rows).sum() / light.sum() - 20) <= 0.5
        assert abs((light * columns).sum() / light.sum() - 20) <= 0.5


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"name": "HorizontalFlip"}, "HorizontalFlip is not a change of light alone .* use flip, rotate"),
        ({"name": "ElasticTransform"}, "is not a change of light alone"),
        ({"name": "FDA"}, "needs other images"),
        ({"name": "os.system"}, "name is 'os.system'; expected one of AdditiveNoise"),
        ({"name": "Blurr"}, "name is 'Blurr'"),
        ({}, "name is None"),
        ({"name": "GaussianBlur", "strength": 3}, r"GaussianBlur cannot be made \(Argument\(s\) 'strength'"),
        ({"name": "GaussNoise", "p": "often"}, "GaussNoise cannot be made"),
        ({"name": "MotionBlur", "allow_shifted": True}, "moves the image under its labels"),
    ],
)
def test_what_is_not_light_is_refused_in_a_sentence(step: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as told:
        check_steps([step])
    assert "\n" not in str(told.value)
