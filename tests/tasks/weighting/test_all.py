"""What every weighting keeps to that knows its losses by name."""

import copy

import pytest
import torch

from tasks import WEIGHTINGS
from tasks.base import NamedWeighting
from tests.tasks.weighting.scripted import LEARN, NAMES, begun, descend, shared_losses

BOTH = [{"a.x": 2.0 / (1 + i), "b.y": 5.0 - i} for i in range(7)]
every = pytest.mark.parametrize("name", LEARN)


def test_all_but_the_plain_ones_are_told_the_names() -> None:
    assert len(LEARN) == len(WEIGHTINGS) - 2 == 9
    assert all(isinstance(begun(name), NamedWeighting) for name in LEARN)


@every
def test_the_weight_is_the_derivative_of_the_total(name: str) -> None:
    weighting = begun(name)
    descend(weighting, BOTH)
    leaves = {n: torch.tensor(v, requires_grad=True) for n, v in {"a.x": 0.7, "b.y": 3.0}.items()}
    _, shared = shared_losses({"a.x": 1.0, "b.y": 1.0})
    losses = {n: leaf + (shared - shared.detach()).sum() for n, leaf in leaves.items()}
    weighting.total(losses, shared=[shared], step=7, epoch=2).backward()
    for n, weight in weighting.weights().items():
        assert leaves[n].grad is not None
        assert float(leaves[n].grad) == pytest.approx(weight, rel=1e-6), n
        assert weight > 0


@every
def test_a_loss_that_is_not_there_is_left_as_it_was(name: str) -> None:
    """Its statistics and what is learned for it: Adam's memory does not move it either."""
    weighting = begun(name)
    descend(weighting, BOTH)
    before = copy.deepcopy(weighting.state_dict())
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.01) if list(weighting.parameters()) else None
    for step, values in enumerate((BOTH[0], {"a.x": 0.5}, {"a.x": 0.4})):
        if step == 1:
            before = copy.deepcopy(weighting.state_dict())
        weighting.zero_grad(set_to_none=True)
        losses, shared = shared_losses(values)
        weighting.total(losses, shared=[shared], step=7 + step, epoch=2).backward()
        if optimizer is not None:
            optimizer.step()
        weighting.step()
    after = weighting.state_dict()
    assert set(weighting.weights()) == {"a.x"}
    for key, old in before.items():
        if key.endswith("b/y"):
            assert torch.equal(old, after[key]), key
        elif old.shape == (len(NAMES),) and not key.startswith("net."):
            assert torch.equal(old[1:], after[key][1:]) or bool(old[1:].isnan().all()), key
    if name not in ("log", "gls"):
        assert any(not torch.equal(old, after[key]) for key, old in before.items() if not bool(old.isnan().any()))


@every
def test_it_goes_on_from_its_state_to_the_same_bits(name: str) -> None:
    whole, again = begun(name), begun(name)
    frozen = {"rate": 0.0}  # the optimiser is not this test's affair
    expected = descend(whole, BOTH, **frozen)[4:]
    first = begun(name)
    descend(first, BOTH[:4], **frozen)
    again.load_state_dict(copy.deepcopy(first.state_dict()))
    assert descend(again, BOTH[4:], epoch_of=lambda step: (step + 4) // 3, **frozen) == expected


@every
def test_a_step_that_is_not_taken_leaves_no_trace(name: str) -> None:
    weighting = begun(name)
    descend(weighting, BOTH[:3])
    before = copy.deepcopy(weighting.state_dict())
    losses, shared = shared_losses({"a.x": 9.0, "b.y": 9.0})
    weighting.total(losses, shared=[shared], step=3, epoch=4)
    assert all(torch.equal(old.nan_to_num(), weighting.state_dict()[k].nan_to_num()) for k, old in before.items())
