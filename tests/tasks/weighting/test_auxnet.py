"""AuxNet: the paper's two Adams by hand, the divisors follow the losses, and the sign of the literal Eq. 3."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tasks.weighting.auxnet import AuxNet
from tasks.weighting.running_statistics import RunningStatistics, divided
from tests.tasks.weighting.scripted import NAMES, begun


def test_one_adam_is_the_papers_two() -> None:
    """Section II: the net learns by its own Adam from Eq. 3, and then the network by Eq. 2 with W constant."""
    rate, start = 0.01, torch.tensor([2.0, -1.0])
    weighting: AuxNet = begun("auxnet")
    at = nn.Parameter(start.clone())
    both = torch.optim.Adam([{"params": [at]}, {"params": list(weighting.parameters())}], lr=rate)
    net, place = copy.deepcopy(weighting.net), nn.Parameter(start.clone())
    ours, theirs = torch.optim.Adam(net.parameters(), lr=rate), torch.optim.Adam([place], lr=rate)
    statistics, totals = RunningStatistics(2, 0.99), RunningStatistics(1, 0.99)
    yes = torch.tensor([True, True])

    def losses_of(point: Tensor) -> Tensor:
        return torch.stack([(point - 1).square().sum(), 30 * (point[0] + point[1]).square() + 0.1])

    for step in range(15):
        both.zero_grad()
        weighting.total(dict(zip(NAMES, losses_of(at), strict=True)), step=step).backward()
        both.step()
        weighting.step()

        losses = losses_of(place)
        constant = losses.detach().double()
        statistics.keep(statistics.after(constant, yes))
        features = torch.cat([constant, statistics.now.mean(True), statistics.now.variance(True).sqrt()]).float()
        divisors = net(features).exp()
        error = (losses.detach() / divisors + divisors.log()).sum()
        past = totals.now.mean(True)[0].float() if step else error.detach()
        ours.zero_grad()
        ((error - past) / (past.abs() + 0.1)).backward()
        ours.step()
        theirs.zero_grad()
        (losses / divisors.detach()).sum().backward()
        theirs.step()
        totals.keep(totals.after(error.detach().double().view(1), yes[:1]))
    assert torch.allclose(at, place, rtol=1e-5)
    for mine, hand in zip(weighting.net.parameters(), net.parameters(), strict=True):
        assert torch.allclose(mine, hand, rtol=1e-4, atol=1e-6)


def shares(reference: str, steps: int) -> Tensor:
    """W / L ``[steps, 2]`` for losses that fall with noise from .5 and .3 towards .02 and .01."""
    weighting, noise = begun("auxnet", reference=reference), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=2e-3)
    found = []
    for step in range(steps):
        fallen = torch.tensor([0.04, 1 / 30]) ** (step / 1000)
        losses = torch.tensor([0.5, 0.3]) * fallen * (1 + 0.05 * torch.randn(2, generator=noise))
        optimizer.zero_grad()
        weighting.total(dict(zip(NAMES, losses, strict=True)), step=step).backward()
        optimizer.step()
        weighting.step()
        found.append(1 / torch.tensor(list(weighting.weights().values())) / losses)
    return torch.stack(found)


@pytest.mark.slow
def test_the_divisors_follow_the_losses() -> None:
    late = shares("ema_const", 560)[500:]
    assert bool(((late > 0.7) & (late < 1.3)).all()), (late.min(), late.max())


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["literal", "current_weights"])
def test_other_readings_of_eq_3_leave_the_losses(reference: str) -> None:
    assert bool((shares(reference, 560)[500:].mean(0) > 2).all())


def test_the_literal_eq_3_changes_its_sign() -> None:
    """With W = 2 L the net should lower W. Where A is below 0, the literal form raises it."""

    def slope(reference: str, size: float) -> float:
        weighting = begun("auxnet", reference=reference)
        losses = torch.tensor([size, size])
        weighting.totals.keep(
            weighting.totals.after(divided(losses, 2 * losses).double().view(1), torch.tensor([True]))
        )
        divisors = (2 * losses).requires_grad_()
        error = divided(losses, divisors)
        found = torch.autograd.grad(weighting.eq3(error, None), divisors)[0]
        return float(found[0])

    assert slope("ema_const", 1.0) > 0
    assert slope("literal", 1.0) > 0
    assert slope("ema_const", 0.05) > 0
    assert slope("literal", 0.05) < 0


def test_each_network_gets_its_own_gradient_only() -> None:
    weighting = begun("auxnet")
    losses = {n: torch.tensor(v, requires_grad=True) for n, v in zip(NAMES, (3.0, 0.2), strict=True)}
    total = weighting.total(losses)
    by_losses = torch.autograd.grad(total, list(losses.values()), retain_graph=True)
    assert [float(g) for g in by_losses] == pytest.approx(list(weighting.weights().values()))
    assert all(float(g.abs().sum()) > 0 for g in torch.autograd.grad(total, list(weighting.parameters())))


def test_wild_losses_stay_finite() -> None:
    weighting = begun("auxnet")
    for size in (1e6, 1e-9, 0.0, 1e6):
        total = weighting.total({n: torch.tensor(size) for n in NAMES})
        assert bool(torch.isfinite(total))
        weighting.step()
    with pytest.raises(ValueError, match=r"weighting.hidden: 0; expected"):
        AuxNet(hidden=0)
