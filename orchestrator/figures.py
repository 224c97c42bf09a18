"""The drawings of a report as SVG text: equal results, equal bytes. No torch."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from orchestrator.curves import Curve
from orchestrator.statistics import Paired

# Okabe and Ito's colours, which people with any common colour blindness tell apart; yellow is left out (too light on
# paper). Beyond seven arms dashes and markers tell equal colours apart.
BASELINE = "#6e7681"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)))
MARKERS = {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼", "P": "✚", "X": "✖"}  # and how they look in text
PAPER, INK, SOFT, RULE = "#ffffff", "#1b1f24", "#59636e", "#d8dce1"
CONTROL = (0, (1, 2))  # dots: an arm that buys nothing


@dataclass(frozen=True)
class Style:
    """How an arm is drawn everywhere in a report."""

    color: str  # "#rrggbb"
    css: str  # the same colour as a CSS variable that follows the reader's light or dark theme
    dash: str | tuple[float, tuple[float, ...]]
    marker: str


def styles(arms: Sequence[str], baseline: str | None) -> dict[str, Style]:
    """A style for each arm: grey for the baseline, then the palette in order."""
    others = [arm for arm in arms if arm != baseline]
    found = {} if baseline is None else {baseline: Style(BASELINE, "var(--baseline)", "solid", "o")}
    for i, arm in enumerate(others):
        turn, k = divmod(i, len(COLORS))
        found[arm] = Style(COLORS[k], f"var(--arm{k})", DASHES[turn % 3], tuple(MARKERS)[(i + 1) % len(MARKERS)])
    return found


def curve_svg(
    curves: Sequence[Curve],
    looks: Mapping[str, Style],
    label: str,
    *,
    scale: float = 1.0,
    pool: float = float("nan"),
    full: float = float("nan"),
    baseline: str | None = None,
    salt: str = "",
) -> str:
    """A figure over labeled images: means with markers, bands of one standard deviation, a thin line for each seed.

    ``scale`` multiplies y (100 = per cent), ``pool`` is the number of images that are 100 % of x, ``full`` the fully
    trained figure, drawn where it lies near the curves. An arm that buys nothing stands, dotted, at the baseline's
    places, since it has had the same training there.
    """
    with matplotlib.rc_context(options(salt)):
        longest = max((len(c.arm) for c in curves), default=0)
        figure, axes = _sheet(longest)
        places = _places(curves, baseline)
        for curve in curves:
            _draw(axes, curve, places[curve.arm], looks[curve.arm], scale)
        _dress(axes, curves, places, label, scale, pool, full, baseline)
        known = {c.arm: c.mean[np.isfinite(c.mean)] * scale for c in curves}
        _name_ends(axes, {arm: float(values[-1]) for arm, values in known.items() if values.size}, looks)
        return svg_text(figure)


def scaling_svg(series: Mapping[str, Sequence[tuple[int, float, float, float]]], label: str) -> str:
    """A figure of images a second over workers: for each series (workers, slowest, median, fastest), and the ideal.

    The ideal goes from the best median of the fewest workers, in proportion to their number.
    """
    looks = styles(list(series), None)
    every = [point for points in series.values() for point in points]
    fewest = min(point[0] for point in every)
    counts = sorted({point[0] for point in every})
    each = max(median for count, _, median, _ in every if count == fewest) / fewest
    with matplotlib.rc_context(options("scaling")):
        figure, axes = _sheet(max(map(len, series)), 0.14, 0.72)
        for name, points in series.items():
            count, low, median, high = np.array(sorted(points), dtype=np.float64).T
            look = looks[name]
            axes.fill_between(count, low, high, color=look.color, alpha=0.14, linewidth=0, zorder=1)
            axes.errorbar(
                count, median, [median - low, high - median], color=look.color, linewidth=2.1, linestyle=look.dash,
                marker=look.marker, markersize=6, markeredgecolor=PAPER, markeredgewidth=1, elinewidth=1.2, zorder=3,
            )  # fmt: skip
        plain_axes(axes, label, 21)
        axes.annotate(
            "images a second", (0, 1), xycoords="axes fraction", xytext=(0, 7), textcoords="offset points", color=SOFT,
            fontsize=8.5,
        )  # fmt: skip
        axes.set_xlabel("workers", color=SOFT)
        width = counts[-1] - fewest or 1
        if len(counts) > 1:
            axes.plot(counts, each * np.array(counts), color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
            axes.annotate(
                "in proportion", (counts[-1], each * counts[-1]), xytext=(-4, 5), textcoords="offset points",
                color=SOFT, fontsize=8.5, ha="right",
            )  # fmt: skip
        shown = [counts[-1]]
        for count in reversed(counts):  # small numbers stand close together beside large ones
            shown += [count] if shown[-1] - count > 0.035 * width else []
        axes.set_xticks(shown[::-1])
        axes.set_xlim(fewest - 0.06 * width, counts[-1] + 0.06 * width)
        axes.set_ylim(0, 1.05 * max(each * counts[-1], *(point[3] for point in every)))
        _name_ends(axes, {name: max(points)[2] for name, points in series.items()}, looks)
        return svg_text(figure)


def options(salt: str) -> dict[Any, Any]:
    """What matplotlib must be told so that equal drawings are equal bytes; ``salt`` makes ids differ on one page."""
    return {
        "svg.hashsalt": f"mtal-{salt}", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9.5,
        "text.parse_math": False,
    }  # fmt: skip


def _sheet(longest: int, bottom: float = 0.17, height: float = 0.73) -> tuple[Figure, Axes]:
    """An empty figure with room on the right for names of so many letters."""
    figure = Figure(figsize=(7.2, 3.9), facecolor=PAPER)
    right = 1 - min(0.30, 0.05 + 0.0118 * longest)
    return figure, figure.add_axes((0.085, bottom, right - 0.085, height), facecolor=PAPER)


def svg_text(figure: Figure) -> str:
    """The figure as SVG, without a date."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor=PAPER, metadata={"Date": None, "Creator": "mtal"})
    return buffer.getvalue()


def inline(svg: str, name: str, description: str) -> str:
    """The SVG for a page: own ids, colours that follow the theme, the page's font, a text to read aloud."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" role="img" aria-label="{label}">', body)
    body = body.replace("{label}", escape(description, quote=True), 1)
    names = {PAPER: "paper", INK: "ink", SOFT: "soft", RULE: "rule", BASELINE: "baseline"}
    names.update({color: f"arm{k}" for k, color in enumerate(COLORS)})
    for color, variable in names.items():
        body = body.replace(color, f"var(--{variable})")
    return re.sub(r"'?DejaVu Sans'?(, [^;\"]*)?", "inherit", body)


def strip_svg(pair: Paired, look: Style, span: float, scale: float) -> str:
    """The differences of the seeds at the last cycle on a line from -span to +span: a dot each, a bar at the mean."""
    wide, high, middle = 220, 24, 12

    def at(value: float) -> str:
        return f"{wide / 2 + float(np.clip(value / span, -1, 1)) * (wide / 2 - 8):.1f}"

    values = pair.difference[:, -1]
    mean = pair.mean[-1] * scale
    marks = [f'<line x1="{wide / 2}" x2="{wide / 2}" y1="1" y2="{high - 1}" class="zero"/>']
    if np.isfinite(pair.low[-1]):
        low, end = at(pair.low[-1] * scale), at(pair.high[-1] * scale)
        marks.append(f'<line x1="{low}" x2="{end}" y1="{middle}" y2="{middle}" class="span"/>')
    for value in values[np.isfinite(values)] * scale:
        marks.append(f'<circle cx="{at(value)}" cy="{middle}" r="3.5" fill="{look.css}" fill-opacity=".55"/>')
    if np.isfinite(mean):
        marks.append(
            f'<line x1="{at(mean)}" x2="{at(mean)}" y1="4" y2="{high - 4}" stroke="{look.css}" stroke-width="3"/>'
        )
    text = ", ".join(f"{v * scale:+.1f}" for v in values)
    label = escape(f"differences of {pair.arm} to {pair.baseline} by seed: {text}", quote=True)
    return f'<svg class="strip" viewBox="0 0 {wide} {high}" role="img" aria-label="{label}">{"".join(marks)}</svg>'


def _places(curves: Sequence[Curve], baseline: str | None) -> dict[str, NDArray[np.float64]]:
    """Where each arm's points stand on x: at its labels; a control's at those of the baseline's cycles."""
    growing = [c for c in curves if c.buys]
    model = next((c for c in growing if c.arm == baseline), growing[0] if growing else None)
    places = {}
    for curve in curves:
        borrows = not curve.buys and model is not None and 1 < curve.x.size <= model.x.size
        places[curve.arm] = model.x[: curve.x.size] if borrows and model is not None else curve.x
    return places


def _draw(axes: Axes, curve: Curve, x: NDArray[np.float64], look: Style, scale: float) -> None:
    mean, sd = curve.mean * scale, curve.sd * scale
    if curve.seeds.size > 1:
        for row in curve.y * scale:
            axes.plot(x, row, color=look.color, alpha=0.38, linewidth=0.8, zorder=2)
        axes.fill_between(x, mean - sd, mean + sd, color=look.color, alpha=0.12, linewidth=0, zorder=1)
    axes.plot(
        x, mean, color=look.color, linewidth=2.1, linestyle=look.dash if curve.buys else CONTROL, marker=look.marker,
        markersize=6, markeredgecolor=PAPER, markeredgewidth=1, zorder=3,
    )  # fmt: skip


def _dress(
    axes: Axes,
    curves: Sequence[Curve],
    places: Mapping[str, NDArray[np.float64]],
    label: str,
    scale: float,
    pool: float,
    full: float,
    baseline: str | None,
) -> None:
    plain_axes(axes, label)
    axes.set_xlabel("labeled images, and their share of the pool" if pool > 0 else "labeled images", color=SOFT)
    shared = places.get(baseline or "", next(iter(places.values()), np.empty(0)))
    low, high = _range(places)
    ticks = np.unique(shared)
    if not 1 < ticks.size <= 8:
        ticks = np.asarray(MaxNLocator(6, integer=True).tick_values(low, high), dtype=np.float64)
    ticks = ticks[(ticks >= low - 1e-9) & (ticks <= high + 1e-9)]
    axes.set_xticks(ticks, [f"{t:,.0f}" + (f"\n{100 * t / pool:.0f} %" if pool > 0 else "") for t in ticks])
    axes.set_xlim(low - 0.02 * (high - low or 1), high + 0.015 * (high - low or 1))
    _limit_height(axes, curves, scale, full)


def plain_axes(axes: Axes, label: str, pad: float = 11) -> None:
    """A title, and no more lines than are read."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=SOFT, pad=5)
    axes.set_title(label, loc="left", color=INK, fontsize=11, fontweight="bold", pad=pad)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))


def _limit_height(axes: Axes, curves: Sequence[Curve], scale: float, full: float) -> None:
    """Room for every finite value, and for the fully trained line where that costs at most a third of the height."""
    values = scale * np.concatenate([np.concatenate([c.y.ravel(), c.mean + c.sd, c.mean - c.sd]) for c in curves])
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    span = high - low or abs(high) * 0.1 or 1.0
    line = full * scale
    if np.isfinite(line) and low - span / 2 < line < high + span / 2:
        axes.axhline(line, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            "fully trained", (0.005, line), xycoords=("axes fraction", "data"), xytext=(0, 3),
            textcoords="offset points", color=SOFT, fontsize=8.5,
        )  # fmt: skip
        low, high = min(low, line), max(high, line)
    axes.set_ylim(low - 0.06 * span, high + 0.08 * span)


def _name_ends(axes: Axes, values: Mapping[str, float], looks: Mapping[str, Style]) -> None:
    """The names at the last values of their lines, pushed apart where they would overlap."""
    ends = [
        (float(axes.transData.transform((0.0, value))[1]) * 72 / axes.figure.dpi, name)
        for name, value in values.items()
    ]
    ends.sort(key=lambda e: (e[0], e[1]))
    wanted = np.array([e[0] for e in ends], dtype=np.float64)
    floor, ceiling = 10.0, float(axes.get_window_extent().y1) * 72 / axes.figure.dpi + 8
    gap = min(12.5, (ceiling - floor) / max(1, len(ends) - 1))
    steps = gap * np.arange(len(ends))
    heights = np.maximum(np.minimum(_apart(wanted, gap), ceiling - steps[::-1]), floor + steps)
    for i, y in enumerate(heights):
        arm = ends[i][1]
        name = f"{MARKERS[looks[arm].marker]} {arm if len(arm) <= 26 else arm[:25] + '…'}"
        axes.annotate(
            name, (1.0, 0.0), xycoords=("axes fraction", "figure points"), xytext=(8, float(y)),
            textcoords=("offset points", "figure points"), color=looks[arm].color, va="center", fontweight="bold",
            fontsize=min(9.5, 0.85 * gap),
        )  # fmt: skip


def _apart(wanted: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """The nearest places in the same order that keep their distance (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []  # mean of (place - i * gap), members
    for i, y in enumerate(wanted):
        mean, count = float(y) - i * gap, 1
        while blocks and blocks[-1][0] >= mean:
            before, members = blocks.pop()
            mean, count = (before * members + mean * count) / (members + count), count + members
        blocks.append((mean, count))
    flat = [mean for mean, count in blocks for _ in range(count)]
    return np.asarray(np.array(flat) + gap * np.arange(len(flat)), dtype=np.float64)


def _range(places: Mapping[str, NDArray[np.float64]]) -> tuple[float, float]:
    values = np.concatenate(list(places.values())) if places else np.zeros(1)
    return float(values.min()), float(values.max())
