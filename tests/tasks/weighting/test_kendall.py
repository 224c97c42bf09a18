"""Both forms against their formulas; the best variance is the loss."""

import math

import pytest
import torch

from tests.tasks.weighting.scripted import begun, descend

LOSSES = {"a.x": 2.0, "b.y": 0.3}


@pytest.mark.parametrize(
    ("form", "start", "formula"),
    [
        ("variance", None, lambda loss, s: loss * math.exp(-s) / 2 + s / 2),
        ("variance", 0.4, lambda loss, s: loss * math.exp(-s) / 2 + s / 2),
        ("deviation", 0.7, lambda loss, s: loss / (2 * s * s) + math.log(s)),
    ],
)
def test_formulas(form: str, start: float | None, formula: object) -> None:
    weighting = begun("kendall", form=form, start=start)
    total = weighting.total({n: torch.tensor(v) for n, v in LOSSES.items()})
    assert callable(formula)
    assert float(total.detach()) == pytest.approx(sum(formula(v, start or 0.0) for v in LOSSES.values()), rel=1e-5)


@pytest.mark.parametrize("form", ["variance", "deviation"])
def test_the_variance_becomes_the_loss(form: str) -> None:
    weighting = begun("kendall", form=form)
    last = descend(weighting, [LOSSES] * 150, rate=0.05)[-1]
    for name, loss in LOSSES.items():
        assert last[name] == pytest.approx(1 / (2 * loss), rel=0.02)


def test_a_deviation_that_crosses_zero_stays_finite() -> None:
    weighting = begun("kendall", form="deviation")
    with torch.no_grad():
        for parameter in weighting.parameters():
            parameter.zero_()
    found = descend(weighting, [{"a.x": 1e-9, "b.y": 0.0}] * 20, rate=0.1)
    assert all(math.isfinite(weight) for step in found for weight in step.values())
    with pytest.raises(ValueError, match="expected a deviation of more than 0"):
        begun("kendall", form="deviation", start=0.0)
