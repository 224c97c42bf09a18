"""What the tables of a report hold: numbers as people read them, with their spread, their n and what is missing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.curves import FEW_SEEDS, Curve, Results, column, labeled, mdsq
from orchestrator.statistics import Paired, paired

NAMES = {
    "mdsq": "mDSQ", "detection.map": "mAP", "detection.ap50": "AP50", "segmentation.miou": "mIoU",
    "depth.rmse": "RMSE, m", "instances.map": "mask mAP", "keypoints.oks": "OKS AP",
}  # fmt: skip
PER_CENT = ("mdsq", "detection", "segmentation", "instances", "keypoints")  # first parts of names that are shares
PHASES = ("fit", "evaluate", "score", "select", "explain")
SHOWN = " *"  # behind a figure whose output was an input
NOTHING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


@dataclass(frozen=True)
class ArmRow:
    """An arm at the end of its curve."""

    arm: str
    about: str  # what it overrides
    seeds: tuple[int, ...]
    labeled: str
    share: str  # of the pool
    figures: tuple[str, ...]  # in the order of columns()
    area: str  # under the budget curve
    reach: str  # labeled images at which the mean passes 95 % of the fully trained network


@dataclass(frozen=True)
class Difference:
    """An arm against the baseline at the last cycle, in points of the headline figure."""

    pair: Paired
    mean: str
    interval: str
    by_seed: str


@dataclass(frozen=True)
class CycleRow:
    cycle: int
    labeled: str
    share: str
    figures: tuple[str, ...]
    difference: str  # to the baseline at the same cycle


@dataclass(frozen=True)
class ArmCycles:
    arm: str
    n: int
    rows: tuple[CycleRow, ...]


@dataclass(frozen=True)
class Cell:
    text: str
    bar: float  # per cent of the cell's width


@dataclass(frozen=True)
class Grid:
    """A table with a name in front of each row."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


# ---- numbers ----------------------------------------------------------------------------------------------------


def name_of(metric: str) -> str:
    return NAMES.get(metric, metric)


def scale_of(metric: str) -> float:
    """100 for shares, which are shown as per cent; 1 for figures with a unit."""
    return 100.0 if metric.partition(".")[0] in PER_CENT else 1.0


def number(value: float, metric: str, signed: bool = False) -> str:
    """``18.5`` of a share of .185, three digits of a figure with a unit, a dash where it is not defined."""
    if not math.isfinite(value):
        return NOTHING
    digits = 1 if scale_of(metric) == 100 else 3
    text = f"{value * scale_of(metric):{'+' if signed else ''}.{digits}f}"
    return text.replace("-", MINUS)


def spread(mean: float, sd: float, metric: str) -> str:
    """``18.5 ± 1.2``; the mean alone where there is one seed."""
    tail = f" ± {number(sd, metric)}" if math.isfinite(sd) and math.isfinite(mean) else ""
    return number(mean, metric) + tail


def mean_and_sd(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and n - 1 deviation of one figure over seeds; NaN for the deviation of one."""
    if not values.size:
        return math.nan, math.nan
    return float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else math.nan


def columns(results: Results) -> list[str]:
    """The figures of the main tables: mDSQ, each task's main one, and AP50 beside mAP."""
    wanted = ["mdsq"]
    for metric in results.main_metrics:
        wanted += [metric, "detection.ap50"] if metric == "detection.map" else [metric]
    return [m for m in wanted if m in results.metrics]


def drawn(results: Results) -> list[str]:
    """The figures that get curves: mDSQ and each task's main one; none before the first complete trial."""
    return [m for m in ("mdsq", *results.main_metrics) if m in results.metrics and results.curves(m)]


def figure(results: Results, arm: str, mean: float, sd: float, metric: str) -> str:
    """``18.5 ± 1.2``, marked where the arm's network was shown what it answers: such a figure is not compared."""
    return spread(mean, sd, metric) + (SHOWN if results.is_shown(arm, metric) and math.isfinite(mean) else "")


def share(images: float, results: Results) -> str:
    return f"{100 * images / results.pool:.0f} %" if results.pool > 0 and math.isfinite(images) else ""


# ---- tables -----------------------------------------------------------------------------------------------------


def headline(results: Results) -> list[ArmRow]:
    """A row for each arm with a complete seed: its last cycle."""
    by_metric = {m: {c.arm: c for c in results.curves(m)} for m in columns(results)}
    rows = []
    for curve in results.curves(results.headline) if results.headline else []:
        metric = str(results.headline)
        own = [by_metric[m][curve.arm] for m in by_metric]
        reach = curve.labels_to_reach(0.95) if metric == "mdsq" else math.nan
        rows.append(
            ArmRow(
                arm=curve.arm,
                about=about(results, curve.arm),
                seeds=tuple(curve.seeds.tolist()),
                labeled=f"{curve.x[-1]:,.0f}",
                share=share(curve.x[-1], results),
                figures=tuple(
                    figure(results, c.arm, c.mean[-1], c.sd[-1], m) for m, c in zip(by_metric, own, strict=True)
                ),
                area=spread(*mean_and_sd(curve.area()), metric),
                reach=f"{reach:,.0f}" if math.isfinite(reach) else NOTHING,
            )
        )
    return rows


def fully_trained(results: Results) -> ArmRow | None:
    """The reference as a row: its own spread over seeds is the noise that every other row has too."""
    reference = results.reference
    if reference is None or not reference.metrics:
        return None
    each = list(reference.per_seed.values()) or [reference.metrics]
    figures = []
    for metric in columns(results):
        if metric == "mdsq":
            values = [mdsq(row, reference.metrics, reference.higher_is_better) for row in each]
        else:
            values = [row.get(metric, reference.metrics.get(metric, math.nan)) for row in each]
        figures.append(spread(*mean_and_sd(np.array(values)), metric))
    steps = f"{reference.steps:,} steps on the whole pool" if reference.steps else "the whole pool"
    return ArmRow(
        arm="fully trained", about=steps, seeds=reference.seeds, labeled=f"{results.pool:,.0f}",
        share=share(results.pool, results), figures=tuple(figures), area="", reach="",
    )  # fmt: skip


def differences(results: Results) -> list[Difference]:
    """Each arm against the baseline, seed by seed, at the last cycle that both have; not those with a mark."""
    metric = results.headline
    found = [c for c in results.curves(metric) if not results.is_shown(c.arm, metric)] if metric else []
    base = next((c for c in found if c.arm == results.baseline), None)
    rows = []
    for curve in found:
        pair = paired(curve, base) if base is not None and curve.arm != base.arm else None
        if pair is not None and metric is not None:
            by_seed = ", ".join(number(d, metric, signed=True) for d in pair.difference[:, -1])
            rows.append(Difference(pair, number(pair.mean[-1], metric, True), interval(pair, -1, metric), by_seed))
    return rows


def interval(pair: Paired, point: int, metric: str) -> str:
    if not math.isfinite(pair.low[point]):
        return NOTHING
    return f"{number(pair.low[point], metric, True)} to {number(pair.high[point], metric, True)}"


def cycle_table(results: Results) -> list[ArmCycles]:
    """Every cycle of every arm."""
    metrics = columns(results)
    found = {m: {c.arm: c for c in results.curves(m)} for m in metrics}
    if not metrics:
        return []
    base = found[metrics[0]].get(results.baseline or "")
    arms = []
    for arm, first in found[metrics[0]].items():
        compared = base is not None and not any(results.is_shown(a, metrics[0]) for a in (arm, base.arm))
        pair = paired(first, base) if base is not None and first is not base and compared else None
        rows = tuple(
            _cycle_row(results, [found[m][arm] for m in metrics], metrics, pair, k) for k in range(first.x.size)
        )
        arms.append(ArmCycles(arm, first.seeds.size, rows))
    return arms


def _cycle_row(results: Results, own: Sequence[Curve], metrics: Sequence[str], pair: Paired | None, k: int) -> CycleRow:
    figures = tuple(figure(results, c.arm, c.mean[k], c.sd[k], m) for m, c in zip(metrics, own, strict=True))
    images = own[0].x[k]
    known = pair is not None and k < pair.mean.size
    difference = number(pair.mean[k], metrics[0], signed=True) if pair is not None and known else ""
    return CycleRow(k, f"{images:,.0f}", share(images, results), figures, difference)


def class_tables(results: Results) -> list[Grid]:
    """A grid for each figure given by class ("detection.ap/car"): last cycle, mean over seeds, an arm a column."""
    groups: dict[str, list[str]] = {}
    for metric in results.metrics:
        if "/" in metric:
            groups.setdefault(metric.partition("/")[0], []).append(metric)
    titles = {"detection.ap": "Detection: AP by class, %", "segmentation.iou": "Segmentation: IoU by class, %"}
    return [_class_grid(results, titles.get(g, f"{g} by class"), metrics) for g, metrics in groups.items()]


def _class_grid(results: Results, title: str, metrics: Sequence[str]) -> Grid:
    reference = results.reference
    each = list(reference.per_seed.values()) if reference else []
    arms = [c.arm for c in results.curves(metrics[0])]
    rows = []
    for metric in metrics:
        found = {c.arm: float(c.mean[-1]) for c in results.curves(metric)}
        values = [found.get(arm, math.nan) for arm in arms]
        if each:
            values.append(float(np.mean([row.get(metric, math.nan) for row in each])))
        cells = tuple(
            Cell(number(v, metric), 100 * min(1.0, max(0.0, v)) if scale_of(metric) == 100 and v == v else 0.0)
            for v in values
        )
        rows.append((metric.partition("/")[2], cells))
    return Grid(title, (*arms, *(["fully trained"] if each else [])), tuple(rows))


def cost_table(results: Results) -> Grid | None:
    """Seconds of a whole trial by phase, passes an image and cost of the labels: means over complete seeds."""
    found = results.curves(results.headline) if results.headline else []
    names = results.table.column_names
    spent = [n.partition(".")[2] for n in names if n.startswith("seconds.")]
    phases = [p for p in PHASES if p in spent] + [p for p in spent if p not in PHASES]
    units = [n.partition(".")[2] for n in names if n.startswith("cost.")]
    if not found or not (phases or units):
        return None
    arms = np.array(results.table.column("arm").to_pylist(), dtype=object)
    seeds, cycles = column(results.table, "seed"), column(results.table, "cycle")
    rows = []
    for curve in found:
        mine = (arms == curve.arm) & np.isin(seeds, curve.seeds)
        last = mine & (cycles == curve.x.size - 1)
        by_phase = [float(np.nansum(column(results.table, f"seconds.{p}")[mine])) / curve.seeds.size for p in phases]
        texts = [f"{s:,.0f}" if s >= 10 or s == 0 else f"{s:.1f}" for s in (*by_phase, sum(by_phase))]
        if "forwards" in names:
            passes = column(results.table, "forwards")[mine]
            passes = passes[passes > 0]
            texts.append(f"{passes.mean():.2f}" if passes.size else "0")
        for unit in units:
            amount = float(column(results.table, f"cost.{unit}")[last].mean())
            texts.append(f"{amount / 3600:,.1f}" if unit == "seconds" else f"{amount:,.0f}")
        rows.append((curve.arm, tuple(Cell(t, 0.0) for t in texts)))
    passes_head = ("passes an image",) if "forwards" in names else ()
    costs = tuple("labeling hours" if u == "seconds" else f"labeled {u}" for u in units)
    return Grid("Cost", (*(f"{p}, s" for p in phases), "total, s", *passes_head, *costs), tuple(rows))


# ---- words ------------------------------------------------------------------------------------------------------


def about(results: Results, arm: str) -> str:
    """What an arm overrides, in a line: ``boxmask (tau 0.3), train.steps 100``."""
    overrides = (results.experiment.get("arms") or {}).get(arm)
    parts = []
    for key, value in overrides.items() if isinstance(overrides, Mapping) else ():
        if isinstance(value, Mapping) and "name" in value:
            options = ", ".join(f"{k} {v}" for k, v in value.items() if k != "name")
            value = f"{value['name']} ({options})" if options else value["name"]
        parts.append(str(value) if key == "strategy" else f"{key} {value}")
    return ", ".join(parts)


def lede(results: Results) -> str:
    """What was compared, in plain sentences; what the settings do not say is left out."""
    setting = results.setting
    cycles, amount, steps = setting("active.cycles"), setting("active.budget.amount"), setting("train.steps")
    pool = f" of a pool of {results.pool:,.0f}" if results.pool > 0 else ""
    sentences = [
        f"{count(len(results.arms), 'arm')}, {count(len(results.seeds), 'seed')}: which images{pool} to label next?"
    ]
    first = labeled(results.table)[column(results.table, "cycle") == 0] if results.table.num_rows else np.empty(0)
    if first.size and isinstance(amount, int | float) and isinstance(cycles, int):
        bought = round(amount * results.pool) if 0 < amount < 1 and results.pool > 0 else amount
        then = f"buy {bought:,.0f} more images in each of {count(cycles, 'cycle')}" if cycles else "buy no more"
        start = f"the same {first.mean():,.0f} labeled images and the same first model"
        if np.ptp(first):  # arms with numbers of their own
            start = f"{first.min():,.0f} to {first.max():,.0f} labeled images (the mean over their tasks)"
        sentences.append(f"With each seed all arms start from {start}, and {then}.")
    if isinstance(steps, int):
        begin = setting("train.first_steps") or steps
        kept = "from fresh weights" if setting("active.warm_start") is False else "from the weights before"
        sentences.append(f"The network is trained for {begin:,} steps at first, then {steps:,} each cycle, {kept}.")
    return " ".join(sentences)


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def split_words(results: Results) -> str:
    """Which images the figures were measured on, and what that means."""
    split = results.reference.split if results.reference else ""
    images = mapping(mapping(results.environment.get("data")).get("images")).get(split)
    many = f" ({images:,} images)" if isinstance(images, int) else ""
    looks = results.setting("train.evaluations")
    chosen = isinstance(looks, int) and looks > 1
    if split == "test":
        how = "checkpoints were chosen on the validation split" if chosen else "of each cycle, the last checkpoint"
        return f"All figures are measured on the test split{many}; {how}."
    if split and chosen:
        return (
            f"All figures are measured on the split {split!r}{many}, on which the checkpoints were chosen too, because "
            "the data set has no test split: they are optimistic."
        )
    if split:
        return f"All figures are measured on the split {split!r}{many}; of each cycle, the last checkpoint."
    return "The run has not recorded on which split its figures were measured."


def denominators(results: Results) -> str:
    """What 100 % of mDSQ is."""
    reference = results.reference
    if reference is None or not reference.metrics:
        return "The run has no fully trained reference, hence no mDSQ."
    figures = ", ".join(f"{name_of(m)} {number(v, m)}" for m, v in reference.metrics.items())
    steps = f" after {reference.steps:,} steps" if reference.steps else ""
    seeds = ", ".join(str(s) for s in reference.seeds) or "not recorded"
    return f"100 % of mDSQ is the network trained on the whole pool: {figures}{steps} (mean over seeds {seeds}; " + (
        f"split {reference.split})." if reference.split else "split not recorded)."
    )


def caution(results: Results, rows: Sequence[Difference]) -> str:
    """What the differences may be called."""
    if not rows:
        return ""
    least, most = (f(row.pair.seeds.size for row in rows) for f in (min, max))
    text = (
        f"Differences are taken seed by seed, since the arms of a seed share their first labels and first model; "
        f"intervals are paired t, 95 %, for each arm alone (no correction for {count(len(rows), 'comparison')})."
    )
    if least < FEW_SEEDS:
        n = count(most, "seed") if least == most else f"{least} to {most} seeds"
        text += (
            f" With {n} no pattern of signs reaches p < 0.05 (that takes {FEW_SEEDS} seeds): "
            "read them as what happened in this run, not as significant."
        )
    return text


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, text) pairs."""
    rows: list[tuple[str, str]] = []
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            rows += flat(inner, f"{prefix}{key}.")
        else:
            text = ", ".join(map(str, inner)) if isinstance(inner, list | tuple) else str(inner)
            rows.append((f"{prefix}{key}", "none" if inner is None else text))
    return rows
