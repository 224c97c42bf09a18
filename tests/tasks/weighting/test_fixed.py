"""Equal and fixed weightings."""

import pytest
import torch

from tasks.weighting.fixed import Equal, Fixed

LOSSES = {"detection.cls": 1.0, "detection.box": 2.0, "segmentation.ce": 4.0}


def losses() -> dict[str, torch.Tensor]:
    return {part: torch.tensor(value, requires_grad=True) for part, value in LOSSES.items()}


def test_equal_is_the_plain_sum() -> None:
    weighting, values = Equal(), losses()
    total = weighting.total(values, step=3)
    total.backward()  # type: ignore[no-untyped-call]
    weighting.step()
    assert total.item() == 7
    assert all(v.grad is not None and v.grad.item() == 1 for v in values.values())
    assert weighting.weights() == dict.fromkeys(LOSSES, 1.0)


def test_fixed_factors_of_losses_and_tasks() -> None:
    weighting, values = Fixed({"detection": 0.5, "detection.box": 3.0}), losses()
    total = weighting.total(values)
    total.backward()  # type: ignore[no-untyped-call]
    assert total.item() == 0.5 + 6 + 4
    assert weighting.weights() == {"detection.cls": 0.5, "detection.box": 3.0, "segmentation.ce": 1.0}
    assert [v.grad.item() for v in values.values() if v.grad is not None] == [0.5, 3.0, 1.0]


def test_wrong_factors_are_named() -> None:
    with pytest.raises(ValueError, match=r"\['detection.bx'\] name no loss"):
        Fixed({"detection.bx": 1.0}).total(losses())
    for factor in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="expected finite factors"):
            Fixed({"detection": factor})
