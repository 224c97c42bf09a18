"""The figures of the study: they say what they show, and equal results are equal bytes."""

import numpy as np

from orchestrator.studies.convergence import ErrorCurve, Outcome
from orchestrator.studies.convergence_figures import double_box_svg, error_curves_svg, weight_areas_svg

STEPS = np.arange(1, 51) * 500


def outcome(method: str, middle: float, error: float, dead: int = 0, runs: int = 20) -> Outcome:
    rng = np.random.default_rng(len(method))
    return Outcome(method, rng.normal(middle, 3000, runs), rng.normal(error, 0.03, runs), dead)


def test_double_box_plot() -> None:
    found = {
        "auxnet": outcome("auxnet", 26_800, 0.5),
        "kgc": outcome("kgc", 34_850, 0.6, dead=10),
        "gone": outcome("gone", 1.0, 1.0, dead=3, runs=0),
    }
    svg = double_box_svg(found)
    for words in ("auxnet (20)", "kgc (20, 10 dead)", "steps until convergence", "summed error after convergence"):
        assert words in svg
    assert "gone" not in svg
    assert svg == double_box_svg(found)
    assert svg != double_box_svg({**found, "kgc": outcome("kgc", 20_000, 0.6, dead=10)})
    assert "<svg" in double_box_svg({"one": outcome("one", 5.0, 0.5, runs=1)})


def test_error_curves() -> None:
    curve = ErrorCurve("iou", STEPS, np.exp(-STEPS / 9e3), np.full(50, 0.05), 5)
    svg = error_curves_svg([curve, ErrorCurve("dist", STEPS, np.ones(50), np.zeros(50), 1)], "distance, cm")
    for words in ("iou (5)", "dist (1)", "Distance, cm in training", "25,000"):
        assert words in svg


def test_weight_areas() -> None:
    shares = np.stack([np.linspace(0.1, 0.6, 50), np.linspace(0.9, 0.4, 50)])
    svg = weight_areas_svg(
        {"kgc": (STEPS, shares), "auxnet": (STEPS, shares[::-1]), "sum": (STEPS[:1], shares[:, :1])},
        ("pickup.dist", "pickup.iou"),
    )
    for words in ("kgc", "auxnet", "sum", "pickup.dist", "pickup.iou"):
        assert words in svg
