"""Fitting: order, rate, resume to the same bits, bad losses."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from orchestrator.config import Train
from orchestrator.errors import RunError
from orchestrator.fitting import PATIENCE, Best, Data, fit, order, rate_share
from tasks.recipe import Recipe
from tasks.types import Batch, Losses, Sample
from tasks.weighting.fixed import Equal
from tests.toy import CLASSES


class Net(nn.Module):
    """Two layers, batch norm and dropout: all the state that a resume must bring back."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 1, 1)
        )
        self.bad_from = 10**9
        self.steps = 0

    def forward(self, batch: Batch) -> Losses:
        self.steps += 1
        labeled = torch.tensor([t is not None for t in batch.targets["segmentation"]])
        value = self.layers(batch.images).mean((1, 2, 3)).square()
        if self.steps > self.bad_from:
            value = value * float("nan")
        return Losses({"segmentation.ce": value * labeled}, {"segmentation": labeled})


class Stop(Exception):
    """A kill, as far as a test can make one."""


def data(count: int = 10) -> Data:
    rng = torch.Generator().manual_seed(0)
    samples = [
        Sample(f"i{i}", torch.rand(3, 8, 8, generator=rng), {"segmentation": torch.zeros(8, 8, dtype=torch.int64)})
        for i in range(count)
    ]
    return Data(samples, np.arange(count), np.ones((count, 1), bool), ("segmentation",), CLASSES)


def train(**changes: object) -> Train:
    return Train(**{"steps": 9, "batch": 4, "rate": 0.01, "checkpoint_steps": 4, "zoom": 0.5, **changes})  # type: ignore[arg-type]


def run(
    folder: Path, settings: Train, stop_at: int | None = None, kept: list[int] | None = None
) -> tuple[Net, Best, int]:
    torch.manual_seed(0)
    net = Net()

    def progress(phase: str, done: int, total: int) -> None:
        if done == stop_at:
            raise Stop

    best, skipped = fit(
        net, Equal(), data(), settings, steps=settings.steps, seed=3, cycle=1, folder=folder,
        judge=lambda model: (-float(sum(p.detach().abs().sum() for p in model.parameters())), {"x": 1.0}),
        keep=lambda model, step: kept.append(step) if kept is not None else None, progress=progress,
    )  # fmt: skip
    return net, best, skipped


def weights(net: nn.Module) -> Mapping[str, Tensor]:
    return net.state_dict()


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    stream = order(7, 0, 21, "seed", 0)
    for epoch in range(3):
        assert sorted(index for e, index in stream if e == epoch) == list(range(7))
    assert [i for e, i in stream if e == 0] != [i for e, i in stream if e == 1]
    assert stream[5:12] == order(7, 5, 7, "seed", 0)


@pytest.mark.parametrize("schedule", ["onecycle", "poly", "constant"])
def test_rates_lie_in_their_range_and_end_low(schedule: str) -> None:
    shares = [rate_share(schedule, i / 100) for i in range(100)]
    assert all(0 < s <= 1 for s in shares)
    assert max(shares) > 0.99
    assert (shares[-1] < 0.02) == (schedule != "constant")


def test_the_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    one, _, _ = run(tmp_path / "a", train())
    two, _, _ = run(tmp_path / "b", train())
    for name, value in weights(one).items():
        assert torch.equal(value, weights(two)[name]), name


@pytest.mark.parametrize("stop_at", [3, 5, 9])
def test_a_fit_that_was_killed_carries_on_to_the_same_bits(tmp_path: Path, stop_at: int) -> None:
    whole, best, _ = run(tmp_path / "whole", train(evaluations=3))
    with pytest.raises(Stop):
        run(tmp_path / "cut", train(evaluations=3), stop_at=stop_at)
    again, best_again, _ = run(tmp_path / "cut", train(evaluations=3))
    assert best == best_again
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(again)[name]), name


def test_a_recipe_changes_what_is_learned_and_carries_on_to_the_same_bits(tmp_path: Path) -> None:
    settings = train(zoom=0.0, augment=Recipe(rotate=30.0, photometric=({"name": "GaussNoise", "p": 0.5},)))
    whole = run(tmp_path / "whole", settings)[0].state_dict()
    with pytest.raises(Stop):
        run(tmp_path / "cut", settings, stop_at=6)
    again = run(tmp_path / "cut", settings)[0].state_dict()
    plain = run(tmp_path / "plain", train(zoom=0.0))[0].state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert not all(torch.equal(whole[name], plain[name]) for name in whole)


def test_another_order_would_show(tmp_path: Path) -> None:
    """The test above can fail: without its training checkpoint the second half is another one."""
    whole, _, _ = run(tmp_path / "whole", train())
    with pytest.raises(Stop):
        run(tmp_path / "cut", train(), stop_at=6)
    state = torch.load(tmp_path / "cut" / "training.pt", weights_only=True)
    state["step"] = 0
    torch.save(state, tmp_path / "cut" / "training.pt")
    other, _, _ = run(tmp_path / "cut", train())
    assert not all(torch.equal(v, weights(other)[n]) for n, v in weights(whole).items())
    shutil.rmtree(tmp_path / "cut")


def test_one_checkpoint_is_kept_without_a_look(tmp_path: Path) -> None:
    kept: list[int] = []
    _, best, _ = run(tmp_path, train(evaluations=1), kept=kept)
    assert kept == [best.step] == [9]
    assert best.figures == {}


def test_the_best_of_several_looks_is_kept(tmp_path: Path) -> None:
    kept: list[int] = []
    _, best, _ = run(tmp_path, train(evaluations=3), kept=kept)
    assert best.step == kept[-1]
    assert set(kept) <= {3, 6, 9}


def test_steps_without_a_finite_loss_are_counted_and_then_given_up(tmp_path: Path) -> None:
    def bad(steps: int) -> tuple[Net, int]:
        net = Net()
        net.bad_from = 2
        _, skipped = fit(
            net, Equal(), data(), train(), steps=steps, seed=0, cycle=0, folder=tmp_path / str(steps),
            judge=lambda model: (0.0, {}), keep=lambda model, step: None, progress=lambda *a: None,
        )  # fmt: skip
        return net, skipped

    (tmp_path / "6").mkdir()
    net, skipped = bad(6)
    assert skipped == 4
    assert all(bool(torch.isfinite(p).all()) for p in net.parameters())
    (tmp_path / str(PATIENCE + 9)).mkdir()
    with pytest.raises(RunError, match=r"not finite for 50 steps in a row; lower train.rate"):
        bad(PATIENCE + 9)


def test_nothing_labeled_is_refused(tmp_path: Path) -> None:
    empty = Data([], np.zeros(0, np.int64), np.ones((0, 1), bool), ("segmentation",), CLASSES)
    with pytest.raises(RunError, match="no image is labeled"):
        fit(
            Net(), Equal(), empty, train(), steps=1, seed=0, cycle=0, folder=tmp_path,
            judge=lambda model: (0.0, {}), keep=lambda model, step: None, progress=lambda *a: None,
        )  # fmt: skip


def shown(has: list[list[bool]], pseudo: list[list[bool]] | None = None, weight: float = 1.0) -> Data:
    """Images whose map is an input, too, of a network for segmentation and depth."""
    ones = torch.ones(1, 8, 8)
    samples = [
        Sample(f"i{i}", torch.zeros(3, 8, 8), {"segmentation": ones[0].long(), "depth": ones[0]}, {"depth": ones})
        for i in range(len(has))
    ]
    samples = [Sample(s.id, s.image, s.targets, {**s.inputs, "segmentation": ones}) for s in samples]
    of = None if pseudo is None else np.array(pseudo)
    tasks = ("segmentation", "depth")
    return Data(samples, np.arange(len(has)), np.array(has), tasks, CLASSES, pseudo=of, weight=weight)


def test_a_label_is_an_input_only_where_people_gave_it_and_a_sensor_always() -> None:
    given = shown([[True, True], [False, True], [True, True]], [[False, False], [False, False], [True, False]])
    found = [given.sample(i) for i in range(3)]
    assert [float(s.inputs["segmentation"].mean()) for s in found] == [1.0, 0.0, 0.0]
    assert all(float(s.inputs["depth"].mean()) == 1.0 for s in found)
    assert [set(s.targets) for s in found] == [{"segmentation", "depth"}, {"depth"}, {"segmentation", "depth"}]


def test_pseudo_labels_count_what_they_are_said_to() -> None:
    has, made = [[True, True]] * 3, [[False, False], [True, False], [True, True]]
    assert shown(has, made).weights([0, 1]) == {}
    assert shown(has, weight=0.25).weights([0]) == {}
    weights = shown(has, made, 0.25).weights([2, 0, 1])
    assert {task: w.tolist() for task, w in weights.items()} == {"segmentation": [0.25, 1, 0.25], "depth": [0.25, 1, 1]}
    labeled = {"segmentation": torch.ones(3, dtype=torch.bool)}
    losses = Losses({"segmentation.ce": torch.tensor([4.0, 4.0, 4.0])}, labeled)
    assert losses.scaled(weights).values["segmentation.ce"].tolist() == [1, 4, 1]
    assert float(losses.scaled(weights).means()["segmentation.ce"]) == 2  # of three images, as without weights
    assert losses.scaled({}) is losses
