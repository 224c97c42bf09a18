"""What goes into a network beside the image."""

import pytest
import torch

from tasks.nets.inputs import channels_of, stacked


def test_channels_of_names() -> None:
    assert channels_of(("rgb", "depth")) == 4
    assert channels_of(("depth",)) == 1
    for names, says in ((("lidar",), "no input is called 'lidar'"), ((), "at least one"), (("rgb", "rgb"), "once")):
        with pytest.raises(ValueError, match=says):
            channels_of(names)


def test_inputs_are_scaled_and_holes_are_zero() -> None:
    images = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1).expand(1, 3, 1, 5)
    metres = torch.tensor([0.3, 0.5, 0.7, 0.0, 9.0]).view(1, 1, 1, 5)
    found = stacked(images, {"depth": metres}, ("depth", "rgb"), (0.3, 0.7))
    assert found.shape == (1, 4, 1, 5)
    assert found[0, 0, 0].tolist() == pytest.approx([-1, 0, 1, 0, 2], abs=1e-6)
    assert found[0, 1:, 0, 0].tolist() == [-1, 0, 1]


def test_a_missing_input_is_told() -> None:
    with pytest.raises(ValueError, match="reads 'depth', which these images come without"):
        stacked(torch.zeros(1, 3, 4, 4), {}, ("rgb", "depth"), (0.3, 0.7))
