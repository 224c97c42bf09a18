"""The tables of nuImages as annotated images, one at a time.

The tables of a large set are larger than memory. So each is read once, row by row, into a temporary database that lies
on disk (in TMPDIR; about as large as the annotations) and is gone with the process, however that ends.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from tasks.data.files import Place
from tasks.data.json_lists import Kinds, rows

_SCHEMA = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE; PRAGMA cache_size = -65536;
CREATE TABLE samples (token TEXT PRIMARY KEY, log TEXT) WITHOUT ROWID;
CREATE TABLE images (number INTEGER PRIMARY KEY, token TEXT UNIQUE, sample TEXT, filename TEXT, height INTEGER,
                     width INTEGER, wanted INTEGER);
CREATE TABLE annotations (image INTEGER, kind INTEGER, place TEXT, token TEXT, category TEXT, box TEXT, mask TEXT);
"""
# Those of other cameras are left out; one of no image at all gets the image NULL.
_ANNOTATE = """
INSERT INTO annotations SELECT number, ?, ?, ?, ?, ?, ? FROM (SELECT ? AS of) LEFT JOIN images ON images.token = of
WHERE wanted IS NOT 0
"""
_IMAGES = """
SELECT number, images.token, filename, height, width, log FROM images JOIN samples ON samples.token = images.sample
WHERE wanted ORDER BY number
"""
_SURFACE, _OBJECT = 0, 1  # kinds, in the order in which they are painted


@dataclass(frozen=True)
class Annotation:
    """A row of object_ann (with a box) or surface_ann (without)."""

    token: str
    category: str  # its name
    mask: Mapping[str, Any] | None  # {"size": [H, W], "counts": base64 of a compressed RLE}
    box: object = None  # xyxy as found


@dataclass(frozen=True)
class Annotated:
    """A key frame of the wanted camera."""

    token: str
    filename: str  # relative to the root of the data set
    size: tuple[int, int]  # H, W
    log: str  # of the drive
    surfaces: tuple[Annotation, ...]  # in the table's order
    objects: tuple[Annotation, ...]  # by token, as the devkit paints them


def annotated_images(folder: Place, channel: str) -> Iterator[tuple[Annotated, bool]]:
    """Each key frame of a camera ("" = of all) in the order of sample_data, and whether the set is annotated at all.

    ``folder`` holds the tables (v1.0-train). ValueError names the table and the row that is not what it should be.
    """
    categories = _names(folder / "category.json", "name")
    with _database(folder) as base:
        _fill_images(base, folder, channel)
        _fill_annotations(base, folder)
        is_labeled = base.execute("SELECT 1 FROM annotations LIMIT 1").fetchone() is not None
        for number, token, filename, height, width, log in base.execute(_IMAGES):
            surfaces, objects = _annotations(base, number, categories, folder)
            yield Annotated(token, filename, (height, width), log, surfaces, objects), is_labeled


@contextmanager
def _database(folder: Place) -> Iterator[sqlite3.Connection]:
    """An empty one, in a file of TMPDIR that has no name: no other process sees it, and no kill leaves it behind."""
    try:
        with closing(sqlite3.connect("")) as base:
            base.executescript(_SCHEMA)
            yield base
    except sqlite3.OperationalError as error:
        raise OSError(f"{folder}: its tables cannot be sorted in TMPDIR ({error}); make room there") from error


def _fill_images(base: sqlite3.Connection, folder: Place, channel: str) -> None:
    """All key frames (annotations may be of any camera), and the drives that they are of."""
    logs, cameras = _names(folder / "log.json", "logfile"), _cameras(folder)
    path, wanted = folder / "calibrated_sensor.json", {token for token, name in cameras.items() if name == channel}
    if channel and not wanted:
        known = ", ".join(sorted(set(cameras.values()))) or "none"
        raise ValueError(f"{path}: has no camera {channel!r}; expected one of {known}: correct data.channel")

    def samples() -> Iterator[tuple[str, str]]:
        for row in rows(folder / "sample.json", {"token": str, "log_token": str}):
            yield row["token"], _found(logs, row["log_token"], folder / "sample.json", "log_token", "log.json")

    def images() -> Iterator[tuple[Any, ...]]:
        keys: Kinds = {"token": str, "sample_token": str, "calibrated_sensor_token": str, "filename": str}
        path = folder / "sample_data.json"
        for row in rows(path, {**keys, "is_key_frame": bool, "height": int, "width": int}):
            sensor = row["calibrated_sensor_token"]
            _found(cameras, sensor, path, "calibrated_sensor_token", "calibrated_sensor.json")
            if row["is_key_frame"]:
                is_wanted = not channel or sensor in wanted
                yield row["token"], row["sample_token"], row["filename"], row["height"], row["width"], is_wanted

    _insert(base, "INSERT INTO samples VALUES (?, ?)", samples(), folder / "sample.json")
    columns = "token, sample, filename, height, width, wanted"
    _insert(base, f"INSERT INTO images ({columns}) VALUES (?, ?, ?, ?, ?, ?)", images(), folder / "sample_data.json")
    query = "SELECT token, sample FROM images WHERE sample NOT IN (SELECT token FROM samples) LIMIT 1"
    if (lost := base.execute(query).fetchone()) is not None:
        raise ValueError(
            f"{folder / 'sample_data.json'}: {lost[0]!r} is of the sample {lost[1]!r}, which is not in sample.json; "
            f"expected tables of one version: copy them again"
        )


def _fill_annotations(base: sqlite3.Connection, folder: Place) -> None:
    """Surfaces and objects with the numbers of their images."""
    for name, kind in (("surface_ann.json", _SURFACE), ("object_ann.json", _OBJECT)):
        _insert(base, _ANNOTATE, _annotation_rows(folder / name, kind), folder / name)
        found = base.execute("SELECT count(*), min(token) FROM annotations WHERE image IS NULL").fetchone()
        if found[0]:
            raise ValueError(
                f"{folder / name}: {found[0]} rows are of no key frame of sample_data.json, such as {found[1]!r}; "
                f"expected tables of one version: copy them again"
            )
    base.execute("CREATE INDEX by_image ON annotations (image, kind, place)")


def _annotation_rows(path: Place, kind: int) -> Iterator[tuple[Any, ...]]:
    keys: Kinds = {"token": str, "sample_data_token": str, "category_token": str, "mask": (dict, type(None))}
    for row in rows(path, {**keys, "bbox": list} if kind == _OBJECT else keys):
        place = row["token"] if kind == _OBJECT else ""  # surfaces keep the order of their table
        mask = None if row["mask"] is None else json.dumps(row["mask"])
        box = json.dumps(row.get("bbox"))
        yield kind, place, row["token"], row["category_token"], box, mask, row["sample_data_token"]


def _annotations(
    base: sqlite3.Connection, number: int, categories: Mapping[str, str], folder: Place
) -> tuple[tuple[Annotation, ...], tuple[Annotation, ...]]:
    """Surfaces and objects of an image."""
    query = "SELECT kind, token, category, box, mask FROM annotations WHERE image = ? ORDER BY kind, place, rowid"
    both: tuple[list[Annotation], list[Annotation]] = ([], [])
    for kind, token, category, box, mask in base.execute(query, (number,)):
        path = folder / ("object_ann.json" if kind == _OBJECT else "surface_ann.json")
        name = _found(categories, category, path, "category_token", "category.json")
        both[kind].append(Annotation(token, name, None if mask is None else json.loads(mask), json.loads(box)))
    return tuple(both[_SURFACE]), tuple(both[_OBJECT])


def _insert(base: sqlite3.Connection, statement: str, found: Iterable[tuple[Any, ...]], path: Place) -> None:
    try:
        with base:
            base.executemany(statement, found)
    except sqlite3.IntegrityError:
        raise ValueError(f"{path}: two rows have the same token; expected one row each: copy it again") from None
    except OverflowError:
        raise ValueError(f"{path}: holds a number of more than 63 bits; expected sizes in px: copy it again") from None


def _names(path: Place, key: str) -> dict[str, str]:
    """Token -> name, of a small table."""
    return {row["token"]: row[key] for row in rows(path, {"token": str, key: str})}


def _cameras(folder: Place) -> dict[str, str]:
    """calibrated_sensor token -> channel."""
    path, sensors = folder / "calibrated_sensor.json", _names(folder / "sensor.json", "channel")
    return {
        row["token"]: _found(sensors, row["sensor_token"], path, "sensor_token", "sensor.json")
        for row in rows(path, {"token": str, "sensor_token": str})
    }


def _found(names: Mapping[str, str], token: str, path: Place, key: str, table: str) -> str:
    if token not in names:
        raise ValueError(
            f"{path}: a row has the {key} {token!r}, which {table} does not hold; expected tables of one version: copy "
            f"them again"
        )
    return names[token]
