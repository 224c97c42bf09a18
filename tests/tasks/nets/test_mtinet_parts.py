"""The parts of MTI-Net against slow references: attention over tasks, gates between tasks, scales."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.nets.mtinet_parts import Aggregation, Distillation, Interaction, Propagation, PyramidBody, SqueezeExcite
from tests.tasks.nets.shapes import seeded


def features(tasks: int, channels: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, channels, 3, 4, generator=generator) for _ in range(tasks)]


@pytest.mark.parametrize("layout", ["tasks", "repo"])
@pytest.mark.parametrize("tasks", [2, 3])
def test_propagation_by_loops(layout: str, tasks: int) -> None:
    """Every weight by itself: channel c of task t is at t C + c; "repo" compares T channels that follow each other."""
    channels = 6
    part = seeded(lambda: Propagation(tasks, channels, layout)).eval()  # type: ignore[arg-type]
    given = features(tasks, channels)
    together = torch.cat(given, 1)
    with torch.no_grad():
        scores, weighed = part.shared(together), torch.zeros_like(together)
        for b in range(2):
            for y in range(3):
                for x in range(4):
                    for at in range(tasks * channels):
                        others = (
                            [t * channels + at % channels for t in range(tasks)]
                            if layout == "tasks"
                            else [at // tasks * tasks + i for i in range(tasks)]
                        )
                        share = scores[b, at, y, x].exp() / sum(scores[b, o, y, x].exp() for o in others)
                        weighed[b, at, y, x] = share * together[b, at, y, x]
        common = part.reduce(weighed)
        for found, excite, own in zip(part(given), part.excite, given, strict=True):
            first, _, second, _ = excite.gate  # type: ignore[union-attr,misc]
            factor = torch.sigmoid(F.relu(common.mean((2, 3)) @ first.weight.T) @ second.weight.T)
            assert torch.allclose(found, common * factor[..., None, None] + own, atol=1e-5)


def test_attention_adds_up_to_one_over_the_tasks() -> None:
    scores = torch.randn(2, 12, 3, 4, generator=torch.Generator().manual_seed(3))
    over_tasks = Propagation(2, 6, "tasks").attention(scores)
    assert torch.allclose(over_tasks[:, :6] + over_tasks[:, 6:], torch.ones(2, 6, 3, 4))
    neighbours = Propagation(2, 6, "repo").attention(scores)
    assert torch.allclose(neighbours[:, ::2] + neighbours[:, 1::2], torch.ones(2, 6, 3, 4))
    assert not torch.allclose(over_tasks, neighbours)


@pytest.mark.parametrize("tasks", [2, 3])
def test_distillation_by_loops(tasks: int) -> None:
    """M_t = G_t + the sum over a != t of conv(G_a) * sigmoid(conv'(G_a)); no convolution has a bias."""
    part, given = seeded(lambda: Distillation(tasks, 5)), features(tasks, 5)
    assert len(list(part.parameters())) == 2 * tasks * (tasks - 1)
    found = part(given)
    for t in range(tasks):
        expected = given[t].clone()
        for a in range(tasks):
            if a != t:
                value, gate = (one[f"{a}_to_{t}"].weight for one in (part.message, part.gate))
                expected += F.conv2d(given[a], value, padding=1) * F.conv2d(given[a], gate, padding=1).sigmoid()
        assert torch.allclose(found[t], expected, atol=1e-6)


def test_narrow_features_keep_one_channel_inside_the_excitation() -> None:
    shapes = [tuple(p.shape) for p in SqueezeExcite(8).parameters()]
    assert shapes == [(1, 8), (8, 1)]
    assert [tuple(p.shape) for p in SqueezeExcite(64).parameters()] == [(4, 64), (64, 4)]


def test_shapes_of_all_scales() -> None:
    """480 x 640 in the paper is 120 x 160 at stride 4; here a fifth of that, and sides that no 2 divides."""
    body = seeded(lambda: PyramidBody(3)).eval()
    maps = body(torch.rand(1, 3, 96, 132))
    assert [tuple(x.shape) for x in maps] == [(1, 16, 24, 33), (1, 32, 12, 17), (1, 48, 6, 9), (1, 64, 3, 5)]
    part = seeded(lambda: Interaction(PyramidBody.channels, (5, 1), "tasks", deep=True)).eval()
    features = part.features(maps)
    assert [[tuple(x.shape) for x in scale] for scale in features] == [[tuple(x.shape)] * 2 for x in maps]
    segmentation, depth = part(maps, True)
    assert [x.shape[1] for x in segmentation] == [5] * 5
    assert [x.shape[1] for x in depth] == [1] * 5
    assert [tuple(x.shape[-2:]) for x in depth] == [(24, 33), (24, 33), (12, 17), (6, 9), (3, 5)]
    assert [len(task) for task in part(maps, False)] == [1, 1]
    assert Aggregation((18, 36, 72, 144), 7).layers[0].weight.shape[:2] == (270, 270)


def test_a_fine_scale_hears_of_the_coarser_one() -> None:
    part = seeded(lambda: Interaction((4, 8), (3, 1), "tasks", deep=False)).eval()
    fine, coarse = torch.rand(1, 4, 4, 4), torch.rand(1, 8, 2, 2)
    before, after = part.features([fine, coarse]), part.features([fine, coarse + 1])
    assert not torch.equal(before[0][0], after[0][0])
    other = part.features([fine + 1, coarse])
    assert torch.equal(before[1][0], other[1][0])
