"""The running variance against a slow loop, the largest W of the paper's Table I, and what runs die of."""

import math

import pytest
import torch
from torch import nn

from tests.tasks.weighting.scripted import begun, descend

SERIES = [{"a.x": 50 * math.exp(-i / 20) + (i * 7 % 5), "b.y": 0.9 - i / 200 + (i * 3 % 4) / 50} for i in range(60)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kgc", {}),
        ("kgc", {"scale": {"a": 0.01}}),
        ("kgc", {"form": "corrected"}),
        ("kgc", {"form": "corrected", "warm_up": 3}),
        ("kgc_plus", {}),
        ("kgc_mean", {}),
    ],
)
def test_the_divisor_is_that_of_a_loop(name: str, options: dict[str, object]) -> None:
    found = descend(begun(name, **options), SERIES)
    corrected, beta = options.get("form") == "corrected", 0.99
    warm = options.get("warm_up", 20 if corrected else 0)
    assert isinstance(warm, int)
    for loss in ("a.x", "b.y"):
        scale = 0.01 if loss == "a.x" and "scale" in options else 1.0
        first = second = 0.0
        for i, losses in enumerate(SERIES):
            value = losses[loss] * scale
            first, second = beta * first + (1 - beta) * value, beta * second + (1 - beta) * value**2
            share = 1 - beta ** (i + 1) if corrected else 1.0
            mean = first / share
            divisor = second / share - mean**2
            divisor = divisor / mean if name == "kgc_mean" else divisor
            divisor += 1e-3 if name == "kgc_plus" else 1e-12
            expected = 1.0 if i < warm else divisor
            assert found[i][loss] == pytest.approx(scale / expected, rel=1e-5), (loss, i)


@pytest.mark.slow
def test_the_largest_divisor_of_the_papers_table() -> None:
    """Table I: .218 with KGC, .219 with KGC+. A moving average from 0 of an error near 1 passes m (1 - m) <= .25."""

    def largest(name: str, error: float, tau: float) -> float:
        script = [{"a.x": error * math.exp(-i / tau) + 0.03 * math.sin(i), "b.y": 1.0} for i in range(110)]
        return max(1 / step["a.x"] for step in descend(begun(name), script))

    plain = begun("kgc")
    ones = max(1 / step["b.y"] for step in descend(plain, [{"a.x": 1.0, "b.y": 1.0}] * 80))
    assert 0.2499 < ones <= 0.25 + 1e-9
    assert 0.21 < largest("kgc", 0.97, 1200.0) < 0.23
    assert largest("kgc_plus", 0.97, 1200.0) - largest("kgc", 0.97, 1200.0) == pytest.approx(1e-3, rel=1e-3)


def moved(**options: object) -> float:
    """How far Adam comes in 80 steps towards a goal 1 away, of a loss that KGC divides."""
    weighting, at = begun("kgc", ("a.x",), **options), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([at], lr=0.02)
    for step in range(80):
        optimizer.zero_grad()
        weighting.total({"a.x": (at - 1).square().sum()}, step=step).backward()
        optimizer.step()
        weighting.step()
    return float(at.detach())


def test_without_a_warm_up_the_corrected_form_dies() -> None:
    """Its first variance is 0, 1 / epsilon enters Adam's memory, and nothing moves any more: a run that is dead."""
    assert moved(form="corrected", warm_up=0) < 0.2
    assert moved(form="corrected") > 0.9
    assert moved() > 0.6


def test_wrong_options_are_named() -> None:
    for options, words in (
        ({"epsilon": 0.0}, "weighting.epsilon"),
        ({"warm_up": -1}, "weighting.warm_up"),
        ({"scale": {"a": -1.0}}, "weighting.scale"),
        ({"scale": {"c": 1.0}}, "name no loss"),
    ):
        with pytest.raises(ValueError, match=words):
            begun("kgc", **options)
