"""GradNorm against a slow oracle that differentiates the norms themselves."""

import pytest
import torch
from torch import Tensor, nn

from tasks.weighting.gradnorm import GradNorm
from tests.tasks.weighting.scripted import begun

NAMES = ("a.x", "b.y", "c.z")


def net_and_losses() -> tuple[nn.Linear, dict[str, Tensor]]:
    torch.manual_seed(1)
    trunk, inputs = nn.Linear(4, 3), torch.randn(5, 4)
    hidden = trunk(inputs).tanh()
    values = (hidden[:, 0].square().mean(), 40 * (hidden[:, 1] - 1).square().mean(), hidden.sum(1).exp().mean())
    return trunk, dict(zip(NAMES, values, strict=True))


def oracle(v: Tensor, first: dict[str, float], alpha: float) -> Tensor:
    """Eq. 1 and 2 of the paper, loss by loss, through the norms by second derivatives; v ``[3]`` has the gradient."""
    trunk, losses = net_and_losses()
    weights = len(NAMES) * v.exp() / v.exp().sum()
    norms, ratios = [], []
    for i, name in enumerate(NAMES):
        gradients = torch.autograd.grad(weights[i] * losses[name], list(trunk.parameters()), create_graph=True)
        squares = torch.zeros(())
        for gradient in gradients:
            for number in gradient.flatten():
                squares = squares + number**2
        norms.append(squares**0.5)
        ratios.append(float(losses[name].detach()) / first[name])
    mean_norm = sum(float(norm.detach()) for norm in norms) / len(norms)
    mean_ratio = sum(ratios) / len(ratios)
    error = sum(abs(norm - mean_norm * (r / mean_ratio) ** alpha) for norm, r in zip(norms, ratios, strict=True))
    return torch.autograd.grad(error, v)[0]  # type: ignore[arg-type]


def test_it_is_that_of_the_slow_oracle() -> None:
    weighting: GradNorm = begun("gradnorm", NAMES)
    first = {"a.x": 0.5, "b.y": 90.0, "c.z": 2.0}
    weighting.start = torch.tensor(list(first.values()), dtype=torch.float64)
    v = torch.tensor([0.3, -0.2, 0.1])
    with torch.no_grad():
        for parameter, value in zip(weighting.parameters(), v, strict=True):
            parameter.copy_(value)
    trunk, losses = net_and_losses()
    weighting.total(losses, shared=list(trunk.parameters())).backward()
    found = torch.stack([p.grad for p in weighting.parameters() if p.grad is not None])
    assert torch.allclose(found, oracle(v.requires_grad_(), first, 1.5), rtol=1e-4)
    assert sum(weighting.weights().values()) == pytest.approx(3.0)


@pytest.mark.slow
def test_norms_become_equal_where_all_losses_fall_alike() -> None:
    weighting = begun("gradnorm", NAMES)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.06)
    for _ in range(150):
        optimizer.zero_grad()
        trunk, losses = net_and_losses()
        weighting.total(losses, shared=list(trunk.parameters())).backward()
        optimizer.step()
        weighting.step()
    trunk, losses = net_and_losses()
    norms = []
    for name, loss in losses.items():
        found = torch.autograd.grad(loss, list(trunk.parameters()), retain_graph=True)
        norms.append(weighting.weights()[name] * float(torch.cat([g.flatten() for g in found]).norm()))
    assert max(norms) / min(norms) < 1.2


def test_it_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="expected some, found none"):
        begun("gradnorm").total({"a.x": torch.tensor(1.0)})
    with pytest.raises(ValueError, match=r"weighting.alpha: -1; expected"):
        GradNorm(alpha=-1)
