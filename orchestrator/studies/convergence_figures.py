"""The figures of a study of convergence as SVG text: double box plot, error curves, areas of weights. No torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from orchestrator.figures import INK, PAPER, RULE, SOFT, Style, options, plain_axes, styles, svg_text
from orchestrator.studies.convergence import Box, ErrorCurve, Outcome, box

_THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}")


def double_box_svg(found: Mapping[str, Outcome], error: str = "summed error") -> str:
    """Fig. 13: for each method a box of the steps to convergence (x) by the error after it (y), medians, whiskers.

    A method without a live run is left out.
    """
    alive = {method: one for method, one in found.items() if len(one.steps)}
    looks = styles(list(alive), None)
    with matplotlib.rc_context(options("double-box")):
        figure, axes = _sheet()
        plain_axes(axes, f"Convergence and {error}", 14)
        axes.grid(axis="x", color=RULE, linewidth=0.7)
        for method, one in alive.items():
            across, up = box(one.steps), box(one.errors)
            _double_box(axes, across, up, looks[method])
            axes.plot([], [], label=_counted(method, one), **_middle(looks[method]), linewidth=1.9)
        _dress(axes, "steps until convergence", f"{error} after convergence")
        axes.autoscale_view()
        axes.set_ylim(bottom=0 if axes.get_ylim()[0] < 0 else None)
        return svg_text(figure)


def error_curves_svg(curves: Sequence[ErrorCurve], error: str = "summed error") -> str:
    """Figs. 5 and 10: the mean error of each method over the steps, with bands of one standard deviation."""
    looks = styles([curve.method for curve in curves], None)
    with matplotlib.rc_context(options("error-curves")):
        figure, axes = _sheet()
        plain_axes(axes, f"{error[:1].upper()}{error[1:]} in training", 14)
        for curve in curves:
            look = looks[curve.method]
            name = f"{curve.method} ({curve.runs})"
            axes.plot(curve.steps, curve.mean, color=look.color, linestyle=look.dash, linewidth=1.9, label=name)
            if curve.runs > 1:
                low, high = curve.mean - curve.sd, curve.mean + curve.sd
                axes.fill_between(curve.steps, low, high, color=look.color, alpha=0.12, linewidth=0)
        _dress(axes, "steps", error)
        return svg_text(figure)


def weight_areas_svg(
    histories: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]], losses: Sequence[str]
) -> str:
    """Fig. 9: a panel a method with the stacked shares ``[T, n]`` of its losses' weights over the steps."""
    looks = styles(list(losses), None)
    rows = -(-len(histories) // 2)
    with matplotlib.rc_context(options("weight-areas")):
        figure = Figure(figsize=(7.2, 0.7 + 2.1 * rows), facecolor=PAPER, layout="constrained")
        panels = figure.subplots(rows, 2, squeeze=False).ravel()
        for axes, (method, (steps, shares)) in zip(panels, histories.items(), strict=False):
            axes.set_facecolor(PAPER)
            colors = [looks[loss].color for loss in losses]
            axes.stackplot(steps, shares, colors=colors, labels=list(losses), alpha=0.75, linewidth=0)
            plain_axes(axes, method, 6)
            axes.set_xlim(steps[0], steps[-1] if len(steps) > 1 else steps[0] + 1)
            axes.set_ylim(0, 1)
            axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.xaxis.set_major_formatter(_THOUSANDS)
        for axes in panels[len(histories) :]:
            axes.set_visible(False)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, labelcolor=INK)
        return svg_text(figure)


def _double_box(axes: Axes, across: Box, up: Box, look: Style) -> None:
    """A rectangle of the quartiles both ways, its medians, and whiskers through them."""
    corner, wide, high = (across.first, up.first), across.third - across.first, up.third - up.first
    axes.add_patch(Rectangle(corner, wide, high, facecolor=look.color, alpha=0.22, linewidth=0))
    axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor=look.color, linewidth=1.4, linestyle=look.dash))
    line: dict[str, Any] = {"color": look.color, "solid_capstyle": "butt"}
    axes.plot([across.first, across.third], [up.median] * 2, linewidth=2.2, **line)
    axes.plot([across.median] * 2, [up.first, up.third], linewidth=2.2, **line)
    for end, start in ((across.low, across.first), (across.high, across.third)):
        axes.plot([end, start], [up.median] * 2, linewidth=1, **line)
    for end, start in ((up.low, up.first), (up.high, up.third)):
        axes.plot([across.median] * 2, [end, start], linewidth=1, **line)
    axes.plot([across.median], [up.median], **_middle(look))


def _middle(look: Style) -> dict[str, Any]:
    """How the middle of a box, and its line in the legend, look: colours come again where there are many methods."""
    return {
        "marker": look.marker, "markersize": 7, "color": look.color, "markeredgecolor": PAPER, "linestyle": look.dash,
    }  # fmt: skip


def _counted(method: str, one: Outcome) -> str:
    return f"{method} ({len(one.steps)}" + (f", {one.dead} dead)" if one.dead else ")")


def _sheet() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 4.2), facecolor=PAPER, layout="constrained")
    return figure, figure.add_subplot(facecolor=PAPER)


def _dress(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=SOFT)
    axes.set_ylabel(y, color=SOFT)
    axes.xaxis.set_major_formatter(_THOUSANDS)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, labelcolor=INK, borderaxespad=0)
