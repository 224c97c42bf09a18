"""A batch in parts: every image once, the mean over all parts, the same steps after a kill."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from orchestrator.config import Train
from orchestrator.effective_batch import Part, accumulate
from orchestrator.errors import RunError
from orchestrator.fitting import order, positions
from orchestrator.training_group import Group
from tasks.types import Batch, Losses
from tests.orchestrator.trained_together import settings, trained


@given(
    processes=st.integers(1, 4), micro=st.integers(1, 3), each=st.integers(1, 3), count=st.integers(1, 40),
    epochs=st.integers(1, 3),
)  # fmt: skip
def test_every_image_comes_once_an_epoch_for_any_number_of_processes(
    processes: int, micro: int, each: int, count: int, epochs: int
) -> None:
    train = Train(steps=1, batch=processes * micro * each, processes=processes, accumulate=micro)
    stream = []
    for step in range(-(-count * epochs // train.batch)):
        made = []
        for rank in range(processes):
            for part in Group(rank, processes).share(train.parts):
                made += order(count, *positions(train, step, part), "seed")
        assert made == order(count, step * train.batch, train.batch, "seed")  # the images of a step, whatever the cut
        stream += made
    for epoch in range(epochs):
        assert sorted(index for e, index in stream if e == epoch) == list(range(count))


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "micro"), [(1, 2), (2, 2)])
def test_a_batch_in_parts_gives_the_curve_of_the_whole(tmp_path: Path, processes: int, micro: int) -> None:
    whole = trained(tmp_path / "whole", settings(checkpoint_steps=99)).curve
    parts = trained(tmp_path / "parts", settings(checkpoint_steps=99, processes=processes, accumulate=micro)).curve
    known = whole != 0
    assert np.abs(parts[known] / whole[known] - 1).max() <= 1e-4
    assert np.all(parts[~known] == 0)


def test_half_precision_in_parts_follows_full_precision(tmp_path: Path) -> None:
    """Sums, means and gradients are of fp32 in both; only the network's own arithmetic is coarser."""
    full = trained(tmp_path, settings(steps=4, accumulate=2)).curve
    half = trained(tmp_path, settings(steps=4, accumulate=2, precision="bf16")).curve
    assert not np.array_equal(full, half)
    assert np.allclose(full, half, rtol=0.05, atol=0.01)


class Stop(Exception):
    """A kill, as far as a test can make one."""


@pytest.mark.slow
@pytest.mark.parametrize("noisy", [False, True])
def test_parts_carry_on_to_the_same_bits(tmp_path: Path, noisy: bool) -> None:
    def stop(step: int) -> None:
        if step == 8:
            raise Stop

    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    train = settings(steps=12, accumulate=2, evaluations=2)
    whole = trained(tmp_path / "whole", train, noisy=noisy)
    with pytest.raises(Stop):
        trained(tmp_path / "cut", train, at_step=stop, noisy=noisy)
    again = trained(tmp_path / "cut", train, noisy=noisy)
    assert len(again.curve) == (5 if noisy else 6)  # from step 6 on; one of them has the broken image, and is skipped
    assert whole.best == again.best
    for name, value in whole.state().items():
        assert torch.equal(value, again.state()[name]), name


def plain_sum(means: Mapping[str, Tensor], counts: Mapping[str, Tensor], extra: Tensor) -> Tensor:
    return torch.stack(list(means.values())).sum()


def parts_of(*pixels: list[float]) -> list[Part]:
    batches = [torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 1, 1) for values in pixels]
    return [Part(0, Batch(("x",) * len(b), b, {"t": (None,) * len(b)})) for b in batches]


def test_the_mean_is_that_of_the_labeled_images_of_all_parts() -> None:
    """One labeled image in the first part, three in the second one: each counts a quarter. Positive pixel = labeled."""
    net = nn.Linear(1, 1, bias=False)

    def forward(batch: Batch) -> Losses:
        x = batch.images[:, 0, 0]
        labeled = x[:, 0] > 0
        return Losses({"t.a": net(x)[:, 0] * labeled}, {"t": labeled}, {"t.extra": net(x).sum()})

    assert accumulate(net, plain_sum, parts_of([8.0, -1.0, -1.0], [1.0, 2.0, 5.0]), Group(), forward=forward)
    mean, extra = (8 + 1 + 2 + 5) / 4, (6 + 8) / 2
    assert net.weight.grad is not None
    assert float(net.weight.grad) == pytest.approx(mean + extra)


def test_a_loss_without_any_label_is_zero_and_hurts_nothing() -> None:
    net = nn.Linear(1, 1, bias=False)

    def forward(batch: Batch) -> Losses:
        x = batch.images[:, 0, 0]
        return Losses({"t.a": net(x)[:, 0] * 0}, {"t": torch.zeros(len(x), dtype=torch.bool)})

    assert accumulate(net, plain_sum, parts_of([1.0], [2.0]), Group(), forward=forward)
    assert net.weight.grad is not None
    assert float(net.weight.grad) == 0


def test_a_model_whose_losses_change_their_names_is_refused() -> None:
    net = nn.Linear(1, 1)

    def forward(batch: Batch) -> Losses:
        value = net(batch.images[:, 0, 0])[:, 0]
        return Losses({f"t.{float(value[0].detach())}": value}, {"t": torch.ones(1, dtype=torch.bool)})

    with pytest.raises(RunError, match="the names of its losses change"):
        accumulate(net, plain_sum, parts_of([1.0], [2.0]), Group(), forward=forward)
