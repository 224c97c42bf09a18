"""Moving averages against a slow loop; where the divided sum is smallest."""

import pytest
import torch

from tasks.weighting.running_statistics import RunningStatistics, divided


def test_averages_are_those_of_a_loop() -> None:
    beta, series = 0.9, torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 100
    kept = RunningStatistics(2, beta)
    first = second = 0.0
    for i, row in enumerate(series):
        present = torch.tensor([True, i % 3 == 0])
        kept.keep(kept.after(row, present))
        first, second = beta * first + (1 - beta) * float(row[0]), beta * second + (1 - beta) * float(row[0]) ** 2
    assert float(kept.now.mean(False)[0]) == pytest.approx(first, rel=1e-12)
    assert float(kept.now.variance(False)[0]) == pytest.approx(second - first**2, rel=1e-9)
    share = 1 - beta**40
    assert float(kept.now.mean(True)[0]) == pytest.approx(first / share, rel=1e-12)
    assert float(kept.now.variance(True)[0]) == pytest.approx(second / share - (first / share) ** 2, rel=1e-9)
    assert kept.count.tolist() == [40, 14]


def test_the_corrected_average_of_one_value_is_that_value() -> None:
    kept = RunningStatistics(1, 0.99)
    moments = kept.after(torch.tensor([3.0], dtype=torch.float64), torch.tensor([True]))
    assert float(moments.mean(True)) == pytest.approx(3.0)
    assert float(moments.variance(True)) == pytest.approx(0.0, abs=1e-12)
    assert float(kept.now.mean(True)) == 0.0
    with pytest.raises(ValueError, match=r"weighting.beta: 1.0; expected"):
        RunningStatistics(1, 1.0)


def test_a_divisor_is_best_where_it_equals_its_loss() -> None:
    """d/dW (L/W + ln W) = 0 at W = L, and the sum is larger on both sides."""
    losses = torch.tensor([0.01, 0.3, 70.0], dtype=torch.float64)
    divisors = losses.clone().requires_grad_()
    divided(losses, divisors).backward()
    assert divisors.grad is not None
    assert bool((divisors.grad.abs() * losses < 1e-12).all())
    for other in (0.9, 1.1):
        assert float(divided(losses, losses * other)) > float(divided(losses, losses))
