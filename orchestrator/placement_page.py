"""mtal place: the parts that a network finds as a table, as pictures with axes and verdicts, and as one page."""

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from orchestrator import __version__
from orchestrator.checkpoints import Card, load_model
from orchestrator.drawing import Pixels, Rgb, Shape, draw_shapes, draw_tag, encoded, resized
from orchestrator.errors import ConfigError
from orchestrator.pages import template
from orchestrator.placing import CORRECT, MISSED, WRONG, Part, Placed, Rules, Tally, check_card, placed_in, trios
from orchestrator.pool_scoring import check_manifest, pool_manifest
from orchestrator.store import write_json, write_table, write_text
from tasks.classes import ClassMap
from tasks.data.decoding import read_image
from tasks.data.files import Place, remove_tree, write_bytes
from tasks.data.manifest import SPLITS, Manifest

TABLE, MARKER, PAGE = "placements.parquet", "placement.json", "index.html"
COLORS: Mapping[str, Rgb] = {CORRECT: (0, 158, 115), WRONG: (213, 94, 0)}
UNSURE: Rgb = (150, 150, 150)  # without a verdict
WIDE = 480  # px: about how wide a picture is
_AT_ONCE = 64  # images whose parts (and masks) are held at a time
Told = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class Where:
    """What is looked at, and how much of it is drawn."""

    checkpoint: Place
    data: Place
    split: str = ""  # "" = test where there is one, else all
    pictures: int = 24  # at most; those with an error come first


def place_parts(where: Where, rules: Rules, out: Place, told: Told) -> dict[str, Any]:
    """Write the table, the pictures and the page into a new folder; the summary. ConfigError or RunError else."""
    if out.is_file() or (out.is_dir() and any(True for _ in out.iterdir())):
        raise ConfigError(f"--out {out}: is there already, and not empty; expected a new folder: choose another name")
    model, card = load_model(where.checkpoint)
    check_card(card, str(where.checkpoint))
    work = out.with_name(f".{out.name}.parts")
    try:
        manifest = pool_manifest(where.data, card, work)
        check_manifest(manifest, card, getattr(model, "stride", None))
        rows = _rows(manifest, where)
        tally, tables, gallery = Tally(), [table_of([], card.classes)], _Gallery(where.pictures)
        placed = _counted(placed_in(model, card, manifest, rows, rules), len(rows), where.data.name, told)
        for chunk in _chunks(placed):
            for one in chunk:
                tally.add(one)
                gallery.offer(one)
            tables.append(table_of(chunk, card.classes))
        pictures = [(one, _picture(one, manifest, card.classes, rules)) for one in gallery.shown]
        found = summary(tally, rules, where, card)
        _write(out, pa.concat_tables(tables), pictures, found, card.classes)
    finally:
        remove_tree(work)
    return found


def _rows(manifest: Manifest, where: Where) -> NDArray[np.int64]:
    if where.split and where.split not in SPLITS:
        raise ConfigError(f"--split {where.split}: no such split; expected one of {', '.join(SPLITS)}: choose one")
    split = where.split or ("test" if manifest.count("test") else None)
    rows = manifest.rows(split)
    if not len(rows):
        raise ConfigError(f"--split {split}: {where.data} has no image of it; expected at least one: choose another")
    return rows


def _counted(placed: Iterator[Placed], total: int, name: str, told: Told) -> Iterator[Placed]:
    for done, one in enumerate(placed, start=1):
        yield one
        told(name, "place", done, total)


def _chunks(placed: Iterator[Placed]) -> Iterator[list[Placed]]:
    chunk = []
    for one in placed:
        chunk.append(one)
        if len(chunk) == _AT_ONCE:
            yield chunk
            chunk = []
    yield chunk


class _Gallery:
    """The images that are drawn: those with an error first, each in its order."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._wrong: list[Placed] = []
        self._others: list[Placed] = []

    def offer(self, one: Placed) -> None:
        """Keep it where there is room."""
        kept = self._others if one.is_right else self._wrong
        if len(kept) < self._count and (one.parts or one.missed):
            kept.append(one)

    @property
    def shown(self) -> list[Placed]:
        return [*self._wrong, *self._others][: self._count]


# ---- the table ------------------------------------------------------------------------------------------------------

_NUMBERS = ("score", "x1", "y1", "x2", "y2", "centre_x", "centre_y", "axis_deg", "elongation", "outer_deg")
_UNDER = ("mean", "median", "nearest", "farthest", "deviation", "half_range")
_OF_POINTS = ("x", "y", "score", "offset", "depth")
_TEXTS = ("image", "class", "status", "verdict", "truth", "outer", "side", "keypoint_1", "keypoint_2", "keypoint_3")


def table_of(placed: Sequence[Placed], classes: ClassMap) -> pa.Table:
    """A row a found part, and one a labeled part that was missed (its score is null). Lengths are px, depths metres."""
    chosen = trios(classes)
    rows = []
    for one in placed:
        rows += [_row(one.record.id, part, classes, chosen) for part in one.parts]
        for part in one.missed:
            row = _row(one.record.id, part, classes, chosen)
            rows.append({**row, "verdict": MISSED, "truth": part.verdict, "score": None})
    numbers = [*_NUMBERS, *(f"{n}_{i}" for i in (1, 2, 3) for n in _OF_POINTS), *(f"mask_depth_{n}" for n in _UNDER)]
    fields = [pa.field(n, pa.string()) for n in _TEXTS]
    fields += [pa.field(n, pa.float64()) for n in (*numbers, "point_depth_half_range")]
    return pa.Table.from_pylist(rows, pa.schema(fields))


def _row(image: str, part: Part, classes: ClassMap, chosen: Mapping[int, Sequence[int]]) -> dict[str, Any]:
    found, own = part.placement, [classes.keypoints[i] for i in chosen[part.label]]
    row: dict[str, Any] = {
        "image": image, "class": classes.detection[part.label], "status": found.status, "verdict": part.verdict,
        "truth": part.truth, "outer": None if found.outer is None else own[found.outer], "side": found.side,
        "score": part.score, **dict(zip(("x1", "y1", "x2", "y2"), part.box, strict=True)),
    }  # fmt: skip
    if found.axis is not None:
        row |= {"centre_x": found.axis.centre[0], "centre_y": found.axis.centre[1]}
        row |= {"axis_deg": float(np.degrees(found.axis.theta)), "elongation": found.axis.elongation}
    if found.direction is not None:
        row["outer_deg"] = float(np.degrees(np.arctan2(found.direction[1], found.direction[0])))
    for i, (x, y, v) in enumerate(part.points.tolist(), start=1):
        depth, offset = part.point_depths[i - 1], found.offsets[i - 1]
        row |= {f"keypoint_{i}": own[i - 1], f"depth_{i}": None if depth is None else depth.metres}
        row[f"score_{i}"] = part.point_scores[i - 1] if part.point_scores else None
        if v > 0:
            row |= {f"x_{i}": x, f"y_{i}": y, f"offset_{i}": offset if np.isfinite(offset) else None}
    if part.mask_depth is not None:
        row |= {f"mask_depth_{name}": getattr(part.mask_depth, name) for name in _UNDER}
    return {**row, "point_depth_half_range": part.point_spread}


# ---- the summary ----------------------------------------------------------------------------------------------------


def summary(tally: Tally, rules: Rules, where: Where, card: Card) -> dict[str, Any]:
    """What was found, in numbers; ``accuracy`` is null without labels."""
    spreads = [float(np.mean(each)) if each else None for each in (tally.mask_spreads, tally.point_spreads)]
    verdicts = sorted({verdict for _, verdict in tally.confusion} | {CORRECT, WRONG, MISSED})
    return {
        "checkpoint": str(where.checkpoint), "data": str(where.data), "split": where.split, "step": card.step,
        "reference_deg": rules.reference, "min_score": rules.score, "images": tally.images,
        "parts": tally.verdicts.total(), "verdicts": dict(tally.verdicts),
        "labeled": tally.labeled, "right": tally.right, "accuracy": tally.accuracy, "missed": tally.missed,
        "without_verdict": tally.without_verdict, "extra": tally.extra, "unjudged": dict(tally.unjudged),
        "confusion": {
            truth: {verdict: tally.confusion[truth, verdict] for verdict in verdicts} for truth in (CORRECT, WRONG)
        },
        "depth": {"parts": len(tally.mask_spreads), "mask_half_range": spreads[0], "point_half_range": spreads[1]},
    }  # fmt: skip


def sentences(found: Mapping[str, Any]) -> list[str]:
    """The summary in words."""
    kinds = ", ".join(f"{count} {verdict}" for verdict, count in sorted(found["verdicts"].items())) or "none"
    said = [f"{found['parts']} parts in {found['images']} images: {kinds}"]
    if found["labeled"]:
        truth = {name: sum(row.values()) for name, row in found["confusion"].items()}
        said.append(
            f"accuracy: {100 * found['accuracy']:.1f} % ({found['right']} of {found['labeled']} labeled parts, of "
            f"which {truth[WRONG]} lie wrong; {found['missed']} missed and {found['without_verdict']} without a "
            f"verdict count as errors; {found['extra']} found where no part is labeled)"
        )
    if found["unjudged"]:
        count = sum(found["unjudged"].values())
        said.append(f"{count} labeled parts are not judged, as their labels give no verdict")
    depth = found["depth"]
    if depth["parts"]:
        mask, point = 1000 * depth["mask_half_range"], 1000 * depth["point_half_range"]
        said.append(
            f"depth of {depth['parts']} parts, half of what lies between nearest and farthest: {mask:.1f} mm under the "
            f"mask, {point:.1f} mm over the keypoints"
        )
    return said


# ---- pictures -------------------------------------------------------------------------------------------------------


def _picture(one: Placed, manifest: Manifest, classes: ClassMap, rules: Rules) -> bytes:
    """A PNG: masks and keypoints in the colour of the verdict, axes, outer sides, and the reference in a corner."""
    height, width = one.record.size
    times = max(1.0, WIDE / width)
    shape = (round(width * times), round(height * times))
    picture = resized(read_image(one.record.uri, manifest.base), shape)
    shapes = [_shape(part, times, shape) for part in one.parts]
    shapes += [Shape(MISSED, UNSURE, _scaled(part.box, times)) for part in one.missed]
    sheet = Image.fromarray(draw_shapes(picture, shapes, (), classes.keypoints))
    draw = ImageDraw.Draw(sheet)
    for part in one.parts:
        _draw_axis(draw, part, times)
    x, y = rules.direction
    _arrow(draw, (28 - 16 * x, sheet.height - 44 - 16 * y), (28 + 16 * x, sheet.height - 44 + 16 * y), (255, 255, 255))
    draw_tag(draw, "reference", (255, 255, 255), 4, sheet.height - 18)
    return encoded(sheet, "PNG", compress_level=6)


def _shape(part: Part, times: float, size: tuple[int, int]) -> Shape:
    mask: Pixels = resized(np.repeat(part.mask.astype(np.uint8)[..., None] * 255, 3, axis=2), size)
    points = tuple((x * times, y * times, int(v)) for x, y, v in part.points.tolist())
    name = part.verdict if part.truth in ("", part.verdict) else f"{part.verdict}, labeled {part.truth}"
    color = COLORS.get(part.verdict, UNSURE)
    return Shape(f"{name} {part.score:.2f}", color, _scaled(part.box, times), mask[..., 0] > 127, points)


def _scaled(box: tuple[float, float, float, float], times: float) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    return x1 * times, y1 * times, x2 * times, y2 * times


def _draw_axis(draw: ImageDraw.ImageDraw, part: Part, times: float) -> None:
    found = part.placement
    if found.axis is None:
        return
    color, (cx, cy) = COLORS.get(part.verdict, UNSURE), (value * times for value in found.axis.centre)
    half, (ux, uy) = np.sqrt(3 * found.axis.major) * times, found.axis.direction
    draw.line((cx - half * ux, cy - half * uy, cx + half * ux, cy + half * uy), fill=(255, 255, 255), width=4)
    draw.line((cx - half * ux, cy - half * uy, cx + half * ux, cy + half * uy), fill=color, width=2)
    if found.direction is not None:
        far = max(24.0, found.axis.width * times * 0.9)
        _arrow(draw, (cx, cy), (cx + far * found.direction[0], cy + far * found.direction[1]), color)


def _arrow(draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], color: Rgb) -> None:
    way = np.subtract(end, start)
    along = way / max(float(np.hypot(*way)), 1e-9)
    left, back = np.array([-along[1], along[0]]), np.array(end) - 9 * along
    for width, fill in ((5, (0, 0, 0)), (3, color)):
        draw.line((*start, *back.tolist()), fill=fill, width=width)
    draw.polygon([tuple(end), tuple(back + 5 * left), tuple(back - 5 * left)], fill=color, outline=(0, 0, 0))


# ---- files ----------------------------------------------------------------------------------------------------------


def _write(
    out: Place,
    table: pa.Table,
    pictures: Sequence[tuple[Placed, bytes]],
    found: Mapping[str, Any],
    classes: ClassMap,
) -> None:
    """All files, the summary last."""
    write_table(out / TABLE, table)
    rows = io.BytesIO()
    pacsv.write_csv(table, rows)
    write_bytes("placements.csv", out, rows.getvalue())
    shown = []
    for number, (one, data) in enumerate(pictures, start=1):
        name = f"pictures/{number:04d}.png"
        write_bytes(name, out, data)
        shown.append(
            {"id": one.record.id, "file": name, "source": base64.b64encode(data).decode(), "facts": _facts(one)}
        )
    write_text(out / PAGE, _page(found, shown, classes))
    write_json(out / MARKER, dict(found))


def _facts(one: Placed) -> str:
    said = [f"{part.verdict} at {part.score:.2f}" for part in one.parts]
    said += [f"missed ({part.verdict})" for part in one.missed]
    return ", ".join(said)


def _page(found: Mapping[str, Any], shown: Sequence[Mapping[str, Any]], classes: ClassMap) -> str:
    names = [classes.detection[label] for label in trios(classes)]
    return template("placement.html").render(
        found=found, shown=shown, version=__version__, said=sentences(found), classes=names
    )
