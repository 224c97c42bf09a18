"""Weightings in a fit: missing labels, micro-batches, processes, kills, losses that are not finite."""

import math
import multiprocessing
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from orchestrator.components import Component, make
from orchestrator.config import arm, experiment_of
from orchestrator.errors import ConfigError, RunError
from orchestrator.fitting import PATIENCE, fit
from orchestrator.running import check
from orchestrator.store import read_table
from orchestrator.training_group import listen
from orchestrator.weighing import Weighing
from orchestrator.workers import Seat
from tasks import WEIGHTINGS
from tasks.types import Batch, Losses
from tests.orchestrator.trained_together import HOST
from tests.orchestrator.weighed_together import KINDS, every_kind, few_maps, six, weighed
from tests.tiny import tiny

LEARN = sorted(set(WEIGHTINGS) - {"equal", "fixed"})


class Stop(Exception):
    """A kill, as far as a test can make one."""


class Net(nn.Module):
    """Two losses of one shared layer; NaN in the steps of ``bad``, counted from 1."""

    def __init__(self, bad: range = range(0)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.heads, self.bad, self.steps = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 2, 1), bad, 0
        self.shared = tuple(self.trunk.parameters())

    def forward(self, batch: Batch) -> Losses:
        self.steps += 1
        found = self.heads(self.trunk(batch.images).tanh()).square().mean((2, 3)) + 0.1
        found = found * (float("nan") if self.steps in self.bad else 1.0)
        labeled = {task: torch.tensor([t is not None for t in of]) for task, of in batch.targets.items()}
        return Losses(
            {
                "detection.a": found[:, 0] * labeled["detection"],
                "segmentation.b": found[:, 1] * labeled["segmentation"],
            },
            labeled,
        )


def rows(table: pa.Table) -> dict[tuple[int, str], tuple[float, float | None]]:
    return {(r["step"], r["loss"]): (r["value"], r["weight"]) for r in table.to_pylist()}


def same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    assert one.keys() == two.keys()
    return all(torch.equal(value.nan_to_num(), two[name].nan_to_num()) for name, value in one.items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["equal", *LEARN])
def test_a_killed_fit_goes_on_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    """Networks, statistics, Adam's memory, and the record of the steps, each once."""
    train = six(checkpoint_steps=2)
    whole, state = weighed(tmp_path / "whole", kind, train, net=Net())

    def progress(phase: str, done: int, total: int) -> None:
        if done == 5:
            raise Stop

    (tmp_path / "cut").mkdir()
    with pytest.raises(Stop):
        fit(
            Net(), make("weighting", Component(kind), "weighting"), few_maps(), train, steps=6, seed=3, cycle=1,
            folder=tmp_path / "cut", judge=lambda m: (0.0, {}), keep=lambda m, s: None, progress=progress,
        )  # fmt: skip
    assert torch.load(tmp_path / "cut" / "training.pt", weights_only=True)["step"] == 4
    again, state_again = weighed(tmp_path / "cut", kind, train, net=Net())
    assert again.equals(whole)
    assert same(state, state_again)
    assert not same(state, weighed(tmp_path / "other", kind, six(rate=0.02), net=Net())[1])


def test_steps_have_rows_for_the_losses_that_had_labels(tmp_path: Path) -> None:
    table, _ = weighed(tmp_path, "kgc", six(), net=Net())
    found = rows(table)
    assert {step for step, _ in found} == set(range(6))
    maps = [step for step, loss in found if loss == "segmentation.b"]
    assert 0 < len(maps) < 6  # some batches have no map
    assert len(found) == len(table) == 6 + len(maps)
    assert table.schema.names == ["step", "loss", "value", "weight"]
    mean, square = 0.0, 0.0
    for step in range(6):  # multipliers are those of the values that stand beside them
        value, weight = found[step, "detection.a"]
        mean, square = 0.99 * mean + 0.01 * value, 0.99 * square + 0.01 * value**2
        assert weight == pytest.approx(1 / (square - mean**2 + 1e-12), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_change_nothing(kind: str, tmp_path: Path) -> None:
    """Gradients of shared layers, too, are those of the whole batch."""
    whole, _ = weighed(tmp_path / "whole", kind, six(), net=Net())
    parts, _ = weighed(tmp_path / "parts", kind, six(accumulate=2), net=Net())
    assert rows(whole).keys() == rows(parts).keys()
    for at, expected in rows(whole).items():
        assert rows(parts)[at] == pytest.approx(expected, rel=1e-3), at


@pytest.mark.slow
def test_two_processes_weigh_as_one(tmp_path: Path) -> None:
    door = listen(HOST)
    meet = (HOST, int(door.getsockname()[1]))
    start = multiprocessing.get_context("spawn")
    other = start.Process(target=every_kind, args=(tmp_path, Seat(1, 2, HOST, meet)), daemon=True)
    other.start()
    try:
        every_kind(tmp_path, Seat(0, 2, HOST, meet), door)
        other.join(60)
    finally:
        other.kill()
        other.join()
    first, second = (torch.load(tmp_path / f"rank_{rank}.pt") for rank in (0, 1))
    for kind in KINDS:
        assert first[kind]["rows"] == second[kind]["rows"]
        assert same(first[kind]["state"], second[kind]["state"]), kind
        alone, state = weighed(tmp_path / "alone" / kind, kind, six())
        assert repr(alone.to_pylist()) != "[]"
        for name, value in state.items():
            assert torch.allclose(
                value.double(), first[kind]["state"][name].double(), rtol=1e-3, atol=1e-4, equal_nan=True
            ), name


@pytest.mark.parametrize("kind", ["equal", "kendall", "kgc", "auxnet"])
@pytest.mark.parametrize("micro", [1, 2])
def test_a_loss_that_is_not_finite_skips_the_step_and_is_recorded(kind: str, micro: int, tmp_path: Path) -> None:
    bad = range(3, 4) if micro == 1 else range(2 * 4 + 1, 2 * 4 + 2)  # two passes a part, then two more of each step
    net = Net(bad)
    table, state = weighed(tmp_path, kind, six(accumulate=micro), net=net)
    skipped = {step for (step, _), (value, weight) in rows(table).items() if weight is None}
    assert len(skipped) == 1
    assert all(math.isnan(v) for (step, loss), (v, _) in rows(table).items() if step in skipped and loss[0] == "d")
    assert all(bool(torch.isfinite(v).all()) for v in state.values())


def test_a_fit_that_is_given_up_leaves_its_record(tmp_path: Path) -> None:
    tables: list[pa.Table] = []
    with pytest.raises(RunError, match="not finite for 50 steps in a row"):
        fit(
            Net(range(2, 999)), make("weighting", Component("kendall"), "weighting"), few_maps(), six(steps=99),
            steps=99, seed=0, cycle=0, folder=tmp_path, judge=lambda m: (0.0, {}), keep=lambda m, s: None,
            progress=lambda *told: None, note=lambda name, table: tables.append(table),
        )  # fmt: skip
    assert len(tables) == 1
    assert max(tables[0]["step"].to_pylist()) == PATIENCE


def test_what_is_learned_decays_in_no_optimiser_and_has_the_rate_of_the_step() -> None:
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.5, weight_decay=0.1)
    weighing = Weighing(make("weighting", Component("kendall"), "weighting"), optimizer, torch.device("cpu"), 9, seed=1)
    before = torch.get_rng_state()
    weighing.begin(("a.x", "b.y"))
    assert torch.equal(before, torch.get_rng_state())
    group = optimizer.param_groups[1]
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (0.5, 0.0, 2)


def test_a_batch_without_any_label_is_a_step_of_nothing() -> None:
    net = Net()
    weighting = make("weighting", Component("kgc"), "weighting")
    weighing = Weighing(weighting, torch.optim.Adam(net.parameters()), torch.device("cpu"), 3, seed=1)
    leaf = torch.zeros((), requires_grad=True)
    zero = torch.zeros(())
    total = weighing.total({"a.x": leaf * 1}, {"a.x": zero}, zero, step=0, epoch=0)
    assert total is not None
    total.backward()
    weighing.step()
    assert (float(total.detach()), float(leaf.grad or 0)) == (0.0, 0.0)
    assert leaf.grad is not None  # connected, so that processes that train together wait for the same gradients
    assert weighting.statistics.count.tolist() == [0]


def test_options_that_no_loss_of_the_model_has_are_a_sentence(tmp_path: Path) -> None:
    for component, words in (
        (Component("kgc", {"scale": {"pickup": 0.01}}), r"weighting.scale: \['pickup'\] name no loss"),
        (Component("fixed", {"factors": {"depth": 2.0}}), r"weighting.factors: \['depth'\] name no loss"),
    ):
        with pytest.raises(RunError, match=words):
            fit(
                Net(), make("weighting", component, "weighting"), few_maps(), six(), steps=6, seed=0, cycle=0,
                folder=tmp_path, judge=lambda m: (0.0, {}), keep=lambda m, s: None, progress=lambda *told: None,
            )  # fmt: skip


def test_gradnorm_asks_for_a_model_that_names_its_shared_layers(tmp_path: Path) -> None:
    tree = tiny(tmp_path, weighting="gradnorm")
    check(experiment_of(tree, "tiny"))
    with pytest.raises(ConfigError, match=r"arms.random: the weighting 'gradnorm' compares gradients of shared"):
        check(experiment_of({**tree, "model": {"name": "tests.toy:Own"}}, "tiny"))
    net = Net()
    net.shared = ()
    with pytest.raises(RunError, match="no attribute 'shared'"):
        weighed(tmp_path, "gradnorm", six(), net=net)


def test_an_arm_may_have_a_weighting_of_its_own(tmp_path: Path) -> None:
    arms = {"plain": {"weighting": "kgc"}, "warm": {"weighting.form": "corrected", "weighting.warm_up": 5}}
    experiment = experiment_of(tiny(tmp_path, weighting="kgc", arms=arms), "tiny")
    check(experiment)
    assert arm(experiment, "plain").weighting == Component("kgc")
    assert arm(experiment, "warm").weighting == Component("kgc", {"form": "corrected", "warm_up": 5})


def test_a_run_keeps_the_steps_of_each_fit(tiny_run: Path) -> None:
    run = tiny_run / "runs" / "tiny"
    for pattern, steps in (("reference/*/seed_0", 6), ("initial/*/seed_0", 5), ("boxmask/seed_0/cycle_1", 3)):
        (folder,) = run.glob(pattern)
        table = read_table(folder / "steps.parquet")
        assert sorted(set(table["step"].to_pylist())) == list(range(steps))
        assert len(set(table["loss"].to_pylist())) == 4
        assert np.array_equal(table["weight"].to_numpy(), np.ones(len(table), np.float32))
