"""What people look at: one self-contained page, curves, a tidy table, and the table of the terminal. No torch."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich.table import Table

from orchestrator.curves import FEW_SEEDS, Results, column, labeled
from orchestrator.figures import Style, inline, styles
from orchestrator.store import write_text

NAMES = {
    "mdsq": "mDSQ", "detection.map": "mAP", "detection.ap50": "AP50", "detection.ap75": "AP75",
    "segmentation.miou": "mIoU", "depth.rmse": "RMSE, m", "instances.map": "mask mAP", "keypoints.oks": "OKS AP",
}  # fmt: skip
TITLES = {
    "mdsq": "mDSQ: both tasks, in % of the fully trained network",
    "detection.map": "Detection: mAP (COCO, IoU .50 to .95), %",
    "segmentation.miou": "Segmentation: mIoU, %",
}
PER_CENT = ("mdsq", "detection", "segmentation", "instances", "keypoints")  # shown times 100
PHASES = ("fit", "evaluate", "score", "select", "explain")
PICKS = 6  # pictures shown of a purchase; of each arm the first and the last purchase of one seed
BIAS = (
    "These street scenes are synthetic, and they favour uncertainty scores by construction: common scenes are easy and "
    "repeated (near-duplicates of one drive), rare ones are hard and short, and the validation mix is flatter than the "
    "pool's. A lead over random here says less than the same lead on real images."
)


def write_report(folder: Path) -> Path:
    """The path of ``report.html``, with ``curves.csv`` and ``curves_<metric>.svg`` beside it, each written atomically.

    Answers for any run folder that has a ``cycles.parquet``, finished or not; RunError for any other.
    """
    results = Results.load(folder)
    looks = styles(results.arms, results.baseline)
    drawings = {metric: _drawing(results, metric, looks) for metric in _figures(results)}
    for metric, svg in drawings.items():
        write_text(folder / f"curves_{metric}.svg", svg)
    write_text(folder / "curves.csv", _tidy(results))
    write_text(folder / "report.html", render(results, looks, drawings))
    return folder / "report.html"


def render(results: Results, looks: Mapping[str, Style], drawings: Mapping[str, str]) -> str:
    """The page as HTML; every name from outside is escaped by the template."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    figures = _figures(results)
    return environment.get_template("report.html").render(
        r=results, looks=looks, lede=lede(results), missing=results.missing, split=_split(results),
        names=[name_of(m) for m in figures], shown=[name_of(m) for m in _columns(results)],
        headline=_headline(results), differences=_differences(results, looks), few=FEW_SEEDS,
        drawings=[
            (m, Markup(inline(svg, f"f{i}", _spoken(results, m)))) for i, (m, svg) in enumerate(drawings.items())
        ],
        cycles=_cycles(results), classes=_class_tables(results), galleries=_galleries(results), picks=PICKS,
        cost=_cost(results), reference=_reference(results),
        bias=BIAS if _data_name(results) == "streets" else "",
        data=_flat({k: v for k, v in _mapping(results.environment.get("data")).items() if k != "images"}),
        images=_mapping(_mapping(results.environment.get("data")).get("images")),
        environment=_flat({k: v for k, v in results.environment.items() if k != "data"}),
        settings=yaml.safe_dump(dict(results.experiment), sort_keys=False, allow_unicode=True),
    )  # fmt: skip


def terminal_table(results: Results) -> Table:
    """The figures of every arm and cycle, mean ± sd over its complete seeds, denominators in the caption."""
    reference = _reference(results)
    caption = f"on {results.name}, {_split(results)['short']}; " + (reference["text"] if reference else "no reference")
    if results.missing:
        lost = ", ".join(f"{m.arm} seed {m.seed}" for m in results.missing)
        caption += f"\nwithout a full curve, hence not in the means: {lost}"
    table = Table(caption=caption, caption_justify="left")
    for title in ("arm", "n", "cycle", "labeled", *(name_of(m) for m in _columns(results))):
        table.add_column(title, justify="left" if title == "arm" else "right", no_wrap=True)
    for arm in _cycles(results):
        for i, row in enumerate(arm["rows"]):
            first = (arm["arm"], str(arm["n"])) if i == 0 else ("", "")
            table.add_row(*first, str(row["cycle"]), f"{row['labeled']} {row['share']}".strip(), *row["figures"])
        table.add_section()
    return table


# ---- words and numbers ------------------------------------------------------------------------------------------------


def name_of(metric: str) -> str:
    return NAMES.get(metric, metric)


def scale_of(metric: str) -> float:
    """100 for shares, which are shown as per cent; 1 for figures with a unit."""
    return 100.0 if metric.partition(".")[0] in PER_CENT else 1.0


def spread(mean: float, sd: float, metric: str) -> str:
    """``18.5 ± 1.2``; without the spread for one seed, an en dash where nothing is defined."""
    digits, scale = (1, 100.0) if scale_of(metric) == 100 else (3, 1.0)
    if not math.isfinite(mean):
        return "–"
    return f"{mean * scale:.{digits}f}" + (f" ± {sd * scale:.{digits}f}" if math.isfinite(sd) else "")


def lede(results: Results) -> list[str]:
    """What was compared, in plain sentences; what the settings do not say is left out."""
    setting, sentences = results.setting, []
    start = labeled(results.table)[column(results.table, "cycle") == 0] if results.table.num_rows else np.empty(0)
    arms, amount, cycles = len(results.arms), setting("active.budget.amount"), setting("active.cycles")
    pool = f" of a pool of {results.pool:,.0f}" if results.pool > 0 else ""
    sentences.append(f"{_count(arms, 'arm')} chose which images{pool} to label next.")
    if start.size and isinstance(amount, int | float) and cycles is not None:
        bought = round(amount * results.pool) if 0 < amount < 1 and results.pool > 0 else amount
        sentences.append(
            f"With each seed all of them started from the same {start.mean():,.0f} labeled images, and bought "
            f"{bought:,.0f} more in each of {_count(cycles, 'cycle')}."
        )
    steps, first, warm = setting("train.steps"), setting("train.first_steps"), setting("active.warm_start")
    if steps is not None:
        again = "from the weights before" if warm else "from fresh weights"
        sentences.append(
            f"The same network was trained for {first or steps} steps at first, then {steps} more each cycle."
        )
        sentences[-1] = sentences[-1] if warm is not False else (
            f"The same network was trained for {first or steps} steps at first, then {steps} steps {again} each cycle."
        )  # fmt: skip
    return sentences


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
