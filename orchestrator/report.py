"""What people look at: one self-contained page, curves, a tidy file, and the table of the terminal. No torch."""

import base64
import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from markupsafe import Markup
from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.table import Table

from orchestrator import tables
from orchestrator.curves import Curve, Results, column, labeled
from orchestrator.errors import RunError
from orchestrator.figures import Style, curve_svg, inline, strip_svg, styles
from orchestrator.footnotes import footnotes
from orchestrator.pages import template
from orchestrator.store import RunFolder, read_json, write_text
from orchestrator.studies import heads
from tasks.data.files import Place, leads_below, relative_uri

TITLES = {
    "mdsq": "mDSQ, % of the fully trained network",
    "detection.map": "Detection: mAP (IoU .50 to .95), %",
    "segmentation.miou": "Segmentation: mIoU, %",
}
PICKS = 6  # pictures of a purchase
BIAS = (
    "These street scenes are synthetic and favour uncertainty scores by construction: common scenes are easy and "
    "repeated (near-duplicates of one drive), rare ones are hard and short, and the validation mix is flatter than the "
    "pool's. A lead over random says less here than the same lead on real images."
)


def write_report(folder: Place) -> Place:
    """The path of ``report.html``; ``curves.csv`` and ``curves_<metric>.svg`` lie beside it, each written atomically.

    Answers for every run folder that has a ``cycles.parquet``, finished or not; RunError for any other.
    """
    results = Results.load(folder)
    looks = styles(results.arms, results.baseline)
    drawings = {metric: _drawing(results, metric, looks) for metric in tables.drawn(results)}
    for metric, svg in drawings.items():
        write_text(folder / f"curves_{metric}.svg", svg)
    write_text(folder / "curves.csv", _tidy(results))
    write_text(folder / "report.html", _page(results, looks, drawings))
    return folder / "report.html"


def terminal_table(results: Results) -> Table:
    """The figures of every arm and cycle, mean ± sd over its complete seeds; the denominators stand in the caption."""
    caption = tables.denominators(results)
    if results.missing:
        lost = ", ".join(f"{m.arm} seed {m.seed}" for m in results.missing)
        caption += f"\nWithout a full curve, hence in no mean: {lost}."
    caption = "\n".join([caption, *footnotes(results)])
    table = Table(
        title=f"{results.name}: mean ± sd over n seeds", title_justify="left", caption=caption, caption_justify="left",
        box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False,
    )  # fmt: skip
    for title in ("arm", "cycle", "labeled", *(tables.name_of(m) for m in tables.columns(results))):
        table.add_column(title, justify="left" if title == "arm" else "right", no_wrap=True)
    for arm in tables.cycle_table(results):
        for row in arm.rows:
            first = f"{arm.arm} [dim]n={arm.n}[/dim]" if row.cycle == 0 else ""
            figures = [figure.replace(" ± ", "±") for figure in row.figures]
            table.add_row(first, str(row.cycle), f"{row.labeled} {row.share}".strip(), *figures)
        table.add_section()
    return table


# ---- the page ---------------------------------------------------------------------------------------------------


def _page(results: Results, looks: Mapping[str, Style], drawings: Mapping[str, str]) -> str:
    differences = tables.differences(results)
    data = tables.mapping(results.environment.get("data"))
    return template("report.html").render(
        results=results, looks=looks, lede=tables.lede(results), missing=results.missing,
        split=tables.split_words(results), denominators=tables.denominators(results),
        figures=[tables.name_of(m) for m in tables.columns(results)], unit=tables.name_of(results.headline or ""),
        headline=tables.headline(results), full=tables.fully_trained(results),
        differences=differences, strips=_strips(results, differences, looks),
        caution=tables.caution(results, differences), footnotes=footnotes(results),
        drawings=_inlined(results, drawings),
        controls=[c.arm for c in _headline_curves(results) if not c.buys and c.x.size > 1],
        cycles=tables.cycle_table(results), grids=tables.class_tables(results), cost=tables.cost_table(results),
        heads=[(heads.title(c), heads.rows(c), heads.notes(c)) for c in heads.kept(results.folder)],
        heads_head=heads.HEAD,
        galleries=list(_galleries(results)), picks=PICKS,
        bias=BIAS if tables.mapping(results.experiment.get("data")).get("name") == "streets" else "",
        images=tables.flat(tables.mapping(data.get("images"))), knobs=tables.flat(tables.mapping(data.get("adapter"))),
        environment=tables.flat({k: v for k, v in results.environment.items() if k != "data"}),
        settings=yaml.safe_dump(dict(results.experiment), sort_keys=False, allow_unicode=True, width=100),
    )  # fmt: skip


def _headline_curves(results: Results) -> list[Curve]:
    return results.curves(results.headline) if results.headline else []


def _drawing(results: Results, metric: str, looks: Mapping[str, Style]) -> str:
    full = (
        1.0 if metric == "mdsq" else results.reference.metrics.get(metric, math.nan) if results.reference else math.nan
    )
    return curve_svg(
        results.curves(metric), looks, TITLES.get(metric, tables.name_of(metric)), scale=tables.scale_of(metric),
        pool=results.pool, full=full, baseline=results.baseline, salt=metric,
    )  # fmt: skip


def _inlined(results: Results, drawings: Mapping[str, str]) -> list[tuple[str, Markup]]:
    """Each drawing for the page, with its curves in words for those who cannot see it."""
    found = []
    for i, (metric, svg) in enumerate(drawings.items()):
        ends = [
            f"{c.arm} from {tables.number(c.mean[0], metric)} at {c.x[0]:,.0f} images "
            f"to {tables.number(c.mean[-1], metric)} at {c.x[-1]:,.0f}"
            for c in results.curves(metric)
        ]
        text = f"{tables.name_of(metric)} over labeled images: " + ("; ".join(ends) or "no complete curve")
        found.append((metric, Markup(inline(svg, f"figure{i}", text))))
    return found


def _strips(results: Results, differences: list[tables.Difference], looks: Mapping[str, Style]) -> dict[str, Markup]:
    """A small drawing of each arm's differences, all on one scale."""
    scale = tables.scale_of(results.headline or "")
    values = np.concatenate([[0.0], *(row.pair.difference[:, -1] * scale for row in differences)])
    values = values[np.isfinite(values)]
    span = 1.15 * float(np.abs(values).max()) or 1.0
    return {row.pair.arm: Markup(strip_svg(row.pair, looks[row.pair.arm], span, scale)) for row in differences}


# ---- galleries --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """A picked image as the page shows it."""

    rank: int  # from 1
    id: str
    value: str
    parts: tuple[tuple[str, str], ...]
    source: str  # data URI; empty where the picture is not readable


@dataclass(frozen=True)
class Purchase:
    """The first pictures of what an arm bought after one cycle."""

    arm: str
    seed: int
    cycle: int
    total: int  # pictures in the run folder
    shots: tuple[Shot, ...]
    trouble: str = ""


def _galleries(results: Results) -> Iterator[list[Purchase]]:
    """For each arm that has pictures: the first and the last purchase of its first seed that has any."""
    run = RunFolder(results.folder)
    for arm in results.arms:
        for seed in results.seeds:
            trial = run.trial(arm, seed)
            if not leads_below(trial, results.folder):
                continue  # a name from a foreign file must not lead out of the run folder
            found = {_index(p): p for p in trial.glob("cycle_*/gallery/gallery.json")}
            chosen = sorted({min(found), max(found)}) if found else []
            if chosen:
                yield [_purchase(arm, seed, cycle, found[cycle]) for cycle in chosen]
                break


def _index(path: Place) -> int:
    text = path.parent.parent.name.removeprefix("cycle_")
    return int(text) if text.isdecimal() else -1


def _purchase(arm: str, seed: int, cycle: int, path: Place) -> Purchase:
    try:
        rows = sorted(read_json(path), key=lambda row: int(row["rank"]))
        shots = tuple(_shot(path.parent, row) for row in rows[:PICKS])
    except (RunError, KeyError, TypeError, ValueError):
        return Purchase(arm, seed, cycle, 0, (), f"{relative_uri(path, path.parents[4])} is not readable")
    return Purchase(arm, seed, cycle, len(rows), shots)


def _shot(folder: Place, row: Mapping[str, Any]) -> Shot:
    parts = tuple((str(k), _short(v)) for k, v in tables.mapping(row.get("parts")).items())
    name = str(row.get("panel") or "")
    source = _picture(folder / name) if name and Path(name).name == name else ""
    return Shot(int(row["rank"]) + 1, str(row["id"]), _short(row.get("value")), parts, source)


def _picture(path: Place) -> str:
    """A data URI: as JPEG, since a page of PNGs would be four times as heavy; the PNG stays in the run folder."""
    buffer = io.BytesIO()
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as picture:
            picture.convert("RGB").save(buffer, format="JPEG", quality=85, subsampling=0, optimize=True)
    except (OSError, ValueError):
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _short(value: Any) -> str:
    return f"{value:.4g}".replace("-", tables.MINUS) if isinstance(value, int | float) else "last"


# ---- the tidy file ----------------------------------------------------------------------------------------------


def _tidy(results: Results) -> str:
    """Every figure of every trial, complete or not: arm, seed, cycle, labeled, metric, value (empty = not defined)."""
    table = results.table
    known = [n for n in table.column_names if "." in n and not n.startswith("labeled.")]
    metrics = ["mdsq"] * ("mdsq" in table.column_names) + known + ["forwards"] * ("forwards" in table.column_names)
    arms, seeds, cycles = (table.column(n).to_pylist() for n in ("arm", "seed", "cycle"))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["arm", "seed", "cycle", "labeled", "metric", "value"])
    for metric in metrics if table.num_rows else ():
        images, values = labeled(table, metric), column(table, metric)
        for row in zip(arms, seeds, cycles, images, values, strict=True):
            value = repr(float(row[4])) if np.isfinite(row[4]) else ""
            writer.writerow([*row[:3], f"{row[3]:g}", metric, value])
    return buffer.getvalue()
