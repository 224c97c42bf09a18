"""Loss prediction: the pair loss and the module, against vectors of the authors' code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.nets.lossnet import ranking_loss
from tests.golden import load, predicted_losses


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 2e-8), (torch.float64, 6e-8)])
@pytest.mark.parametrize("case", [f"r{i}" for i in range(5)])
def test_ranking_loss_and_gradient_match_the_authors(
    shared: Path, case: str, dtype: torch.dtype, within: float
) -> None:
    """The vectors come from float32 arithmetic: in float32 ours are the same, in float64 their rounding is seen, which
    is up to 2**-24."""
    golden = load(shared, "ll4al")
    predicted = torch.from_numpy(golden[f"{case}_pred"]).to(dtype).requires_grad_()
    target, margin = torch.from_numpy(golden[f"{case}_target"]).to(dtype), float(golden[f"{case}_margin"])
    loss = ranking_loss(predicted, target, margin)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.dtype == dtype
    assert loss.item() == pytest.approx(float(golden[f"{case}_loss_mean"]), rel=0, abs=within)
    assert predicted.grad is not None
    np.testing.assert_allclose(predicted.grad, golden[f"{case}_grad_pred"], rtol=0, atol=2e-8)


@pytest.mark.parametrize("case", [f"r{i}" for i in range(5)])
def test_the_loss_of_each_pair_matches_the_authors(shared: Path, case: str) -> None:
    golden = load(shared, "ll4al")
    predicted, target = (torch.from_numpy(golden[f"{case}_{name}"]) for name in ("pred", "target"))
    pairs = [[i, -1 - i] for i in range(len(target) // 2)]
    each = [ranking_loss(predicted[pair], target[pair], float(golden[f"{case}_margin"])).item() for pair in pairs]
    np.testing.assert_allclose(each, golden[f"{case}_loss_none"], rtol=0, atol=2e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["lossnet", "fpnlossnet"])
def test_module_matches_the_authors(shared: Path, kind: str, dtype: torch.dtype) -> None:
    golden = load(shared, "ll4al")
    found = predicted_losses(golden, kind, dtype)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, golden[f"{kind}_out"].ravel(), rtol=0, atol=2e-8)


def test_ranking_loss_by_hand() -> None:
    losses = torch.tensor([3.0, 1.0])
    assert ranking_loss(torch.tensor([0.0, 0.0]), losses).item() == 1
    assert ranking_loss(torch.tensor([2.0, 0.0]), losses).item() == 0
    assert ranking_loss(torch.tensor([0.5, 0.0]), torch.tensor([1.0, 1.0])).item() == 1.5  # a tie counts as -1
    odd = ranking_loss(torch.tensor([2.0, 0.0, 99.0]), torch.tensor([3.0, 1.0, -5.0]))
    assert odd.item() == 0  # the third image is dropped


def test_without_a_pair_the_loss_is_zero_and_connected() -> None:
    for count in (0, 1):
        predicted = torch.ones(count, requires_grad=True)
        loss = ranking_loss(predicted, torch.ones(count))
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.item() == 0
        assert predicted.grad is not None
        assert predicted.grad.abs().sum() == 0
