"""The sum of logarithms, the geometric mean, and losses of nothing."""

import math

import pytest
import torch

from tests.tasks.weighting.scripted import begun


def test_formulas_do_not_know_units() -> None:
    losses = {"a.x": 70.0, "b.y": 0.2}
    tensors = {n: torch.tensor(v) for n, v in losses.items()}
    assert float(begun("log").total(tensors)) == pytest.approx(math.log(70) + math.log(0.2), rel=1e-5)
    gls = begun("gls")
    assert float(gls.total(tensors)) == pytest.approx(math.sqrt(70 * 0.2), rel=1e-5)
    assert gls.weights() == pytest.approx({n: math.sqrt(14) / (2 * v) for n, v in losses.items()}, rel=1e-5)


def test_a_loss_of_zero_is_finite_and_pulls_at_nothing() -> None:
    for name in ("log", "gls"):
        weighting, zero = begun(name), torch.zeros((), requires_grad=True)
        total = weighting.total({"a.x": zero, "b.y": torch.tensor(1.0)})
        total.backward()
        assert bool(torch.isfinite(total))
        assert zero.grad is not None
        assert float(zero.grad) == weighting.weights()["a.x"] == 0.0
