"""The dynamic weight average against a slow loop over whole epochs."""

import math

import pytest

from tests.tasks.weighting.scripted import begun, descend

SCRIPT = [{"a.x": 4.0 / (1 + i) + 0.1, "b.y": 3.0 - 0.01 * i + (i % 2)} for i in range(15)]


def means(name: str, epoch: int, each: int) -> float:
    rows = [row[name] for row in SCRIPT[epoch * each : (epoch + 1) * each]]
    return sum(rows) / len(rows)


def test_it_is_that_of_a_loop() -> None:
    each = 3
    found = descend(begun("dwa"), SCRIPT, epoch_of=lambda step: step // each)
    for step, weights in enumerate(found):
        epoch = step // each
        if epoch < 2:
            assert weights == {"a.x": 1.0, "b.y": 1.0}
            continue
        powers = {n: math.exp(means(n, epoch - 1, each) / means(n, epoch - 2, each) / 2) for n in weights}
        for name, weight in weights.items():
            assert weight == pytest.approx(2 * powers[name] / sum(powers.values()), rel=1e-6)
    assert found[-1]["b.y"] > 1 > found[-1]["a.x"]  # what falls slowly counts more


def test_an_epoch_without_a_label_is_no_epoch_of_that_loss() -> None:
    full, gap = begun("dwa"), begun("dwa")
    steady = [{"a.x": 1.0, "b.y": v} for v in (4.0, 3.0, 2.0)]
    descend(full, steady, epoch_of=lambda step: step)
    descend(gap, [*steady[:2], {"a.x": 1.0}, steady[2]], epoch_of=lambda step: step)
    assert gap.weights() == pytest.approx(full.weights())
    with pytest.raises(ValueError, match=r"weighting.temperature: 0; expected"):
        begun("dwa", temperature=0)
