"""Pictures of what was picked and why: what the model answered, and the maps that made the score."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from orchestrator.store import replacing, write_json
from strategies.base import Score
from tasks.data.files import Place
from tasks.types import ClassMap, DepthMap, Detections, Pickups, Prediction, SegMap

TILE = (312, 260)  # largest width and height of one picture in a panel
PER_ROW = 4  # pictures side by side
GAP, LINE = 12, 20  # pixels between pictures; height of a line of text
LEAST_SCORE, MOST_BOXES = 0.3, 15  # which boxes are drawn
PAPER, INK, SOFT = (255, 255, 255), (24, 26, 30), (98, 104, 114)

Rgb = tuple[int, int, int]
Pixels = NDArray[np.uint8]  # [h, w, 3] RGB

# Classes of street scenes keep colours that say what they are; any other class has the colour of its index.
NAMED: dict[str, Rgb] = {
    "road": (128, 96, 136),
    "sidewalk": (222, 150, 210),
    "sky": (112, 168, 220),
    "building": (150, 140, 128),
    "vegetation": (96, 148, 60),
    "tree": (96, 148, 60),
    "pole": (196, 178, 120),
    "car": (44, 92, 214),
    "truck": (20, 160, 168),
    "bus": (240, 140, 30),
    "pedestrian": (220, 40, 66),
    "cyclist": (170, 60, 190),
    "sign": (245, 206, 40),
}
CYCLE: tuple[Rgb, ...] = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (204, 121, 167), (86, 180, 233), (148, 103, 60),
    (240, 228, 66), (120, 94, 240), (160, 170, 40), (220, 38, 127), (60, 200, 190), (110, 110, 110), (255, 150, 140),
    (70, 90, 40), (190, 170, 230),
)  # fmt: skip


@dataclass(frozen=True)
class GalleryEntry:
    """One picked image and why it was picked."""

    id: str
    rank: int  # 0 = picked first
    value: float
    parts: Mapping[str, float]
    panel: bytes = field(repr=False)  # PNG


@dataclass(frozen=True)
class _Tile:
    caption: str
    picture: Pixels
    legend: tuple[tuple[str, Rgb], ...] = ()
    span: str = ""  # stands behind the caption, and is never cut


def panel(
    image: Tensor, prediction: Prediction, maps: Mapping[str, Tensor], classes: ClassMap, score: Score, title: str
) -> bytes:
    """A PNG: the image with its boxes, its segmentation, its depth and each map, side by side with captions.

    ``image`` is ``[3, H, W]`` in 0..1, boxes are in its pixels; the maps ``[h, w]`` may have another resolution.
    Outputs that the prediction lacks are left out. ValueError when a shape is wrong.
    """
    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise ValueError(f"panel: the image is {list(image.shape)}; expected [3, H, W]")
    height, width = int(image.shape[1]), int(image.shape[2])
    scale = min(TILE[0] / width, TILE[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    rgb = (image.detach().cpu().float().nan_to_num().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture = _resized(rgb, size)
    outputs = prediction.outputs.values()
    tiles = [_boxes(picture, o, classes, scale) for o in outputs if isinstance(o, Detections)] or [
        _Tile("image", picture)
    ]
    tiles += [_overlay(picture, o, classes) for o in outputs if isinstance(o, SegMap)]
    tiles += [_heat(picture, o.metres, "depth, m") for o in outputs if isinstance(o, DepthMap)]
    tiles += [
        _heat(picture, o.activations.amax(0), "pickup, strongest class") for o in outputs if isinstance(o, Pickups)
    ]
    tiles += [_heat(picture, heat, caption) for caption, heat in maps.items()]
    return _png(_sheet(tiles, size, title, score))


def write_gallery(folder: Place, entries: Sequence[GalleryEntry]) -> Place:
    """The path of ``gallery.json``, written after all its pictures; each file appears whole or not at all."""
    digits = max(2, len(str(len(entries) - 1)))
    rows = []
    for i, entry in enumerate(sorted(entries, key=lambda e: e.rank)):
        name = f"{i:0{digits}d}.png"
        with replacing(folder / name) as temporary:
            temporary.write_bytes(entry.panel)
        parts = {k: _finite(v) for k, v in entry.parts.items()}
        value = _finite(entry.value)
        rows.append({"id": entry.id, "rank": entry.rank, "value": value, "parts": parts, "panel": name})
    write_json(folder / "gallery.json", rows)
    return folder / "gallery.json"


def color_of(name: str, index: int) -> Rgb:
    """The colour of a class, the same in every picture."""
    return NAMED.get(name.lower(), CYCLE[index % len(CYCLE)])


# ---- tiles ---------------------------------------------------------------------------------------------------------


def _boxes(picture: Pixels, found: Detections, classes: ClassMap, scale: float) -> _Tile:
    """The image with its best boxes, the surest on top."""
    sheet = Image.fromarray(picture)
    draw = ImageDraw.Draw(sheet)
    keep = (found.scores >= LEAST_SCORE).nonzero().flatten().tolist()[:MOST_BOXES]
    for i in reversed(keep):
        label = int(found.labels[i])
        name = classes.detection[label] if label < len(classes.detection) else f"class {label}"
        target = classes.det_to_seg[label] if label < len(classes.det_to_seg) else -1
        color = color_of(name, target if target >= 0 else label)
        x0, y0, x1, y1 = (float(v) * scale for v in found.boxes[i])
        if not all(math.isfinite(v) for v in (x0, y0, x1, y1)):
            continue
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        draw.rectangle((x0, y0, x1, y1), outline=color, width=2)
        text = f"{name} {float(found.scores[i]):.2f}"
        wide = draw.textlength(text, font=_font(12)) + 6
        left, top = max(0.0, min(x0, sheet.width - wide)), y0 - 15 if y0 >= 15 else max(0.0, y0)
        draw.rectangle((left, top, left + wide, top + 15), fill=color)
        draw.text((left + 3, top), text, fill=_readable_on(color), font=_font(12))
    return _Tile(f"detection: {len(keep)} of {len(found.scores)} boxes, score ≥ {LEAST_SCORE:g}", np.asarray(sheet))


def _overlay(picture: Pixels, output: SegMap, classes: ClassMap) -> _Tile:
    """The most likely class of each pixel over the dimmed image, with a legend of those that cover 0.1 % or more."""
    label = output.log_probs.detach().cpu().argmax(0).byte().numpy()
    names = classes.segmentation
    known = max(output.log_probs.shape[0], len(names))
    colors = [color_of(names[k] if k < len(names) else "", k) for k in range(known)]
    size = (picture.shape[1], picture.shape[0])
    paint = np.array(colors, dtype=np.uint8)[cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)]
    mixed = (0.38 * picture + 0.62 * paint).astype(np.uint8)
    present = np.bincount(label.ravel(), minlength=known)
    order = [int(k) for k in np.argsort(-present, kind="stable") if present[k] >= 0.001 * label.size]
    legend = tuple((names[k] if k < len(names) else f"class {k}", colors[k]) for k in order)
    return _Tile("segmentation", mixed, legend)


def _heat(picture: Pixels, heat: Tensor, caption: str) -> _Tile:
    """A map as colours over the grey image, with the range of its values; undefined pixels stay grey."""
    if heat.ndim != 2 or heat.numel() == 0:
        raise ValueError(f"panel: the map {caption!r} is {list(heat.shape)}; expected [h, w]")
    values = heat.detach().cpu().float().numpy()
    known = np.isfinite(values)
    low, high = (float(values[known].min()), float(values[known].max())) if known.any() else (0.0, 0.0)
    level = np.where(known, (values - low) / (high - low) if high > low else 0.0, 0.0)
    size = (picture.shape[1], picture.shape[0])
    smooth = cv2.resize((level * 255).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR)
    color = cv2.cvtColor(cv2.applyColorMap(smooth, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    grey = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    mixed = (0.75 * color + 0.25 * grey).astype(np.uint8)
    mask = cv2.resize(known.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    start = 0.0 if abs(low) < 0.005 * (high - low) else low  # as good as nothing reads "0", not "1.37e-07"
    span = f"{start:.3g} to {high:.3g}" if high > low else (f"{low:.3g} everywhere" if known.any() else "undefined")
    return _Tile(caption, np.where(mask[..., None], mixed, grey), span=f": {span}")


def _resized(rgb: Pixels, size: tuple[int, int]) -> Pixels:
    shrinks = size[0] < rgb.shape[1]
    resized = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)


# ---- the sheet -----------------------------------------------------------------------------------------------------


def _sheet(tiles: Sequence[_Tile], size: tuple[int, int], title: str, score: Score) -> Image.Image:
    columns = math.ceil(len(tiles) / math.ceil(len(tiles) / PER_ROW))  # 5 pictures stand 3 + 2, not 4 + 1
    cell = max(size[0], 240)  # narrow pictures keep room for their captions
    wide = columns * cell + (columns + 1) * GAP
    legends = [_legend(t.legend, cell) for t in tiles]
    rows = [range(i, min(i + columns, len(tiles))) for i in range(0, len(tiles), columns)]
    depth = [max(len(legends[i]) for i in row) * LINE for row in rows]
    head = (2 if score.parts else 1) * LINE + GAP
    sheet = Image.new("RGB", (wide, head + sum(LINE + size[1] + d + GAP for d in depth)), PAPER)
    draw = ImageDraw.Draw(sheet)
    value = f"score {score.value:.4g}"
    room = wide - 3 * GAP - draw.textlength(value, font=_font(15, bold=True))
    draw.text((GAP, 9), _fitted(draw, title, 15, room, bold=True), fill=INK, font=_font(15, bold=True))
    draw.text((wide - GAP, 9), value, fill=INK, font=_font(15, bold=True), anchor="ra")
    parts = " · ".join(f"{name} {part:.3g}" for name, part in score.parts.items())
    draw.text((GAP, 9 + LINE), _fitted(draw, parts, 13, wide - 2 * GAP), fill=SOFT, font=_font(13))
    top = head
    for row, deep in zip(rows, depth, strict=True):
        for column, i in enumerate(row):
            left = GAP + column * (cell + GAP)
            room = cell - draw.textlength(tiles[i].span, font=_font(13))
            caption = _fitted(draw, tiles[i].caption, 13, room) + tiles[i].span
            draw.text((left, top + 2), caption, fill=INK, font=_font(13))
            sheet.paste(Image.fromarray(tiles[i].picture), (left, top + LINE))
            _draw_legend(draw, legends[i], left, top + LINE + size[1] + 4)
        top += LINE + size[1] + deep + GAP
    return sheet


def _legend(entries: Sequence[tuple[str, Rgb]], width: int) -> list[list[tuple[float, str, Rgb]]]:
    """Lines of (x, name, colour) that fit the width."""
    lines: list[list[tuple[float, str, Rgb]]] = []
    x = math.inf
    for name, color in entries:
        need = 15 + _font(12).getlength(name) + 10
        if x + need > width + 10:
            lines.append([])
            x = 0.0
        lines[-1].append((x, name, color))
        x += need
    return lines


def _draw_legend(
    draw: ImageDraw.ImageDraw, lines: Sequence[Sequence[tuple[float, str, Rgb]]], left: int, top: int
) -> None:
    for i, line in enumerate(lines):
        for x, name, color in line:
            y = top + i * LINE
            draw.rectangle((left + x, y + 3, left + x + 10, y + 13), fill=color)
            draw.text((left + x + 15, y + 1), name, fill=INK, font=_font(12))


def _fitted(draw: ImageDraw.ImageDraw, text: str, size: int, width: float, bold: bool = False) -> str:
    """The text, cut with an ellipsis where it is wider than there is room."""
    font = _font(size, bold)
    text = " ".join(text.split())
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text + "…"


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: the same letters on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def _readable_on(color: Rgb) -> Rgb:
    return INK if 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140 else PAPER


def _png(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def _finite(value: float) -> float | None:
    """JSON knows no infinity: -inf ("take it last") is stored as null."""
    return float(value) if math.isfinite(value) else None
