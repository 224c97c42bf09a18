"""The figures on the validation split while a network is trained: which steps, each once, and nothing else changes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import nn

from orchestrator.config import Train
from orchestrator.errors import RunError
from orchestrator.fitting import PATIENCE, Best, fit
from orchestrator.validation import candidates, judged, recorded
from tasks.weighting.fixed import Equal
from tests.orchestrator.test_fitting import Net, Stop, data, train

Rows = list[tuple[int, str, float]]


@dataclass
class Fitted:
    """All that a fit left."""

    net: Net
    best: Best | None = None
    looks: int = 0
    kept: list[int] = field(default_factory=list)
    tables: dict[str, pa.Table] = field(default_factory=dict)

    @property
    def rows(self) -> Rows:
        return [(r["step"], r["metric"], r["value"]) for r in self.tables["validation"].to_pylist()]

    @property
    def steps(self) -> list[int]:
        return [step for step, metric, _ in self.rows if metric == "seg.size"]


def fitted(
    folder: Path, settings: Train, stop_at: int | None = None, judge: Callable[[nn.Module], Any] | None = None
) -> Fitted:
    torch.manual_seed(0)
    done = Fitted(Net())

    def progress(phase: str, step: int, total: int) -> None:
        if step == stop_at:
            raise Stop

    def score(model: nn.Module) -> tuple[float, dict[str, float]]:
        assert not model.training
        done.looks += 1
        torch.rand(7)  # a network may draw when it answers
        size = float(sum(p.detach().abs().sum() for p in model.parameters()))
        return -size, {"seg.size": size, "seg.nothing": math.nan}

    done.best, _ = fit(
        done.net, Equal(), data(), settings, steps=settings.steps, seed=3, cycle=1, folder=folder,
        judge=judge or score, keep=lambda model, step: done.kept.append(step), progress=progress,
        note=done.tables.__setitem__,
    )  # fmt: skip
    return done


def same(one: Fitted, other: Fitted) -> bool:
    weights = other.net.state_dict()
    return all(torch.equal(value, weights[name]) for name, value in one.net.state_dict().items())


def test_when_it_looks() -> None:
    assert recorded(train(validate_every=4), 9) == {4, 8, 9}
    assert recorded(train(validate_every=3), 9) == {3, 6, 9}
    assert recorded(train(validate_every=50), 9) == {9}
    assert recorded(train(), 9) == set()
    assert candidates(train(evaluations=2), 9) == {5, 9}
    assert judged(train(), 9) == set()
    assert judged(train(evaluations=2, validate_every=4), 9) == {4, 5, 8, 9}


@pytest.mark.parametrize("evaluations", [1, 3])
def test_nothing_of_the_fit_changes(tmp_path: Path, evaluations: int) -> None:
    without = fitted(tmp_path / "a", train(evaluations=evaluations))
    found = fitted(tmp_path / "b", train(evaluations=evaluations, validate_every=2))
    assert same(without, found)
    assert repr(without.best) == repr(found.best)  # NaN is NaN
    assert without.kept == found.kept
    assert without.tables["steps"].equals(found.tables["steps"])
    assert set(without.tables) == {"steps"}
    assert found.steps == [2, 4, 6, 8, 9]
    assert len(found.rows) == 10
    assert all(math.isnan(value) for _, metric, value in found.rows if metric == "seg.nothing")


def test_a_step_that_is_due_twice_is_judged_once(tmp_path: Path) -> None:
    found = fitted(tmp_path, train(evaluations=3, validate_every=3))
    assert found.steps == [3, 6, 9]
    assert found.looks == 3
    assert found.best is not None
    assert (found.best.step, "seg.size", -found.best.score) in found.rows


@pytest.mark.parametrize("stop_at", [3, 5, 9])
def test_a_fit_that_was_killed_has_each_step_once_and_the_same_bits(tmp_path: Path, stop_at: int) -> None:
    settings = train(evaluations=3, validate_every=2)
    whole = fitted(tmp_path / "whole", settings)
    with pytest.raises(Stop):
        fitted(tmp_path / "cut", settings, stop_at=stop_at)
    again = fitted(tmp_path / "cut", settings)
    assert same(whole, again)
    assert repr(again.rows) == repr(whole.rows)


def test_a_fit_that_is_given_up_leaves_what_it_saw(tmp_path: Path) -> None:
    net, tables = Net(), dict[str, pa.Table]()
    net.bad_from = 2
    with pytest.raises(RunError, match="not finite"):
        fit(
            net, Equal(), data(), train(validate_every=20), steps=99, seed=0, cycle=0, folder=tmp_path,
            judge=lambda model: (0.0, {"a.b": 1.0}), keep=lambda model, step: None, progress=lambda *told: None,
            note=tables.__setitem__,
        )  # fmt: skip
    assert tables["validation"]["step"].to_pylist() == [20, 40]
    assert tables["steps"]["step"].to_pylist()[-1] == PATIENCE + 1


def test_who_has_nothing_to_say_leaves_an_empty_table(tmp_path: Path) -> None:
    """So do the other processes of a group, whose judge answers nothing."""
    table = fitted(tmp_path, train(validate_every=3), judge=lambda model: (0.0, {})).tables["validation"]
    assert table.num_rows == 0
    assert table.column_names == ["step", "metric", "value"]


def test_it_must_be_a_number_of_steps() -> None:
    with pytest.raises(ValueError, match="validate_every is 0; expected a positive number of steps"):
        train(validate_every=0)
