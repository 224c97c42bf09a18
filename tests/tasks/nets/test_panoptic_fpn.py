"""The segmentation head, and the cross-entropy per image."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from tasks.nets.heads import Norm, batch_norm, group_norm
from tasks.nets.panoptic_fpn import PanopticHead, cross_entropy
from tasks.types import IGNORE, SegMap
from tests.tasks.nets.shapes import objects, seeded


def maps_and_truth() -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 8, 64 // s, 64 // s, generator=generator) for s in (4, 8, 16, 32)]
    truth = torch.randint(0, 5, (2, 64, 64), generator=generator)
    truth[0, :30] = IGNORE
    return maps, truth


def test_cross_entropy_is_the_mean_over_valid_pixels() -> None:
    _, truth = maps_and_truth()
    logits = torch.randn(2, 5, 16, 16, generator=torch.Generator().manual_seed(1))
    large = F.interpolate(logits, size=(64, 64), mode="bilinear", align_corners=False)
    found = cross_entropy(logits, list(truth), (64, 64))
    for b in range(2):
        assert found[b].item() == pytest.approx(
            F.cross_entropy(large[b : b + 1], truth[b : b + 1], ignore_index=IGNORE).item()
        )


@pytest.mark.parametrize("stride", [2, 4])
def test_a_coarse_grid_still_counts_every_label(stride: int) -> None:
    """At the grid's own resolution a cell answers for all its pixels, as if it were enlarged without smoothing."""
    _, truth = maps_and_truth()
    logits = torch.randn(2, 5, 64 // stride, 64 // stride, generator=torch.Generator().manual_seed(1))
    large = F.interpolate(logits, scale_factor=stride, mode="nearest")
    expected = [F.cross_entropy(large[b : b + 1], truth[b : b + 1], ignore_index=IGNORE).item() for b in range(2)]
    assert cross_entropy(logits, list(truth), (64, 64), stride).tolist() == pytest.approx(expected)


def test_missing_and_ignored_maps_count_zero_and_stay_connected() -> None:
    logits = torch.randn(2, 5, 16, 16).requires_grad_()
    found = cross_entropy(logits, [None, torch.full((64, 64), IGNORE)], (64, 64))
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert found.tolist() == [0.0, 0.0]
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


def test_a_map_of_another_size_is_refused() -> None:
    logits = torch.zeros(1, 5, 16, 16)
    with pytest.raises(ValueError, match=r"segmentation target is \(32, 64\)"):
        cross_entropy(logits, [torch.zeros(32, 64)], (64, 64))
    with pytest.raises(ValueError, match="segmentation target is Objects"):
        cross_entropy(logits, [objects([], [])], (64, 64))


@pytest.mark.parametrize("norm", [batch_norm, group_norm])
def test_head_answers_at_stride_4_from_every_level(norm: Norm) -> None:
    make = partial(PanopticHead, 8, 5, (4, 8, 16, 32), width=8, norm=norm)
    head, (maps, truth) = seeded(make), maps_and_truth()
    maps = [m.requires_grad_() for m in maps]
    assert head(maps).shape == (2, 5, 16, 16)
    head.losses(maps, list(truth), (64, 64))["ce"].sum().backward()  # type: ignore[no-untyped-call]
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in maps)
    answer = head.eval().answers([m.detach() for m in maps], (64, 64), outputs=True, dense=False).outputs[1]
    assert isinstance(answer, SegMap)
    assert answer.log_probs.shape == (5, 16, 16)
    fine = head.losses(maps, list(truth), (64, 64))["ce"]
    head.loss_stride = 4
    assert not torch.allclose(fine, head.losses(maps, list(truth), (64, 64))["ce"])
