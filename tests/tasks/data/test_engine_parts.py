"""The embedded engine parts: repeatable, labels that fit the pictures, and a placement that the labels tell exactly."""

from dataclasses import replace
from math import cos, radians, sin
from pathlib import Path

import numpy as np
import pytest
import shapely

from tasks.data.decoding import read_depth, read_image
from tasks.data.engine_parts import POINTS, EngineParts
from tasks.data.engine_parts_shapes import NAMES, SHAPES
from tasks.data.manifest import Manifest, ObjectRecord, Record, write_manifest
from tasks.data.tabletop import CAMERA
from tasks.geometry import mask_of_rle, rle_of_polygons
from tasks.placement import depth_of_mask, placement

SMALL = EngineParts(images=3, validation=1, test=1, size=(72, 96), objects=(3, 6))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    folder = tmp_path_factory.mktemp("parts")
    return folder, list(SMALL.records(folder))


def mask_of(one: ObjectRecord, size: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return mask_of_rle(one.rle if one.rle is not None else rle_of_polygons(one.polygons, size))


def test_records_are_repeatable(made: tuple[Path, list[Record]], tmp_path: Path) -> None:
    folder, first = made
    assert list(SMALL.records(tmp_path)) == first
    assert [one.split for one in first] == ["train"] * 3 + ["val", "test"]
    files = sorted(p.relative_to(folder) for p in folder.rglob("*.*"))
    assert len(files) == 10
    assert all((folder / f).read_bytes() == (tmp_path / f).read_bytes() for f in files)
    assert not np.array_equal(replace(SMALL, seed=1).view("train", 0).image, SMALL.view("train", 0).image)


def test_labels_fit_the_picture(made: tuple[Path, list[Record]]) -> None:
    """Masks are what is seen of each part, boxes their bounds, points lie in their parts where they are visible."""
    folder, records = made
    forms = set()
    for record in records:
        split, index = record.id.split("-")
        view, scene = SMALL.view(split, int(index)), SMALL.scene(split, int(index))
        assert np.array_equal(read_image(record.uri, folder), view.image)
        assert record.objects is not None
        assert len(record.objects) == len(scene.parts)
        for number, (one, part) in enumerate(zip(record.objects, scene.parts, strict=True), start=1):
            forms.add("rle" if one.rle is not None else f"{min(len(one.polygons), 2)} polygons")
            mask, seen = mask_of(one, record.size), view.instances == number
            assert (mask & seen).sum() / (mask | seen).sum() > 0.85
            rows, columns = mask.nonzero()
            tight = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            assert np.abs(np.array(one.box) - tight).max() <= 1.01
            assert NAMES[one.label] == part.kind
            points = np.reshape(one.keypoints, (-1, 3))
            own = [i for i, name in enumerate(POINTS) if name.startswith(f"{part.kind}.")]
            assert [i for i, (_, _, v) in enumerate(points) if v > 0] == own
            for x, y, v in points[own] if own else ():
                owner = view.instances[int(y), int(x)]
                assert v == 1 or owner == number
    assert {"rle", "1 polygons"} <= forms


def test_the_labels_tell_how_each_arm_lies() -> None:
    """Of many scenes: the verdict off mask and keypoints is the generator's own, its direction within 12 degrees."""
    parts = replace(SMALL, size=(96, 128), reference=30.0)
    reference = cos(radians(30.0)), sin(radians(30.0))
    verdicts, hidden, off = [], 0, []
    for index in range(30):
        scene = parts.scene("train", index)
        for part, visible in zip(scene.parts, scene.visible(), strict=True):
            if part.kind != "rocker_arm":
                assert part.is_correct is None
                continue
            scale = parts.size[1] / 24.0
            rings = [shapely.get_coordinates(one.exterior) for one in shapely.get_parts(visible)]
            mask = mask_of_rle(rle_of_polygons([(ring * scale).ravel().tolist() for ring in rings], parts.size))
            points = np.array([(x * scale, y * scale, 2.0) for x, y in part.points])
            found = placement(mask, points)
            hidden += visible.area < 0.999 * SHAPES[part.kind].outline.area
            assert found.status == "ok"
            assert found.outer == 1
            assert found.is_correct(reference) == part.is_correct
            outer = part.turn - np.pi / 2
            assert found.direction is not None
            off.append(np.degrees(np.arccos(np.clip(np.dot(found.direction, (cos(outer), sin(outer))), -1, 1))))
            verdicts.append(part.is_correct)
    assert max(off) < 12
    assert hidden > 4
    assert len(verdicts) > 50
    assert 0.4 < np.mean(verdicts) < 0.6


def test_depth_is_that_of_a_tilted_table_with_parts_of_known_height() -> None:
    parts = replace(SMALL, holes=0.0, size=(96, 128), objects=(2, 3))
    scene, view = parts.scene("train", 3), parts.view("train", 3)
    scale = 24.0 / 128
    y, x = ((np.arange(n) + 0.5) * scale for n in parts.size)
    plane = scene.setting.tilt[0] * (x - x.mean()) + scene.setting.tilt[1] * (y - y.mean())[:, None]
    above = CAMERA - plane - 100 * view.depth  # cm above the table
    assert abs(float(above[view.instances == 0].mean())) < 0.02
    for number, part in enumerate(scene.parts, start=1):
        seen = view.instances == number
        assert float(above[seen].max()) < part.lift + SHAPES[part.kind].tall + 0.5
        assert float(above[seen].min()) > part.lift + 0.2
        found = depth_of_mask(view.depth, seen)
        assert found is not None
        assert found.nearest < found.mean < found.farthest
    assert np.isnan(replace(parts, holes=1.0).view("train", 3).depth).any()


def test_a_manifest_holds_it(made: tuple[Path, list[Record]]) -> None:
    folder, records = made
    write_manifest(folder / "manifest.parquet", records, SMALL.classes(), SMALL.semantic_lut(), SMALL.size)
    manifest = Manifest.open(folder)
    assert manifest.classes == SMALL.classes()
    assert [manifest.count(split) for split in ("train", "val", "test")] == [3, 1, 1]
    record = manifest.record(0)
    assert read_depth(str(record.depth), folder).shape == SMALL.size


@pytest.mark.parametrize(
    "wrong",
    [
        {"test": 0}, {"size": (40, 64)}, {"size": (48, 256)}, {"objects": (0, 3)}, {"objects": (3, 13)},
        {"reference": float("nan")}, {"spread": 85.0}, {"holes": -1.0},
    ],
)  # fmt: skip
def test_wrong_knobs_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"EngineParts.{next(iter(wrong))} is .*; expected"):
        replace(SMALL, **wrong)  # type: ignore[arg-type]
