"""mtal study convergence: the paper's tables and figures of many runs as one page, and its main table. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from rich.table import Table

from orchestrator import __version__
from orchestrator.errors import ConfigError
from orchestrator.figures import inline, styles
from orchestrator.pages import template
from orchestrator.store import write_text
from orchestrator.studies.convergence import (
    ALPHA,
    DEAD,
    Outcome,
    Weights,
    divisor_extremes,
    error_curves,
    improvements,
    ks_tests,
    outcomes,
    smallest_p,
    thinned,
    weight_shares,
)
from orchestrator.studies.convergence_figures import double_box_svg, error_curves_svg, weight_areas_svg
from orchestrator.studies.convergence_runs import MDSQ, Study
from orchestrator.studies.words import plain_table
from orchestrator.tables import MINUS, NOTHING
from tasks.data.files import Place

OURS = "auxnet"  # whose lead Table II tells, where nobody says
POINTS = 200  # of a history of weights in a drawing
FEW_LOOKS = 10  # below it a point of convergence is a guess
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """A method in the main table."""

    method: str
    runs: int  # with dead ones
    dead: str
    steps: str  # median
    steps_spread: str  # mean and standard deviation
    error: str
    error_spread: str


@dataclass(frozen=True)
class Cell:
    """Two methods in a table of tests."""

    p: str
    holm: str
    differs: bool  # after Holm's correction


@dataclass(frozen=True)
class Extremes:
    """Table I of a method: for each loss the smallest and the largest W."""

    method: str
    cells: tuple[tuple[str, str], ...]


def write_study(study: Study, ours: str, out: Place) -> None:
    """Write the page. ConfigError where no method is called ``ours`` ("": auxnet, else the first)."""
    write_text(out, _page(study, method_called(study, ours)))


def terminal_table(study: Study) -> Table:
    """The main table, as the terminal shows it."""
    lost = ", ".join(f"{one.arm} seed {one.seed}" for one in study.missing)
    table = plain_table(
        f"{_title(study)}: steps until convergence, and {error_name(study)} from there on",
        f"Not in it: {lost}." if lost else "",
        "method", "runs", "dead", "steps, median", "mean ± sd", "error, median", "mean ± sd",
    )  # fmt: skip
    for row in main_rows(study, outcomes(study.runs, study.error)):
        cells = (row.method, str(row.runs), row.dead, row.steps, row.steps_spread, row.error, row.error_spread)
        table.add_row(*cells)
    return table


def method_called(study: Study, ours: str) -> str:
    """The method that is meant: its name, or that of its arm where several runs are compared."""
    wanted = ours or OURS
    found = [name for name in study.methods if wanted in (name, name.rpartition("/")[2])]
    if not found and not ours:
        return study.methods[0]
    if ours and len(found) != 1:
        what = "several methods are" if found else "no method is"
        raise ConfigError(f"--ours {ours}: {what} called so; expected one of {', '.join(study.methods)}: name it whole")
    return found[0]


def error_name(study: Study) -> str:
    """The error in words."""
    return f"1 {MINUS} mDSQ" if study.error == MDSQ else study.error


def main_rows(study: Study, found: Mapping[str, Outcome]) -> list[Row]:
    """The main table: medians, because a few slow runs say little of a method, and means."""
    knows_dead = {run.method for run in study.runs if run.dead is not None}
    return [
        Row(
            method, len(one.steps) + one.dead, str(one.dead) if method in knows_dead else NOTHING,
            *_middle(one.steps, "{:,.0f}"), *_middle(one.errors, "{:.4f}"),
        )
        for method, one in found.items()
    ]  # fmt: skip


def _middle(values: Array, form: str) -> tuple[str, str]:
    """The median; the mean with the standard deviation (n - 1), which one run alone has not."""
    if not len(values):
        return NOTHING, NOTHING
    spread = f" ± {form.format(values.std(ddof=1))}" if len(values) > 1 else ""
    return _signed(form.format(np.median(values))), _signed(form.format(values.mean())) + spread


def _signed(text: str) -> str:
    return text.replace("-", MINUS)


# ---- the page --------------------------------------------------------------------------------------------------------


def _page(study: Study, ours: str) -> str:
    found = outcomes(study.runs, study.error)
    alive = {method: one for method, one in found.items() if len(one.steps)}
    looks = styles(list(alive), None)
    tests = [
        ("Steps until convergence", _matrix({method: one.steps for method, one in alive.items()})),
        ("Converged error", _matrix({method: one.errors for method, one in alive.items()})),
    ]
    losses, extremes, areas = _weights(study)
    return template("convergence.html").render(
        version=__version__, title=_title(study), lede=_lede(study), error=error_name(study), looks=looks, ours=ours,
        missing=study.missing, notes=_notes(study, found), dead=DEAD, rows=main_rows(study, found),
        boxes=_box(study, alive), curves=_curves(study), areas=areas, losses=losses, extremes=extremes,
        saved=_saved(found, ours), tests=tests, methods=list(alive), limit=_limit(alive), alpha=ALPHA,
        seeds=_seeds(study),
    )  # fmt: skip


def _title(study: Study) -> str:
    return ", ".join(study.names)


def _lede(study: Study) -> str:
    looks = sorted({len(run.steps) for run in study.runs})
    often = f"{looks[0]}" if len(looks) == 1 else f"{looks[0]} to {looks[-1]}"
    count = len(study.runs)
    return (
        f"{count} runs of {len(study.methods)} methods, cycle {study.cycle}; each was judged {often} times on "
        f"the validation images while it was trained. A run has converged where its error ({error_name(study)}) only "
        "fluctuates from then on; its converged error is the mean from there to the end."
    )


def _notes(study: Study, found: Mapping[str, Outcome]) -> list[str]:
    """What a reader should know before believing the figures."""
    notes = []
    if late := [f"{one.late} of {method}" for method, one in found.items() if one.late]:
        notes.append(
            f"Some runs come to rest only in the last tenth of their record ({', '.join(late)}): they may not have "
            "converged, and their figures are too good in steps and too bad in error. Train longer."
        )
    if (looks := min(len(run.steps) for run in study.runs)) < FEW_LOOKS:
        notes.append(
            f"Some runs were judged only {looks} times. The step of convergence cannot be finer than that: lower "
            "train.validate_every."
        )
    errors = {m: [r.error(study.error) for r in study.runs if r.method == m] for m in study.methods}
    if rose := [m for m, series in errors.items() if 2 * sum(e[-1] > e[0] for e in series) > len(series)]:
        notes.append(
            f"In most runs of {', '.join(rose)} the error ended higher than it began. Either they diverged, or "
            f"{error_name(study)} is no error."
        )
    notes += [f"{' and '.join(group)} are one and the same training in this cycle." for group in study.shared]
    if len(study.names) > 1 and study.error == MDSQ:
        notes.append("mDSQ is counted with each run's own fully trained network.")
    return notes


def _box(study: Study, alive: Mapping[str, Outcome]) -> Markup | None:
    if not alive:
        return None
    told = "; ".join(f"{m} {np.median(one.steps):,.0f} steps, {np.median(one.errors):.4f}" for m, one in alive.items())
    return Markup(inline(double_box_svg(alive, error_name(study)), "boxes", f"Medians: {told}"))


def _curves(study: Study) -> Markup | None:
    curves = error_curves(study.runs, study.error)
    if not curves:
        return None
    told = "; ".join(f"{curve.method} from {curve.mean[0]:.4f} to {curve.mean[-1]:.4f}" for curve in curves)
    return Markup(inline(error_curves_svg(curves, error_name(study)), "curves-drawn", f"Mean errors: {told}"))


def _weights(study: Study) -> tuple[list[str], list[Extremes], Markup | None]:
    """Names of the losses, Table I and the areas of the methods that have several losses. One method at a time."""
    extremes: dict[str, dict[str, tuple[float, float]]] = {}
    histories: dict[str, tuple[NDArray[np.int64], dict[str, Array]]] = {}
    for method in study.methods:
        runs = study.weights(method)
        extremes |= {name: found for name, found in divisor_extremes(runs).items() if found}
        shares = _shares(runs) if method in extremes and len(extremes[method]) > 1 else None
        if shares is not None:
            histories[method] = shares
    losses = sorted({loss for found in extremes.values() for loss in found})
    rows = [Extremes(method, tuple(_extreme(found.get(loss)) for loss in losses)) for method, found in extremes.items()]
    if not histories:
        return losses, rows, None
    drawn = {
        method: (steps, np.stack([shares.get(loss, np.zeros(len(steps))) for loss in losses]))
        for method, (steps, shares) in histories.items()
    }
    told = f"Shares of the weights of {', '.join(losses)} over the steps, for {', '.join(drawn)}"
    return losses, rows, Markup(inline(weight_areas_svg(drawn, losses), "areas-drawn", told))


def _shares(runs: list[Weights]) -> tuple[NDArray[np.int64], dict[str, Array]] | None:
    """Each loss's share over the steps; None where no weight is known, or runs have other losses."""
    last = max(int(run.steps[-1]) for run in runs)
    if len({tuple(run.multipliers) for run in runs}) > 1:
        return None
    steps, shares = weight_shares([thinned(run, POINTS, last) for run in runs])
    return (steps, dict(zip(runs[0].multipliers, shares, strict=True))) if len(steps) else None


def _extreme(found: tuple[float, float] | None) -> tuple[str, str]:
    return (NOTHING, NOTHING) if found is None else (f"{found[0]:.3g}", f"{found[1]:.3g}")


def _saved(found: Mapping[str, Outcome], ours: str) -> list[tuple[str, list[str]]]:
    """Table II: for each other method the steps and the error that ours saves, by medians and by means."""
    medians, means = (improvements(found, ours, centre) for centre in ("median", "mean"))
    return [(other, [_share(x) for x in (*medians[other], *means[other])]) for other in medians]


def _share(value: float) -> str:
    return _signed(f"{100 * value:+.1f} %") if np.isfinite(value) else NOTHING


def _matrix(samples: Mapping[str, Array]) -> list[tuple[str, list[Cell]]]:
    """Table III: a row a method, a cell for each method before it."""
    found = ks_tests(samples)
    holm = found.holm()
    return [
        (name, [Cell(_p(found.p[i, j]), _p(holm[i, j]), bool(holm[i, j] < ALPHA)) for j in range(i)])
        for i, name in enumerate(found.methods)
    ]


def _p(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.4f}" if value < 0.001 else f"{value:.3f}"


def _limit(alive: Mapping[str, Outcome]) -> str:
    """What these tests could find at most, with so few runs; empty where there is nothing to compare."""
    if len(alive) < 2:
        return ""
    *_, second, first = sorted(len(one.steps) for one in alive.values())
    pairs, least = len(alive) * (len(alive) - 1) // 2, smallest_p(first, second)
    said = f"With {first} and {second} runs the smallest p that a test can give is {_p(least)}"
    return f"{said}, and {_p(min(1.0, least * pairs))} for the first of {pairs} pairs after Holm's correction."


def _seeds(study: Study) -> list[tuple[str, str, str]]:
    """For each method the seeds that are in the study, and those whose network was dead at the end."""
    found = []
    for method in study.methods:
        own = [run for run in study.runs if run.method == method]
        dead = ", ".join(str(run.seed) for run in own if run.is_dead)
        found.append((method, ", ".join(str(run.seed) for run in own), dead or NOTHING))
    return found
