"""mtal study toy: what the toy example shows and what it does not, as one page and as a table for the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from rich.table import Table

from orchestrator import __version__
from orchestrator.curves import Curve
from orchestrator.figures import BASELINE, INK, PAPER, SOFT, inline, options, plain_axes, styles, svg_text
from orchestrator.pages import template
from orchestrator.store import write_text
from orchestrator.studies.affinity import Gain, gain_over
from orchestrator.studies.toy import LABELED, REGIMES, SAMPLES, TABLE_2, Toy, f1, f2
from orchestrator.studies.words import percent, plain_table
from orchestrator.tables import NOTHING, count
from tasks.data.files import Place

DRAWN = ("ST", "MTL", "T-S")  # the paper's methods


@dataclass(frozen=True)
class Row:
    """One way to learn f2."""

    name: str
    about: str
    steps: str
    error: str  # mean and standard deviation over the seeds
    gain: str  # over ST
    interval: str
    word: str
    paper: str


def write_toy(toy: Toy, out: Place) -> None:
    """Write the page."""
    regimes = [(name, regime.words) for name, regime in REGIMES.items()]
    seed = _typical(toy)
    drawing = Markup(inline(toy_svg(toy, seed), "toy", f"The functions, and what was learned of f2 under seed {seed}"))
    page = template("toy.html").render(
        version=__version__, regime=toy.regime, words=REGIMES[toy.regime].words, seeds=len(toy.seeds), seed=seed,
        finding=finding(toy), rows=rows(toy), drawing=drawing, regimes=regimes, labeled=LABELED, samples=SAMPLES,
    )  # fmt: skip
    write_text(out, page)


def terminal_table(toy: Toy) -> Table:
    """The same figures for the terminal."""
    table = plain_table(
        f"toy, {toy.regime}: mean squared error of f2, {count(len(toy.seeds), 'seed')}", "",
        "method", "steps", "error", "gain over ST", "95 %", "", "paper",
    )  # fmt: skip
    for row in rows(toy):
        table.add_row(row.name, row.steps, row.error, row.gain, row.interval, row.word, row.paper)
    return table


def rows(toy: Toy) -> list[Row]:
    """The methods in their order: first the paper's, then the controls."""
    found = []
    for name, method in toy.methods.items():
        gain = None if name == "ST" else gain_between(toy, name, "ST")
        low, high = gain.interval if gain else (np.nan, np.nan)
        found.append(
            Row(
                name, method.about, f"{method.steps:,}", _spread(method.error.mean(), _sd(method.error), 5),
                percent(gain.mean) if gain else "", f"{percent(low)} to {percent(high)}" if low == low else "",
                gain.word if gain else "", _spread(*TABLE_2[name], 4) if name in TABLE_2 else NOTHING,
            )
        )  # fmt: skip
    return found


def gain_between(toy: Toy, one: str, other: str) -> Gain | None:
    """How much smaller the error of one method is, seed by seed, as shares of the other one's."""
    curves = [Curve(n, np.array(toy.seeds), np.zeros(1), toy.methods[n].error[:, None]) for n in (one, other)]
    return gain_over(curves[0], curves[1], rises=False)


def finding(toy: Toy) -> list[str]:
    """What may be said, in plain sentences."""
    errors = {name: float(method.error.mean()) for name, method in toy.methods.items()}
    steps = {name: method.steps for name, method in toy.methods.items()}
    is_so = errors["ST"] > errors["MTL"] > errors["T-S"]
    told = ", ".join(f"{name} {errors[name]:.4f}" for name in DRAWN)
    fair, blind = "T-S, equal steps", "T-S without f1"
    return [
        f"Mean errors: {told}. This is {'' if is_so else 'not '}the paper's order (ST worst, T-S best).",
        f"But T-S was trained for {steps['T-S']:,} steps and ST for {steps['ST']:,}: an epoch of {SAMPLES} "
        f"pseudo-labels has {SAMPLES // LABELED} times as many steps as one of {LABELED} labels. With as many steps as "
        f"ST, T-S comes to {errors[fair]:.4f}.",
        f"And a student whose teacher never saw f1, but was trained as long, comes to {errors[blind]:.4f}.",
        _verdict({pair: gain_between(toy, *pair) for pair in (("T-S", "ST"), (fair, "ST"), ("T-S", blind))}),
    ]


def _verdict(gains: Mapping[tuple[str, str], Gain | None]) -> str:
    """What the gain of T-S over ST comes from; each gain in the order of ``finding``."""
    is_shown, keeps_steps, needs_f1 = (gain is not None and gain.word == "helps" for gain in gains.values())
    if not is_shown:
        return "Under this regime T-S is not shown to be better than ST, so there is no gain to explain."
    if keeps_steps and needs_f1:
        return "Neither control explains the gain of T-S away: under this regime f1 helped."
    reasons = [] if keeps_steps else ["with equal steps there is none"]
    reasons += [] if needs_f1 else ["without f1 it is no smaller"]
    return f"So the gain of T-S over ST is one of training budget, and not of f1: {' and '.join(reasons)}."


def toy_svg(toy: Toy, seed: int) -> str:
    """Fig. 3: both functions with the samples of a seed, and beside them what the methods learned of f2."""
    row = toy.seeds.index(seed)
    z, looks = toy.z[row], styles(DRAWN, None)
    with matplotlib.rc_context(options("toy")):
        figure = Figure(figsize=(7.2, 3.6), facecolor=PAPER, layout="constrained")
        left, right = figure.subplots(1, 2)
        for axes, title in ((left, "Functions and samples"), (right, "What was learned of f2")):
            axes.set_facecolor(PAPER)
            plain_axes(axes, title)
            axes.set_xlabel("z", color=SOFT)
        for name, function, many in (("f1", f1, SAMPLES), ("f2", f2, LABELED)):
            color = SOFT if name == "f1" else INK
            left.plot(toy.grid, function(toy.grid), color=color, linewidth=1.4, label=f"{name}, {many} labels")
            left.plot(z[:many], function(z[:many]), "o", color=color, markersize=2.2, alpha=0.45)
        right.plot(z[:LABELED], f2(z[:LABELED]), "o", color=BASELINE, markersize=2.2, alpha=0.6, label="labels of f2")
        for name in DRAWN:
            look = looks[name]
            right.plot(
                toy.grid,
                toy.methods[name].answer[row],
                color=look.color,
                linestyle=look.dash,
                linewidth=1.7,
                label=name,
            )
        for axes in (left, right):
            axes.legend(frameon=False, labelcolor=INK, fontsize=8.5)
        return svg_text(figure)


def _typical(toy: Toy) -> int:
    """The seed whose ST is nearest to the median: what is drawn is no lucky pick."""
    error = toy.methods["ST"].error
    return toy.seeds[int(np.abs(error - np.median(error)).argmin())]


def _spread(mean: float, sd: float, digits: int) -> str:
    return f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f}" if sd == sd else "")


def _sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
