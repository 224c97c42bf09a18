"""Loss prediction: the pair loss and the module, against vectors of the authors' code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.nets.lossnet import LossNet, ranking_loss


@pytest.mark.parametrize("case", range(5))
def test_ranking_loss_and_gradient_match_the_authors(shared: Path, case: int) -> None:
    data = np.load(shared / "golden" / "ll4al.npz")
    predicted = torch.from_numpy(data[f"r{case}_pred"]).double().requires_grad_()
    loss = ranking_loss(predicted, torch.from_numpy(data[f"r{case}_target"]).double(), float(data[f"r{case}_margin"]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(float(data[f"r{case}_loss_mean"]), abs=1e-6)
    assert predicted.grad is not None
    np.testing.assert_allclose(predicted.grad.numpy(), data[f"r{case}_grad_pred"], atol=1e-6)


@pytest.mark.parametrize("kind", ["lossnet", "fpnlossnet"])
def test_module_matches_the_authors(shared: Path, kind: str) -> None:
    data = np.load(shared / "golden" / "ll4al.npz")
    maps = [torch.from_numpy(data[f"{kind}_feat{i}"]).float() for i in range(4)]
    net = LossNet([m.shape[1] for m in maps], 12)
    names = {f"FC{i + 1}": f"levels.{i}" for i in range(4)} | {"linear": "out"}
    net.load_state_dict(
        {
            f"{ours}.{kindof}": torch.from_numpy(data[f"{kind}_w_{theirs}.{kindof}"]).float()
            for theirs, ours in names.items()
            for kindof in ("weight", "bias")
        }
    )
    out = net([m.mean((2, 3)) for m in maps])
    np.testing.assert_allclose(out.detach().numpy(), data[f"{kind}_out"].ravel(), atol=1e-5)


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
