"""The Cityscapes adapter reads the real folder structure, and says what is wrong with a file."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.preparing import PrepareError, prepare
from tasks.data.cityscapes import LABELS, PIXELS, SIGNS, THINGS, Cityscapes
from tasks.data.decoding import read_depth, read_semantic
from tasks.data.manifest import Manifest, Record
from tasks.data.samples import Samples
from tasks.geometry import mask_box, mask_of_rle, rle_area
from tests.data.cityscapes import CAR, HEIGHT, PERSON, ROAD, SIGN, SKY, WIDTH, instance_ids, write_cityscapes


def first(adapter: Cityscapes, folder: Path) -> Record:
    return next(adapter.records(folder))


def test_classes_and_their_relation() -> None:
    adapter = Cityscapes("somewhere")
    classes = adapter.classes()
    assert (classes.detection, classes.segmentation) == (THINGS, PIXELS)
    assert classes.det_to_seg == tuple(range(11, 19))
    # the table of train ids
    known = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, **{i: i - 13 for i in range(19, 29)}, 31: 16, 32: 17, 33: 18}
    assert adapter.semantic_lut() == tuple(known.get(i, 255) for i in range(34)) + (-1,) * 221 + (255,)
    assert [LABELS.index(name) for name in THINGS] == [24, 25, 26, 27, 28, 31, 32, 33]
    ten = replace(adapter, signs=True).classes()
    assert ten.detection == THINGS + SIGNS
    assert ten.det_to_seg[-2:] == (6, 7)


def test_class_maps_can_be_overridden(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path / "set")
    flat = {"road": "flat", "sky": "sky", "person": "human", "rider": "human", "car": "car"}
    adapter = Cityscapes(str(root), segmentation=flat, detection={"person": "human", "caravan": "car", "car": "car"})
    classes = adapter.classes()
    assert (classes.detection, classes.segmentation) == (("human", "car"), ("flat", "sky", "human", "car"))
    assert classes.det_to_seg == (2, -1)  # a caravan has no class of pixels, so cars and caravans have none together
    assert [adapter.semantic_lut()[i] for i in (ROAD, SKY, PERSON, 25, CAR, 29, 8)] == [0, 1, 2, 2, 3, 255, 255]
    assert [(o.label, o.crowd) for o in first(adapter, tmp_path).objects or ()] == [(1, True), (0, 0), (0, 0), (1, 0)]
    with pytest.raises(ValueError, match=r"cityscapes: detection: 'cars' is no label; expected some of .*, car, "):
        Cityscapes(str(root), detection={"cars": "car"})
    with pytest.raises(ValueError, match=r"validation is 1.0 and test"):
        Cityscapes(str(root), validation=1.0)
    with pytest.raises(ValueError, match="cap is 0"):
        Cityscapes(str(root), cap=0)


def test_records(tmp_path: Path) -> None:
    records = list(Cityscapes(str(write_cityscapes(tmp_path / "set"))).records(tmp_path))
    assert [(r.id, r.split, r.group) for r in records[1:4]] == [
        ("aachen_000001_000019", "train", "train/aachen"),
        ("bochum_000000_000019", "train", "train/bochum"),
        ("munster_000000_000019", "val", "val/munster"),
    ]
    record = records[0]
    assert record.uri == "set/leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"
    assert record.segmentation == "set/gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    assert record.size == (HEIGHT, WIDTH)
    cars, *persons = record.objects or ()  # no caravan
    assert (cars.box, cars.label, cars.crowd) == ((20, 12, 30, 16), 2, True)
    assert [(o.box, o.label, o.crowd) for o in persons] == [((4, 10, 8, 18), 0, False), ((8, 10, 12, 18), 0, False)]
    assert persons[1].rle is not None
    np.testing.assert_array_equal(mask_of_rle(persons[1].rle), instance_ids() == 24001)


def test_signs_are_the_visible_parts_of_polygons(tmp_path: Path) -> None:
    adapter = Cityscapes(str(write_cityscapes(tmp_path)), signs=True)
    sign = (first(adapter, tmp_path).objects or ())[-1]
    assert (sign.box, adapter.classes().detection[sign.label], sign.crowd) == ((14, 2, 18, 6), "traffic sign", False)
    assert sign.rle is not None
    np.testing.assert_array_equal(mask_of_rle(sign.rle), instance_ids() == SIGN)
    path = next(tmp_path.rglob("aachen_000000*polygons.json"))
    content = json.loads(path.read_text())
    content["objects"][2]["label"] = "traffic signgroup"
    path.write_text(json.dumps(content))
    assert [o.crowd for o in first(adapter, tmp_path).objects or ()][-1]


def test_depth(tmp_path: Path) -> None:
    adapter = Cityscapes(str(write_cityscapes(tmp_path)))
    uri = str(first(adapter, tmp_path).depth)
    assert uri == "disparity/train/aachen/aachen_000000_000019_disparity.png#baseline_fx=400.0,cap=200.0"
    metres = read_depth(uri, tmp_path)
    assert np.isnan(metres[:3]).all()  # no value, no disparity, 400 m
    assert metres[3:5, 0].tolist() == [200, 10]
    assert read_depth(str(first(replace(adapter, cap=500.0), tmp_path).depth), tmp_path)[2, 0] == 400
    assert first(replace(adapter, disparity=""), tmp_path).depth is None
    next(tmp_path.rglob("aachen_000000*disparity.png")).unlink()
    assert [r.depth is None for r in adapter.records(tmp_path)][:2] == [True, False]


def test_splits_are_folders_and_test_has_no_labels(tmp_path: Path) -> None:
    root = str(write_cityscapes(tmp_path))
    every = Cityscapes(root, splits={"train": "train", "val": "val", "test": "test"})
    *_, last = every.records(tmp_path)
    assert (last.split, last.objects, last.segmentation, last.depth) == ("test", None, None, None)
    *_, last = replace(every, unlabeled=()).records(tmp_path)
    assert last.objects == ()
    published = Cityscapes(root, splits={"train": "train", "test": "val"}, validation=0.5)
    splits = {(r.group, r.split) for r in published.records(tmp_path)}
    assert {group for group, _ in splits} == {"train/aachen", "train/bochum", "val/munster"}
    assert len(splits) == 3  # whole cities
    assert ("val/munster", "test") in splits
    with pytest.raises(FileNotFoundError, match=r"leftImg8bit/extra: no such folder; expected .* unpack it there"):
        list(Cityscapes(root, splits={"train": "extra"}).records(tmp_path))


def of(end: str) -> Callable[[Path], Path]:
    return lambda root: next(root.rglob(f"aachen_000000*{end}"))


def bytes_of(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


def edited(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def coloured(path: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)


def smaller(path: Path) -> None:
    Image.fromarray(np.zeros((4, 6), np.uint16)).save(path)


FAULTS: list[tuple[str, Callable[[Path], None], str, str]] = [
    ("leftImg8bit.png", cut, "undecodable", "leftImg8bit.png: cannot be decoded"),
    ("leftImg8bit.png", bytes_of(b"GIF"), "undecodable", "leftImg8bit.png: cannot be decoded"),
    ("labelIds.png", Path.unlink, "missing", "labelIds.png: no such file"),
    ("labelIds.png", coloured, "semantic", "labelIds.png: is a semantic map of mode RGB"),
    ("instanceIds.png", Path.unlink, "labels", "instanceIds.png: no such file"),
    ("instanceIds.png", cut, "labels", "instanceIds.png: cannot be decoded"),
    ("instanceIds.png", coloured, "labels", "instanceIds.png: is a PNG of mode RGB; expected 16-bit grey"),
    ("instanceIds.png", smaller, "labels", "instanceIds.png: is of 4 x 6 px (H x W); expected its image's 24 x 48"),
    ("polygons.json", bytes_of(b"{"), "labels", "polygons.json: is not JSON"),
    ("polygons.json", edited(lambda c: c.update(imgWidth=9)), "labels", "polygons.json: is of 24 x 9 px"),
    ("polygons.json", edited(lambda c: c.update(objects=[7])), "labels", "objects[0]: has 7; expected 'label'"),
    (
        "polygons.json",
        edited(lambda c: c["objects"][0].update(polygon=[1, "a"])),
        "labels",
        "objects[0]: the polygon is [1, 'a']; expected pairs of numbers",
    ),
    ("camera.json", Path.unlink, "labels", "camera.json: no such file"),
    ("camera.json", edited(lambda c: c["intrinsic"].pop("fx")), "labels", "intrinsic: has the keys (none); expected"),
    ("camera.json", edited(lambda c: c["intrinsic"].update(fx=0)), "labels", "intrinsic: 'fx' is 0; expected a number"),
    ("disparity.png", cut, "depth", "disparity.png: cannot be decoded"),
    ("disparity.png", coloured, "depth", "disparity.png: is a depth map of mode RGB; expected grey"),
    ("disparity.png", smaller, "depth", "is 4 x 6 px (H x W, as shown); expected 24 x 48"),
]


@pytest.mark.parametrize(("end", "spoil", "kind", "words"), FAULTS)
def test_a_fault_of_a_file_costs_its_image(
    tmp_path: Path, end: str, spoil: Callable[[Path], None], kind: str, words: str
) -> None:
    root = write_cityscapes(tmp_path / "set")
    spoil(of(end)(root))
    adapter = Cityscapes(str(root), signs=True)
    with pytest.raises(PrepareError) as caught:
        prepare(adapter, tmp_path / "out")
    assert words in str(caught.value)
    report = prepare(adapter, tmp_path / "out", on_error="skip")
    assert (report.images, report.kept, dict(report.counts)) == (5, 4, {kind: 1})
    assert str(tmp_path) in report.first[0].file or str(tmp_path) in report.first[0].sentence


def test_from_files_to_samples(tmp_path: Path) -> None:
    adapter = Cityscapes(str(write_cityscapes(tmp_path / "set")), size=(12, 24))
    assert str(prepare(adapter, tmp_path / "out")).startswith("5 of 5 images (3 train, 2 val), 15 objects, 0 boxes cut")
    manifest = Manifest.open(tmp_path / "out")
    sample = Samples(manifest, ("detection", "segmentation", "depth"))[0]
    maps: Any = sample.targets
    assert maps["segmentation"].unique().tolist() == [0, 5, 7, 10, 11, 13, 255]
    assert maps["depth"].shape == (12, 24)
    assert maps["detection"].crowd.tolist() == [True, False, False]


def test_the_fixture_is_as_expected(shared: Path, tmp_path: Path) -> None:
    root = shared / "data" / "fixtures" / "cityscapes"
    records = {f"{r.group.split('/')[0]}/{r.id}": r for r in Cityscapes(str(root)).records(tmp_path)}
    expected = json.loads((root / "expected.json").read_text())
    assert set(records) == {one["frame"] for one in expected}
    for one in expected:
        record = records[one["frame"]]
        assert record.fault == ""
        values, counts = np.unique(read_semantic(str(record.segmentation), tmp_path), return_counts=True)
        assert dict(zip(map(str, values), counts, strict=True)) == one["label_pixels"]
        found = []
        for thing in record.objects or ():
            assert thing.rle is not None
            assert mask_box(mask_of_rle(thing.rle)) == thing.box
            x1, y1, x2, y2 = thing.box
            box_xywh, label = [x1, y1, x2 - x1, y2 - y1], LABELS.index(THINGS[thing.label])
            found.append((label, box_xywh, rle_area(thing.rle), int(thing.crowd)))
        wanted = [(i["label_id"], i["bbox_xywh"], i["area"], i["iscrowd"]) for i in one["instances"]]
        assert sorted(found) == sorted(wanted)


def test_depth_and_signs_of_the_fixture_agree_with_its_maps(shared: Path, tmp_path: Path) -> None:
    root = shared / "data" / "fixtures" / "cityscapes"
    for record in Cityscapes(str(root), signs=True).records(tmp_path):
        signs = [o for o in record.objects or () if o.label == 9]
        drawn = sum(mask_of_rle(o.rle).astype(int) for o in signs if o.rle)
        np.testing.assert_array_equal(drawn, read_semantic(str(record.segmentation), tmp_path) == SIGN)
        values = np.asarray(Image.open(str(record.depth).split("#")[0])).astype(np.float64)
        with np.errstate(divide="ignore"):
            metres = 0.209313 * 530 / np.where(values > 0, (values - 1) / 256, np.nan)
        metres[~(metres <= 200)] = np.nan
        np.testing.assert_allclose(read_depth(str(record.depth), tmp_path), metres, rtol=1e-6)
