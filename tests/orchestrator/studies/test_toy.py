"""The toy example: its functions, its regimes, the order of the paper, and the controls that explain it."""

import numpy as np
import pytest

from orchestrator.errors import ConfigError
from orchestrator.studies import toy as room
from orchestrator.studies.toy import DEFAULT, REGIMES, Regime, f1, f2, toy


def test_the_functions_share_a_component() -> None:
    """3 sin 5z cos 2z = 1.5 (sin 7z + sin 3z); sin 3z cos 4z = .5 (sin 7z - sin z)."""
    z = np.linspace(0, 1, 50)
    assert f1(z) == pytest.approx(np.sin(z) + np.sqrt(z) / 300 + 2 + 1.5 * (np.sin(7 * z) + np.sin(3 * z)))
    assert f2(z) == pytest.approx(np.cos(z / 3) + np.sqrt(z) / 200 + 1 - 0.5 * (np.sin(7 * z) - np.sin(z)))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "REGIMES", {"short": Regime("tanh", 1), "scaled": Regime("relu", 1, 2, scaled=True)})


def test_every_method_and_both_controls_are_there(short: None) -> None:
    told: list[tuple[object, ...]] = []
    found = toy("short", (0, 5), lambda *one: told.append(one))
    assert list(found.methods) == [
        *("ST", "MTL", "teacher", "T-S", "T-S, equal steps", "teacher without f1", "T-S without f1", "mask-MTL"),
    ]
    assert {name: one.steps for name, one in found.methods.items()} == {
        "ST": 5, "MTL": 5, "teacher": 5, "T-S": 20, "T-S, equal steps": 5, "teacher without f1": 5,
        "T-S without f1": 20, "mask-MTL": 20,
    }  # fmt: skip
    assert found.z.shape == (2, 640)
    assert len(told) == 8
    for one in found.methods.values():
        assert one.answer.shape == (2, 501)
        assert one.error == pytest.approx(((one.answer - f2(found.grid)) ** 2).mean(1))
    again = toy("short", (5,))
    assert again.methods["T-S"].error == pytest.approx(found.methods["T-S"].error[1:], rel=1e-3)


def test_scaled_targets_are_answered_in_their_own_unit(short: None) -> None:
    """Before anything is learned a network answers about 0: scaled back, the mean of f2, which is about 1.9."""
    found = toy("scaled", (0,))
    assert found.methods["teacher"].steps == 10
    assert found.methods["mask-MTL"].answer.mean() == pytest.approx(f2(found.grid).mean(), abs=0.3)


def test_a_regime_without_a_name() -> None:
    with pytest.raises(ConfigError, match=r"--regime paper: no such regime; expected one of tanh60-teacher4, tanh60"):
        toy("paper", (0,))
    assert REGIMES[DEFAULT].words == "tanh, 60 epochs, 4 times as many for teachers, targets as they are"


@pytest.mark.parametrize("seeds", [pytest.param(2, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.soak)])
def test_the_papers_order_and_what_explains_it(seeds: int) -> None:
    """ST > MTL > T-S in mean error; with equal steps the gain is gone, and without f1 it is as large."""
    found = toy(DEFAULT, range(seeds))
    error = {name: one.error.mean() for name, one in found.methods.items()}
    assert error["ST"] > error["MTL"] > error["T-S"]
    assert error["T-S, equal steps"] > error["ST"]
    assert error["T-S without f1"] < error["MTL"]
