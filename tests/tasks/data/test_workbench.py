"""The embedded work-bench: repeatable, exact, distinguishable parts, a sensor's holes, every knob."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.data.decoding import read_depth, read_image, read_semantic
from tasks.data.manifest import Manifest, Record, write_manifest
from tasks.data.samples import Samples
from tasks.data.workbench import Workbench
from tasks.data.workbench_parts import NAMES, PARTS, centre_of_gravity
from tasks.data.workbench_render import WIDE
from tasks.geometry import mask_of_rle
from tasks.types import Objects

SMALL = Workbench(images=4, validation=1, test=1, size=(48, 64), objects=(3, 5))


def written(workbench: Workbench, folder: Path) -> list[Record]:
    return list(workbench.records(folder))


def test_records_are_repeatable_and_whole(tmp_path: Path) -> None:
    first, again = written(SMALL, tmp_path / "a"), written(SMALL, tmp_path / "b")
    assert first == again
    assert [r.split for r in first] == ["train"] * 4 + ["val", "test"]
    assert len({r.group for r in first}) == 6
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 18
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_truth_fits_together(tmp_path: Path) -> None:
    for record in written(SMALL, tmp_path):
        assert read_image(record.uri, tmp_path).shape == (48, 64, 3)
        semantic = read_semantic(str(record.segmentation), tmp_path)
        assert read_depth(str(record.depth), tmp_path).shape == (48, 64)
        assert record.objects
        for one in record.objects:
            assert one.rle is not None
            mask = mask_of_rle(one.rle)
            assert np.array_equal(mask, semantic == one.label + 1)
            x1, y1, x2, y2 = one.box
            x, y, v = one.keypoints
            assert x1 < x < x2
            assert y1 < y < y2
            assert v == 2
        names = [one.label for one in record.objects]
        assert len(set(names)) == len(names)


@pytest.mark.slow
def test_the_pickup_point_is_the_centre_of_gravity() -> None:
    """Of the height under the mask, rendered large; even where it lies in the hole of a ring."""
    workbench = replace(SMALL, size=(384, 512))
    bench, view = workbench.bench("train", 1), workbench.view("train", 1)
    for index, (part, point) in enumerate(zip(bench.parts, view.points, strict=True)):
        rows, columns = (view.instances == index + 1).nonzero()
        near = abs(columns.mean() + 0.5 - point[0]), abs(rows.mean() + 0.5 - point[1])
        reach = PARTS[NAMES[part.label]].reach * 512 / WIDE
        assert max(near) < 0.25 * reach
    u, v = centre_of_gravity("m20_100")
    assert 0.3 < u < 1.0
    assert v == pytest.approx(0, abs=1e-6)
    assert centre_of_gravity("bearing") == pytest.approx((0, 0), abs=1e-6)


def test_depth_is_in_metres_and_parts_stand_out() -> None:
    view = Workbench(holes=0).view("train", 0)
    bench = Workbench().bench("train", 0)
    assert np.isfinite(view.depth).all()
    ground = float(np.median(view.depth[view.instances == 0]))
    assert 0.45 < ground < 0.55
    for index, part in enumerate(bench.parts):
        top = float(np.median(view.depth[view.instances == index + 1]))
        assert top < ground - 0.003, NAMES[part.label]


def test_parts_are_told_apart_by_their_shapes() -> None:
    """Outline, height and colour of any two differ."""
    at = np.linspace(-5.6, 5.6, 225)
    u, v = np.meshgrid(at, at)
    looks = {name: part.look(u, v) for name, part in PARTS.items()}
    assert len(looks) == 13
    for name, look in looks.items():
        assert np.hypot(u, v)[look.height > 0].max() <= PARTS[name].reach
        for other, second in looks.items():
            if other > name:
                union = (look.height > 0) | (second.height > 0)
                shape = (np.abs(look.height - second.height) > 0.3)[union].mean()
                colour = np.abs(look.albedo - second.albedo).max(-1)[union].mean()
                assert shape > 0.15 or colour > 0.2, (name, other)


def test_knobs_change_what_they_say(tmp_path: Path) -> None:
    plain = SMALL.view("train", 0)
    assert 0.005 < np.isnan(plain.depth).mean() < 0.25
    assert np.isnan(replace(SMALL, holes=3.0).view("train", 0).depth).mean() > np.isnan(plain.depth).mean()
    assert not np.array_equal(replace(SMALL, seed=1).view("train", 0).image, plain.image)
    assert not np.array_equal(SMALL.view("val", 0).image, plain.image)
    assert [len(replace(SMALL, objects=(1, 1)).bench("train", i).parts) for i in range(40)] == [1] * 40
    large = replace(SMALL, size=(96, 128)).view("train", 0)
    assert [pytest.approx((2 * x, 2 * y)) for x, y in plain.points] == list(large.points)
    smaller = cv2.resize(large.image, (64, 48), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(smaller - plain.image).mean() < 8
    rough = written(replace(SMALL, mask_error=0.8), tmp_path)[0].objects
    assert rough
    for index, one in enumerate(rough):
        assert one.rle is not None
        mask, exact = mask_of_rle(one.rle), plain.instances == index + 1
        assert (mask != exact).any()
        assert (mask & exact).sum() > 0.3 * exact.sum()


def test_wrong_knobs_are_refused() -> None:
    for wrong in (
        {"images": 0},
        {"size": (40, 64)},
        {"size": (48, 256)},
        {"objects": (0, 3)},
        {"objects": (3, 14)},
        {"holes": -1.0},
        {"mask_error": float("nan")},
    ):
        with pytest.raises(ValueError, match=f"Workbench.{next(iter(wrong))} is"):
            replace(SMALL, **wrong)  # type: ignore[arg-type]


def test_it_is_read_with_depth_as_an_input(tmp_path: Path) -> None:
    """The task pickup reads masks and points, and the sensor is no label."""
    path = tmp_path / "manifest.parquet"
    write_manifest(path, SMALL.records(tmp_path), SMALL.classes(), SMALL.semantic_lut())
    found = Samples(Manifest.open(path), ("pickup",), sensors=("depth",))[0]
    assert set(found.targets) == {"pickup"}
    objects = found.targets["pickup"]
    assert isinstance(objects, Objects)
    assert len(objects.rles) == len(objects.labels) > 0
    assert objects.keypoints is not None
    assert objects.keypoints.shape[1:] == (1, 3)
    depth = found.inputs["depth"]
    assert depth.shape == (1, 48, 64)
    assert (depth == 0).any()
    assert (depth > 0.3).any()
    assert not depth.isnan().any()
    both = Samples(Manifest.open(path), ("depth",), sensors=("depth",))[0]
    label = both.targets["depth"]
    assert not isinstance(label, Objects)
    assert label.isnan().any()
    assert not Samples(Manifest.open(path), ("pickup",))[0].inputs
    with pytest.raises(ValueError, match="no sensor is called 'lidar'"):
        Samples(Manifest.open(path), (), sensors=("lidar",))


def test_an_image_without_the_sensor_is_told(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    records = [replace(record, depth=None) for record in SMALL.records(tmp_path)]
    write_manifest(path, records, SMALL.classes(), SMALL.semantic_lut())
    with pytest.raises(ValueError, match=r"has no depth map; expected one, which the model reads"):
        Samples(Manifest.open(path), (), sensors=("depth",))[0]


def test_fewer_kinds_are_the_classes_in_their_order(tmp_path: Path) -> None:
    few = replace(SMALL, kinds=("motor", "m20"), objects=(1, 2))
    records = written(few, tmp_path)
    assert few.classes().detection == ("motor", "m20")
    assert {one.label for record in records for one in record.objects} == {0, 1}
    wide = {0: [], 1: []}
    for record in records:
        for one in record.objects:
            wide[one.label].append(max(one.box[2] - one.box[0], one.box[3] - one.box[1]))
    assert min(wide[0]) > max(wide[1])
    assert replace(SMALL, kinds=NAMES) == SMALL
    for kinds in ((), ("motor", "motor"), ("engine",)):
        with pytest.raises(ValueError, match=r"expected one or more of f20_20_b, .*, each once"):
            replace(SMALL, kinds=kinds)
    with pytest.raises(ValueError, match="fewest and the most, from 1 to 2"):
        replace(SMALL, kinds=("motor", "m20"))
