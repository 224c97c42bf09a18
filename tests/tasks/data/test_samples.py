"""Images and labels are decoded, resized alike, kept while they fit, and named when something is wrong with them."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.classes import ClassMap
from tasks.data.manifest import Manifest, ObjectRecord, Record, write_manifest
from tasks.data.samples import Cache, Samples, decode, read_sample
from tasks.geometry import mask_box, mask_of_rle, rle_of_polygons
from tasks.types import Objects, Sample

CLASSES = ClassMap(("box",), ("floor", "box"), (1,), ("left", "right"), ((0, 1),))
LUT = (0, 1, *(-1,) * 253, 255)
TASKS = ("detection", "instances", "keypoints", "segmentation", "depth")
SQUARE = (8.0, 4.0, 8.0 + 12, 4.0 + 8)  # the one object


def scene(folder: Path, id: str = "a") -> Record:
    """A 16 x 32 image (H x W) with a rectangle that all labels agree on: by polygon, and again by RLE."""
    x1, y1, x2, y2 = map(int, SQUARE)
    semantic = np.zeros((16, 32), np.uint8)
    semantic[y1:y2, x1:x2] = 1
    Image.fromarray(np.stack([semantic * 255, semantic * 0, 255 - semantic * 255], -1)).save(folder / f"{id}.png")
    Image.fromarray(np.where(np.arange(32) < 2, 255, semantic).astype(np.uint8)).save(folder / f"{id}_s.png")
    depth = np.where(semantic == 1, 5, np.nan).astype(np.float32)
    np.save(folder / f"{id}_d.npy", depth)
    corners = (x1, y1, x2, y1, x2, y2, x1, y2)
    objects = (
        ObjectRecord(SQUARE, 0, polygons=(corners,), keypoints=(x1, y1, 2, 0, 0, 0)),
        ObjectRecord(SQUARE, 0, crowd=True, rle=rle_of_polygons([corners], (16, 32))),
    )
    return Record(id, f"{id}.png", (16, 32), "train", "", objects, f"{id}_s.png", f"{id}_d.npy")


def read(record: Record, folder: Path, size: tuple[int, int] | None = None) -> Sample:
    return read_sample(record, folder, size, LUT, TASKS, CLASSES)


def test_a_sample_as_stored(tmp_path: Path) -> None:
    sample = read(scene(tmp_path), tmp_path)
    assert sample.image.shape == (3, 16, 32)
    assert sample.image[:, 5, 9].tolist() == [1, 0, 0]
    objects = sample.targets["detection"]
    assert isinstance(objects, Objects)
    assert objects is sample.targets["instances"]
    assert objects.boxes.tolist() == [list(SQUARE)] * 2
    assert (objects.labels.tolist(), objects.crowd.tolist()) == ([0, 0], [False, True])
    assert objects.keypoints is not None
    assert objects.keypoints.tolist() == [[[8, 4, 2], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]
    segmentation = sample.targets["segmentation"]
    assert isinstance(segmentation, torch.Tensor)
    assert segmentation.dtype == torch.int64
    assert (segmentation == 255).sum() == 2 * 16


@pytest.mark.parametrize("size", [(32, 64), (8, 16), (16, 16), (48, 32)])
def test_everything_is_resized_alike(tmp_path: Path, size: tuple[int, int]) -> None:
    sample = read(scene(tmp_path), tmp_path, size)
    objects = sample.targets["detection"]
    assert isinstance(objects, Objects)
    sy, sx = size[0] / 16, size[1] / 32
    want = (SQUARE[0] * sx, SQUARE[1] * sy, SQUARE[2] * sx, SQUARE[3] * sy)
    assert tuple(objects.boxes[0].tolist()) == want
    segmentation, depth = sample.targets["segmentation"], sample.targets["depth"]
    assert isinstance(segmentation, torch.Tensor)
    assert isinstance(depth, torch.Tensor)
    masks = [mask_of_rle(rle) for rle in objects.rles if rle is not None]
    assert len(masks) == 2
    for mask in (*masks, (segmentation == 1).numpy(), depth.isfinite().numpy()):
        assert mask.shape == size
        assert mask_box(mask) == want
    assert objects.keypoints is not None
    assert objects.keypoints[0, 0].tolist() == [want[0], want[1], 2]
    inside = sample.image[:, int(want[1]) + 1 : int(want[3]) - 1, int(want[0]) + 1 : int(want[2]) - 1]
    assert torch.equal(inside, torch.tensor([1.0, 0, 0])[:, None, None].expand_as(inside))


def test_only_what_is_asked_and_labeled_is_there(tmp_path: Path) -> None:
    record = scene(tmp_path)
    plain = read_sample(record, tmp_path, None, LUT, ("detection",), CLASSES)
    assert set(plain.targets) == {"detection"}
    objects = plain.targets["detection"]
    assert isinstance(objects, Objects)
    assert (objects.rles, objects.keypoints) == ((), None)
    bare = replace(record, objects=None, segmentation=None, depth=None)
    assert read(bare, tmp_path).targets == {}
    empty = read(replace(record, objects=()), tmp_path).targets["detection"]
    assert isinstance(empty, Objects)
    assert (empty.boxes.shape, empty.labels.shape, empty.crowd.shape) == ((0, 4), (0,), (0,))


def test_missing_files_and_other_sizes_are_named(tmp_path: Path) -> None:
    record = scene(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none.png: no such file"):
        read(replace(record, uri="none.png"), tmp_path)
    with pytest.raises(ValueError, match=r"a.png: is 16 x 32 px \(H x W\); expected 16 x 30"):
        read(replace(record, size=(16, 30)), tmp_path)


def test_wrong_maps_are_named(tmp_path: Path) -> None:
    record = scene(tmp_path)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"small.png: is 8 x 8 px \(H x W\); expected 16 x 32"):
        read(replace(record, segmentation="small.png"), tmp_path)
    Image.fromarray(np.full((16, 32), 7, np.uint8)).save(tmp_path / "seven.png")
    with pytest.raises(ValueError, match=r"seven.png: holds the values \[7\], which no class has; expected"):
        read(replace(record, segmentation="seven.png"), tmp_path)
    objects = (ObjectRecord(SQUARE, 0, polygons=((1, 2, 3),)),)
    with pytest.raises(ValueError, match=r"a.png: an object has a bad label: a polygon has the 3 values"):
        read(replace(record, objects=objects), tmp_path)


def manifest_of(folder: Path, count: int) -> Manifest:
    records = [scene(folder, f"image{i}") for i in range(count)]
    write_manifest(folder / "manifest.parquet", records, CLASSES, LUT, (8, 16))
    return Manifest.open(folder)


def test_samples_by_row_are_decoded_once(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, 4)
    samples = Samples(manifest, TASKS)
    assert len(samples) == 4
    first = samples[2]
    assert first.id == manifest.ids(np.array([2]))[0]
    assert first.image.shape == (3, 8, 16)
    for path in tmp_path.glob("*.png"):
        path.unlink()
    again = samples[2]
    assert torch.equal(again.image, first.image)
    again.image.zero_()
    assert samples[2].image.sum() == first.image.sum() > 0  # each caller has pixels of its own
    with pytest.raises(FileNotFoundError, match="no such file"):
        samples[1]


def test_samples_of_some_rows_share_a_cache(tmp_path: Path) -> None:
    manifest, cache = manifest_of(tmp_path, 4), Cache()
    some = Samples(manifest, ("detection",), np.array([3, 1]), cache)
    assert some.rows.tolist() == [1, 3]
    assert some[3].id == manifest.ids(np.array([3]))[0]
    with pytest.raises(KeyError, match="row 2 is not among the 2 rows"):
        some[2]
    (tmp_path / manifest.record(3).uri).unlink()
    assert Samples(manifest, ("detection",), np.array([3]), cache)[3].id == some[3].id
    assert len(cache) == 1


def test_the_cache_stays_in_its_bytes_least_recent_out_first(tmp_path: Path) -> None:
    one = decode(scene(tmp_path), tmp_path, None, LUT, TASKS, CLASSES)
    assert 16 * 32 * 3 < one.nbytes < 16 * 32 * 3 + 16 * 32 * 5 + 4000
    cache = Cache(3 * one.nbytes)
    for key in "abc":
        cache.put(key, one)
    cache.get("a")
    cache.put("d", one)
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]
    assert (len(cache), cache.nbytes) == (3, 3 * one.nbytes)
    small = Cache(one.nbytes - 1)
    small.put("a", one)
    assert (len(small), small.nbytes) == (0, 0)


def test_threads_may_share_samples(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, 6)
    samples = Samples(manifest, TASKS, cache=Cache(20_000))
    want = [read_sample(r, tmp_path, (8, 16), LUT, TASKS, CLASSES).image for r in manifest.records(manifest.rows())]
    wrong: list[int] = []

    def work(offset: int) -> None:
        for step in range(60):
            row = (step * 5 + offset) % 6
            if not torch.equal(samples[row].image, want[row]):
                wrong.append(row)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_label_as_an_input_is_class_plus_one_and_nothing_where_it_is_not_known(tmp_path: Path) -> None:
    record = scene(tmp_path)
    found = decode(record, tmp_path, (8, 16), LUT, ("depth",), CLASSES, ("segmentation",))
    shown = found.inputs["segmentation"]
    assert (shown.dtype, shown.shape) == (torch.float32, (1, 8, 16))
    assert "segmentation" not in found.sample(("depth",)).targets
    assert found.segmentation is None
    both = decode(record, tmp_path, (8, 16), LUT, ("segmentation",), CLASSES, ("segmentation",))
    truth = both.sample(("segmentation",)).targets["segmentation"]
    assert isinstance(truth, torch.Tensor)
    assert torch.equal(shown[0], torch.where(truth == 255, 0, truth + 1).float())
    assert both.nbytes > found.nbytes - 8 * 16 * 4
    none = decode(replace(record, segmentation=None), tmp_path, None, LUT, (), CLASSES, ("segmentation",))
    assert torch.equal(none.inputs["segmentation"], torch.zeros(1, 16, 32))
