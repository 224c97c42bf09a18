"""Labels and predictions as pictures: colours, boxes, masks, keypoints and maps on an image, and sheets of pictures."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tasks.classes import ClassMap

PER_ROW = 4  # pictures side by side
GAP, LINE = 12, 20  # pixels between pictures; height of a line of text
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
SIDES: dict[str, Rgb] = {"left": (86, 180, 233), "right": (230, 159, 0)}  # of keypoints; others are white


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet."""

    caption: str
    picture: Pixels
    legend: tuple[tuple[str, Rgb], ...] = ()
    span: str = ""  # stands behind the caption, and is never cut


@dataclass(frozen=True)
class Shape:
    """One labeled object, in pixels of the picture that it is drawn on."""

    name: str
    color: Rgb
    box: tuple[float, float, float, float]  # xyxy
    mask: NDArray[np.bool_] | None = None  # [h, w]
    points: tuple[tuple[float, float, int], ...] = ()  # x, y, v
    is_crowd: bool = False


def color_of(name: str, index: int) -> Rgb:
    """The colour of a class, the same in every picture: darker and lighter from the 17th class on."""
    base, turn = CYCLE[index % len(CYCLE)], index // len(CYCLE) % 3
    other = (base, (0, 0, 0), (255, 255, 255))[turn]
    mixed = (round(0.58 * a + 0.42 * b) for a, b in zip(base, other, strict=True))
    red, green, blue = base if turn == 0 else mixed
    return NAMED.get(name.lower(), (red, green, blue))


def colors_of(classes: ClassMap) -> tuple[list[Rgb], list[Rgb]]:
    """The colours of the classes of boxes, and of pixels; a class that is both has one colour."""
    pixels = [color_of(name, i) for i, name in enumerate(classes.segmentation)]
    free = len(pixels)  # classes of boxes that are no class of pixels come after those
    boxes = []
    for name, to in zip(classes.detection, classes.det_to_seg, strict=True):
        boxes.append(color_of(name, to if to >= 0 else free))
        free += to < 0
    return boxes, pixels


# ---- objects --------------------------------------------------------------------------------------------------------


def draw_shapes(
    picture: Pixels, shapes: Sequence[Shape], skeleton: Sequence[tuple[int, int]] = (), names: Sequence[str] = ()
) -> Pixels:
    """The picture with masks, boxes with their names, and keypoints (called ``names``) with their skeleton.

    Small objects lie on top. A name that would cover another one is left out.
    """
    order = sorted(shapes, key=lambda one: -(one.box[2] - one.box[0]) * (one.box[3] - one.box[1]))
    painted = picture.copy()
    for one in order:
        if one.mask is not None:
            _paint_mask(painted, one.mask, one.color)
    sheet = Image.fromarray(painted)
    draw = ImageDraw.Draw(sheet)
    for one in order:
        _draw_box(draw, one, 2 if sheet.width >= 200 else 1)
    for one in order:
        _draw_points(draw, one, skeleton, names, 1.0 if sheet.width >= 400 else 0.6)
    taken: list[tuple[float, float, float, float]] = []
    for one in reversed(order) if sheet.width >= 200 else ():
        _draw_name(draw, one, sheet.size, taken)
    return np.asarray(sheet)


def draw_tag(draw: ImageDraw.ImageDraw, text: str, color: Rgb, left: float, top: float) -> None:
    """A line of text on a bar of the colour."""
    wide = draw.textlength(text, font=font(12)) + 6
    draw.rectangle((left, top, left + wide, top + 15), fill=color)
    draw.text((left + 3, top), text, fill=readable_on(color), font=font(12))


def _paint_mask(picture: Pixels, mask: NDArray[np.bool_], color: Rgb) -> None:
    picture[mask] = (0.55 * picture[mask] + 0.45 * np.array(color)).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, color, 1)


def _draw_box(draw: ImageDraw.ImageDraw, one: Shape, width: int) -> None:
    """A frame; that of a crowd is dashed."""
    if not one.is_crowd:
        draw.rectangle(one.box, outline=one.color, width=width)
        return
    x0, y0, x1, y1 = one.box
    for start, end, is_flat in ((x0, x1, True), (y0, y1, False)):
        for at in np.arange(start, end, 10):
            stop = min(at + 4, end)
            for side in (y0, y1) if is_flat else (x0, x1):
                line = (at, side, stop, side) if is_flat else (side, at, side, stop)
                draw.line(line, fill=one.color, width=width)


def _draw_name(
    draw: ImageDraw.ImageDraw, one: Shape, size: tuple[int, int], taken: list[tuple[float, float, float, float]]
) -> None:
    """The name above the box, inside of it or below, where there is room."""
    text = f"{one.name}, group" if one.is_crowd else one.name
    wide, high = draw.textlength(text, font=font(12)) + 6, 15
    left = max(0.0, min(one.box[0], size[0] - wide - 1))
    for top in (one.box[1] - high, one.box[1], one.box[3]):
        bar = (left, top, left + wide, top + high)
        is_free = all(bar[2] <= o[0] or o[2] <= bar[0] or bar[3] <= o[1] or o[3] <= bar[1] for o in taken)
        if top >= 0 and top + high < size[1] and is_free:
            draw_tag(draw, text, one.color, left, top)
            taken.append(bar)
            return


def _draw_points(
    draw: ImageDraw.ImageDraw, one: Shape, skeleton: Sequence[tuple[int, int]], names: Sequence[str], scale: float
) -> None:
    """Lines between labeled keypoints, and these: filled where they are visible, rings where they are hidden."""
    radius = 3.5 * scale
    for a, b in skeleton:
        if max(a, b) < len(one.points) and one.points[a][2] > 0 and one.points[b][2] > 0:
            line = (*one.points[a][:2], *one.points[b][:2])
            draw.line(line, fill=INK, width=round(4 * scale))
            draw.line(line, fill=PAPER, width=max(1, round(2 * scale)))
    for i, (x, y, v) in enumerate(one.points):
        if v > 0:
            color = side_color(names[i] if i < len(names) else "")
            spot = (x - radius, y - radius, x + radius, y + radius)
            if v > 1:
                draw.ellipse(spot, fill=color, outline=INK)
            else:
                draw.ellipse(spot, outline=INK, width=max(2, round(4 * scale)))
                draw.ellipse(spot, outline=color, width=max(1, round(2 * scale)))


def side_color(name: str) -> Rgb:
    """The colour of a keypoint: of its side, as its name tells."""
    return next((color for side, color in SIDES.items() if side in name.lower()), PAPER)


# ---- maps -----------------------------------------------------------------------------------------------------------


def draw_classes(
    picture: Pixels, labels: NDArray[np.uint8], colors: Sequence[Rgb], names: Sequence[str] = ()
) -> Pixels:
    """The colour of each pixel's class ``[h, w]`` over the dimmed picture, edges dark; 255 shows the grey picture.

    ``names``: written on the largest regions, where the picture has room for it.
    """
    size = (picture.shape[1], picture.shape[0])
    found = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = np.array(colors, np.uint8).reshape(-1, 3)
    mixed: Pixels = (0.38 * picture + 0.62 * table[found]).astype(np.uint8)
    unknown = found >= len(colors)
    mixed[unknown] = (0.5 * grey_of(picture)[unknown] + 100).astype(np.uint8)
    if names and size[0] >= 240:
        edges = np.zeros(found.shape, bool)
        edges[:, 1:] |= found[:, 1:] != found[:, :-1]
        edges[1:] |= found[1:] != found[:-1]
        mixed[edges] = (0.45 * mixed[edges]).astype(np.uint8)
        return _named_regions(mixed, found, names)
    return mixed


def _named_regions(picture: Pixels, labels: NDArray[np.uint8], names: Sequence[str]) -> Pixels:
    """The names of classes in the middle of their largest regions."""
    sheet = Image.fromarray(picture)
    draw = ImageDraw.Draw(sheet)
    for label in np.unique(labels).tolist():
        if label >= len(names):
            continue
        count, parts, stats, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8))
        for part in [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= 0.012 * labels.size]:
            inside = np.pad((parts == part).astype(np.uint8), 1)
            depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
            y, x = (float(v) - 1 for v in np.unravel_index(int(depth.argmax()), depth.shape))
            half = draw.textlength(names[label], font=font(12)) / 2
            if depth.max() >= 7:
                x = max(half + 2, min(x, sheet.width - half - 2))
                draw.text((x, y), names[label], PAPER, font(12), "mm", stroke_width=2, stroke_fill=INK)
    return np.asarray(sheet)


def draw_heat(picture: Pixels, values: NDArray[np.float32], low: float, high: float, colormap: int) -> Pixels:
    """A map ``[h, w]`` as colours from ``low`` to ``high`` over the grey picture; where it is not finite stays grey."""
    known = np.isfinite(values)
    level = np.where(known, (values - low) / (high - low) if high > low else 0.0, 0.0).clip(0, 1)
    size = (picture.shape[1], picture.shape[0])
    smooth = cv2.resize((level * 255).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR)
    color = cv2.cvtColor(cv2.applyColorMap(smooth, colormap), cv2.COLOR_BGR2RGB)
    grey = grey_of(picture)
    mixed = (0.75 * color + 0.25 * grey).astype(np.uint8)
    mask = cv2.resize(known.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    return np.where(mask[..., None], mixed, grey)


def draw_depth(picture: Pixels, metres: NDArray[np.float32]) -> tuple[Pixels, str]:
    """Depth ``[h, w]`` in viridis, near is dark, with a bar in metres; and its range in words. NaN stays grey."""
    known = metres[np.isfinite(metres)]
    if not known.size:
        return grey_of(picture), "no pixel has a value"
    low, high = (float(v) for v in np.percentile(known, (0.5, 99.5)))
    drawn = draw_heat(picture, metres, low, high, cv2.COLORMAP_VIRIDIS)
    words = f"{known.min():.3g} to {known.max():.3g} m"
    if drawn.shape[1] < 160:
        return drawn, words
    wide, bar, tall = drawn.shape[1], 9, 26
    strip = np.full((tall, wide, 3), 24, np.uint8)
    ramp = np.linspace(0, 255, wide - 2 * GAP).astype(np.uint8)[None].repeat(bar, 0)
    strip[3 : 3 + bar, GAP:-GAP] = cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    sheet = Image.fromarray(np.concatenate([drawn, strip]))
    draw = ImageDraw.Draw(sheet)
    for share, anchor in ((0.0, "ls"), (0.5, "ms"), (1.0, "rs")):
        at = (GAP + share * (wide - 2 * GAP), sheet.height - 3)
        draw.text(at, f"{low + share * (high - low):.1f} m", PAPER, font(11), anchor)
    return np.asarray(sheet), words


def grey_of(picture: Pixels) -> Pixels:
    """The picture without its colours, ``[h, w, 3]``."""
    return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def resized(rgb: Pixels, size: tuple[int, int]) -> Pixels:
    """The picture at another size (width, height)."""
    shrinks = size[0] < rgb.shape[1]
    found = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(found, dtype=np.uint8)


# ---- sheets ---------------------------------------------------------------------------------------------------------


def sheet_of(tiles: Sequence[Tile], title: str, value: str = "", details: str = "") -> bytes:
    """A PNG: the tiles side by side with captions and legends, below a title; ``value`` stands at its right."""
    columns = math.ceil(len(tiles) / math.ceil(len(tiles) / PER_ROW))  # 5 pictures stand 3 + 2, not 4 + 1
    cell = max(240, *(t.picture.shape[1] for t in tiles))  # narrow pictures keep room for their captions
    wide = columns * cell + (columns + 1) * GAP
    legends = [_legend(t.legend, cell) for t in tiles]
    rows = [range(i, min(i + columns, len(tiles))) for i in range(0, len(tiles), columns)]
    tall = [max(tiles[i].picture.shape[0] for i in row) for row in rows]
    deep = [max(len(legends[i]) for i in row) * LINE for row in rows]
    head = (2 if details else 1) * LINE + GAP
    sheet = Image.new("RGB", (wide, head + sum(LINE + t + d + GAP for t, d in zip(tall, deep, strict=True))), PAPER)
    draw = ImageDraw.Draw(sheet)
    room = wide - 3 * GAP - draw.textlength(value, font=font(15, bold=True))
    draw.text((GAP, 9), fitted(draw, title, 15, room, bold=True), fill=INK, font=font(15, bold=True))
    draw.text((wide - GAP, 9), value, fill=INK, font=font(15, bold=True), anchor="ra")
    draw.text((GAP, 9 + LINE), fitted(draw, details, 13, wide - 2 * GAP), fill=SOFT, font=font(13))
    top = head
    for row, high, depth in zip(rows, tall, deep, strict=True):
        for column, i in enumerate(row):
            left = GAP + column * (cell + GAP)
            room = cell - draw.textlength(tiles[i].span, font=font(13))
            caption = fitted(draw, tiles[i].caption, 13, room) + tiles[i].span
            draw.text((left, top + 2), caption, fill=INK, font=font(13))
            sheet.paste(Image.fromarray(tiles[i].picture), (left, top + LINE))
            _draw_legend(draw, legends[i], left, top + LINE + high + 4)
        top += LINE + high + depth + GAP
    return encoded(sheet, "PNG", compress_level=3)


def draw_sentence(text: str, size: tuple[int, int]) -> Pixels:
    """Words in a frame of width, height, in as many lines as there is room for."""
    sheet = Image.new("RGB", size, (255, 245, 224))
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((0, 0, size[0] - 1, size[1] - 1), outline=(208, 135, 0), width=2)
    room, line, top = size[0] - 2 * GAP, "", GAP
    for word in [*text.split(), ""]:
        longer = f"{line} {word}".strip()
        if word and draw.textlength(longer, font=font(13)) <= room:
            line = longer
            continue
        draw.text((GAP, top), fitted(draw, line, 13, room), INK, font(13))
        line, top = word, top + LINE
    return np.asarray(sheet)


def encoded(sheet: Image.Image, form: str, **options: int) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    sheet.save(buffer, format=form, **options)
    return buffer.getvalue()


def _legend(entries: Sequence[tuple[str, Rgb]], width: int) -> list[list[tuple[float, str, Rgb]]]:
    """Lines of (x, name, colour) that fit the width."""
    lines: list[list[tuple[float, str, Rgb]]] = []
    x = math.inf
    for name, color in entries:
        need = 15 + font(12).getlength(name) + 10
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
            draw.text((left + x + 15, y + 1), name, fill=INK, font=font(12))


def fitted(draw: ImageDraw.ImageDraw, text: str, size: int, width: float, bold: bool = False) -> str:
    """The text, cut with an ellipsis where it is wider than there is room."""
    letters = font(size, bold)
    text = " ".join(text.split())
    if draw.textlength(text, font=letters) <= width:
        return text
    while text and draw.textlength(text + "…", font=letters) > width:
        text = text[:-1]
    return text + "…"


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: the same letters on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def readable_on(color: Rgb) -> Rgb:
    """Dark or light, whichever is read better on the colour."""
    return INK if 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140 else PAPER
