"""The NYU Depth V2 adapter reads the official file and the folder form, and says what is wrong with a file."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from orchestrator.preparing import PrepareError, prepare
from tasks.data import nyuv2_mat
from tasks.data.decoding import read_depth, read_image, read_semantic
from tasks.data.manifest import Manifest
from tasks.data.nyuv2 import COARSE, LABELS, THINGS, TO_COARSE, Nyuv2
from tasks.data.samples import Samples
from tasks.geometry import mask_of_rle
from tests.data.nyuv2 import COUNT, HEIGHT, NAMES, WIDTH, label_maps, photo, write_folder, write_mat

MAT = "nyu_depth_v2_labeled.mat"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the three files of the official form."""
    return write_mat(tmp_path / "set")


# ---- the official file ----------------------------------------------------------------------------------------------


def test_records_of_the_file(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    records = list(Nyuv2(str(root)).records(out))
    assert [(r.id, r.split) for r in records] == [(f"nyu_000{i}", "train" if i < 5 else "test") for i in range(1, 7)]
    assert [r.group for r in records[:2]] == ["kitchen_0001/train"] * 2
    assert records[5].group == "kitchen_0001/test"  # the lists stay as they are published
    labels, instances = label_maps()
    for frame, record in enumerate(records):
        assert record.size == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(read_image(record.uri, out), photo(frame))
        values = read_semantic(str(record.segmentation), out)
        np.testing.assert_array_equal(values, np.array([0, *NAMES.values()])[labels])
        metres = read_depth(str(record.depth), out)
        assert metres[:, 3].tolist() == [1 + i / 4 for i in range(HEIGHT)]
        chairs = record.objects or ()
        assert [(o.box, THINGS[o.label], o.crowd) for o in chairs] == [
            ((4, 2, 8, 8), "chair", False), ((8, 2, 12, 8), "chair", False)
        ]  # fmt: skip
        assert chairs[1].rle is not None
        np.testing.assert_array_equal(mask_of_rle(chairs[1].rle), (labels == 2) & (instances == 2))


def test_forty_classes_and_thirteen(root: Path) -> None:
    adapter = Nyuv2(str(root))
    classes = adapter.classes()
    assert (classes.detection, classes.segmentation) == (THINGS, LABELS)
    assert [LABELS[i] for i in classes.det_to_seg] == list(THINGS)
    assert adapter.semantic_lut() == (255, *range(40), *(-1,) * 214, 255)
    coarse = replace(adapter, level=13)
    assert coarse.classes().segmentation == COARSE
    assert [COARSE[i] for i in coarse.classes().det_to_seg] == [TO_COARSE[label] for label in THINGS]
    assert [coarse.semantic_lut()[i] for i in (0, 1, 14, 40, 41)] == [255, 11, 9, 6, -1]


def test_class_maps_can_be_overridden(root: Path, tmp_path: Path) -> None:
    adapter = Nyuv2(str(root), segmentation={"wall": "rest", "chair": "seat", "sofa": "seat"}, detection={"chair": "x"})
    assert adapter.classes().segmentation == ("rest", "seat")
    assert (adapter.classes().detection, adapter.classes().det_to_seg) == (("x",), (1,))
    assert [adapter.semantic_lut()[i] for i in (0, 1, 2, 5, 6)] == [255, 0, 255, 1, 1]
    assert [o.label for o in next(adapter.records(tmp_path / "out")).objects or ()] == [0, 0]
    without = replace(adapter, detection={"sofa": "sofa"})
    assert next(without.records(tmp_path / "out")).objects == ()
    with pytest.raises(ValueError, match=r"nyuv2: detection: 'stool' is no label; expected some of wall, floor"):
        replace(adapter, detection={"stool": "stool"}).classes()
    # desks are ignored, so they are no tables
    assert replace(adapter, segmentation={"table": "table"}, detection={"desk": "desk"}).classes().det_to_seg == (-1,)


def test_depth_of_the_sensor_has_holes(root: Path, tmp_path: Path) -> None:
    record = next(Nyuv2(str(root), depth="raw").records(tmp_path))
    metres = read_depth(str(record.depth), tmp_path)
    assert np.isnan(metres[-1]).all()
    assert np.isfinite(metres[:-1]).all()
    assert record.depth != next(Nyuv2(str(root)).records(tmp_path)).depth  # files of both may lie side by side


def test_lists_of_frames_of_ones_own(root: Path, tmp_path: Path) -> None:
    (root / "splits.mat").unlink()
    listed = Nyuv2(str(root), frames={"train": [1, 3], "val": [4], "test": [6]})
    assert [(r.id[-1], r.split) for r in listed.records(tmp_path)] == [
        ("1", "train"), ("3", "train"), ("4", "val"), ("6", "test")
    ]  # fmt: skip
    for frames, words in (([0], "frame 0 in val"), ([7], "frame 7 in val"), ([4, 4], "frame 4 twice")):
        with pytest.raises(ValueError, match=f"nyuv2: frames: lists {words}; expected each of 1..6 at most once"):
            list(replace(listed, frames={"val": frames}).records(tmp_path))


def test_whole_scenes_are_held_out(root: Path, tmp_path: Path) -> None:
    for share in (0.2, 0.5, 0.8):
        records = list(Nyuv2(str(root), validation=share).records(tmp_path))
        assert len({(r.group, r.split) for r in records}) == len({r.group for r in records})
        assert [r.split for r in records[4:]] == ["test", "test"]


def test_what_was_made_is_not_made_again(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    stream = Nyuv2(str(root)).records(out)
    next(stream)
    next(stream)
    stream.close()  # stopped in the middle
    (out / "semantic" / "0001.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    assert len(before) == 5
    list(Nyuv2(str(root)).records(out))
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    assert before.items() <= after.items()
    assert len(after) == 3 * COUNT
    savemat(root / "classMapping40.mat", {"mapClass": np.array([[3, 3, 3, 3]], np.uint8)})
    list(Nyuv2(str(root)).records(out))
    assert set(np.unique(read_semantic("semantic/0001.png", out))) == {0, 3}


def test_from_the_file_to_samples(root: Path, tmp_path: Path) -> None:
    report = prepare(Nyuv2(str(root), level=13, validation=0.5, size=(24, 32)), tmp_path / "out")
    assert (report.kept, report.objects, report.counts.total()) == (COUNT, 2 * COUNT, 0)
    manifest = Manifest.open(tmp_path / "out")
    maps: Any = Samples(manifest, ("detection", "instances", "segmentation", "depth"))[0].targets
    assert maps["segmentation"].unique().tolist() == [3, 4, 11, 255]
    assert maps["depth"].shape == (24, 32)
    assert maps["instances"].rles[0]["size"] == [24, 32]


def edited(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        with import_module("h5py").File(root / MAT, "r+") as file:
            change(file)

    return spoil


def drop(name: str) -> Callable[[Path], None]:
    return edited(lambda file: file.pop(name) and None)


def put(name: str, value: Any) -> Callable[[Path], None]:
    def change(file: Any) -> None:
        del file[name]
        file[name] = value

    return edited(change)


def saved(name: str, **content: Any) -> Callable[[Path], None]:
    return lambda root: savemat(root / name, content)


def cut(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:1500]) and None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut(MAT), rf"{MAT}: is no whole HDF5 file \(.*\); expected MATLAB 7.3: download it again"),
        (lambda root: (root / MAT).write_bytes(b"MATLAB 5.0"), rf"{MAT}: is no whole HDF5 file"),
        (drop("depths"), rf"{MAT}: has no array 'depths' of 3 axes; expected the labeled set of NYU Depth V2"),
        (put("labels", np.zeros(3)), rf"{MAT}: has no array 'labels' of 3 axes"),
        (put("depths", np.zeros((6, 12, 16), np.float32)), r"and depths of \(6, 12, 16\); expected N x 3 x W x H and"),
        (put("images", np.zeros((6, 4, 16, 12), np.uint8)), r"images is of \(6, 4, 16, 12\) and labels of"),
        (lambda root: (root / "classMapping40.mat").unlink(), r"classMapping40.mat: no such file"),
        (lambda root: (root / "splits.mat").unlink(), r"splits.mat: no such file"),
        (lambda root: (root / "splits.mat").write_bytes(b"x"), r"splits.mat: is no MATLAB file that can be read"),
        (lambda root: (root / "splits.mat").write_bytes(b"\x00" * 400), r"splits.mat: is no MATLAB file|holds no"),
        (saved("splits.mat", trainNdxs=[1]), r"splits.mat: holds no numbers 'testNdxs'; expected trainNdxs, testNdxs"),
        (saved("splits.mat", trainNdxs=["a"], testNdxs=[1]), r"splits.mat: holds no numbers 'trainNdxs'"),
        (put("names", np.zeros((1, 4), np.uint8)), rf"{MAT}: names\[0\] cannot be read \(.*\); expected a text"),
        (saved("splits.mat", trainNdxs=[1], testNdxs=[1]), r"splits.mat: lists frame 1 twice; expected each of 1..6"),
        (saved("splits.mat", trainNdxs=[7], testNdxs=[1]), r"splits.mat: lists frame 7 in train; expected each"),
        (saved("classMapping40.mat", mapClass=[1, 2]), r"classMapping40.mat: maps other labels than .* the same 4"),
        (saved("classMapping40.mat", mapClass=[1, 2, 3, 41]), r"mapClass holds others than 0..40; expected NYU-40"),
        (
            saved("classMapping40.mat", mapClass=[1, 2, 3, 4], allClassName=np.array(["a", "b", "c", "d"], object)),
            r"classMapping40.mat: maps other labels than",
        ),
    ],
)
def test_faults_of_whole_files_are_named(
    root: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(root)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        prepare(Nyuv2(str(root)), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.parquet").exists()


def test_a_fault_of_a_frame_costs_that_frame(root: Path, tmp_path: Path) -> None:
    def change(file: Any) -> None:
        file["labels"][2, 3, 3] = 99
        file["depths"][1, 2, 3] = np.inf  # no fault: there is no label

    edited(change)(root)
    with pytest.raises(PrepareError, match=rf"{MAT}: frame 3 has the label 99; expected 0..4, as there are names"):
        prepare(Nyuv2(str(root)), tmp_path / "out")
    report = prepare(Nyuv2(str(root)), tmp_path / "out", on_error="skip")
    assert (report.kept, dict(report.counts)) == (5, {"labels": 1})
    assert np.isnan(read_depth("depth_filled/0002.npy", tmp_path / "out")).sum() == 1


def test_pixels_that_cannot_be_read_cost_their_frame(root: Path, tmp_path: Path) -> None:
    """A chunk that is damaged: its checksum says so."""
    noise = np.stack([photo(i).transpose(2, 1, 0) for i in range(COUNT)])

    def change(file: Any) -> None:
        del file["images"]
        file.create_dataset("images", data=noise, chunks=(1, *noise.shape[1:]), fletcher32=True)

    edited(change)(root)
    data, part = (root / MAT).read_bytes(), noise[3].tobytes()
    assert data.count(part) == 1
    (root / MAT).write_bytes(data.replace(part, part[::-1]))
    report = prepare(Nyuv2(str(root)), tmp_path / "out", on_error="skip")
    assert (report.kept, dict(report.counts)) == (5, {"labels": 1})
    assert f"{MAT}: images of frame 4 cannot be read" in report.first[0].sentence


def test_chunks_of_several_frames_and_files_without_instances_and_scenes(root: Path, tmp_path: Path) -> None:
    def change(file: Any) -> None:
        values = file["depths"][:]
        del file["depths"], file["instances"], file["scenes"]
        file.create_dataset("depths", data=values, chunks=(4, 5, 7), compression="gzip")

    edited(change)(root)
    records = list(Nyuv2(str(root)).records(tmp_path))
    assert [(r.objects, r.group, r.fault) for r in records[3:5]] == [(None, "/train", ""), (None, "/test", "")]
    assert read_depth("depth_filled/0005.npy", tmp_path)[:, 0].tolist() == [1 + i / 4 for i in range(HEIGHT)]


def test_without_h5py_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / MAT).write_bytes(b"")
    monkeypatch.setattr(nyuv2_mat, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package 'h5py', .* type pip install 'mtal\[nyuv2\]'"):
        list(Nyuv2(str(tmp_path)).records(tmp_path))


# ---- a folder -------------------------------------------------------------------------------------------------------


def test_records_of_a_folder(tmp_path: Path) -> None:
    adapter = Nyuv2(str(write_folder(tmp_path / "set")), level=13, block=2)
    record = list(adapter.records(tmp_path))[1]
    assert (record.id, record.split, record.group) == ("nyu_0001", "train", "block 0/train")
    assert record.segmentation == "set/semantic/train/nyu_0001.png"
    assert record.depth == "set/depth/train/nyu_0001.png#per_metre=25.5"
    assert [(o.box, o.label) for o in record.objects or ()] == [((4, 2, 8, 8), 0), ((8, 2, 12, 8), 0)]
    assert np.unique(read_depth(record.depth, tmp_path)).tolist() == [2]
    classes = adapter.classes()
    assert (classes.detection, classes.segmentation) == (("chair", "desk"), ("chair", "floor", "table", "wall"))
    assert classes.det_to_seg == (0, 2)  # desks are tables among the 13
    fine = replace(adapter, level=40)
    assert fine.classes().segmentation == ("wall", "floor", "chair", "desk")
    assert fine.classes().det_to_seg == (2, 3)
    assert next(fine.records(tmp_path)).segmentation == "set/semantic40/train/nyu_0000.png"


def test_a_folder_is_prepared_and_its_blocks_are_held_out(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set")
    adapter = Nyuv2(str(root), level=13, block=1, validation=0.3, test=0.3)
    report = prepare(adapter, tmp_path / "out")
    assert (report.kept, report.counts.total()) == (COUNT, 0)
    assert len(report.splits) == 3
    without = replace(adapter, detection={"desk": "desk"}, segmentation={"wall": "wall"})
    record = next(without.records(tmp_path))
    assert record.objects == ()
    assert (without.semantic_lut()[11], without.semantic_lut()[3], without.semantic_lut()[5]) == (0, 255, -1)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("annotations.json", lambda c: c["images"][1].pop("sem_file_name"), r"images\[1\]: .*expected 'sem_file_name'"),
        ("annotations.json", lambda c: c["images"][1].pop("depth_file_name"), r"images\[1\]: .*'depth_file_name'"),
        ("annotations.json", lambda c: c["images"][1].pop("nyu_index"), r"images\[1\]: .*expected 'nyu_index' \(int\)"),
        ("annotations.json", lambda c: c["annotations"][0].pop("bbox"), r"annotations\[0\]: .*expected 'bbox'"),
        ("classes.json", lambda c: c["depth"].update(metres="v * 2"), r"depth: 'metres' is 'v \* 2'; expected e.g."),
        ("classes.json", lambda c: c["depth"].pop("metres"), r"depth: .*expected 'metres'"),
        ("classes.json", lambda c: c["classes"][0].update(id=255), r"classes\[0\] has id 255; expected 0..254"),
        ("classes.json", lambda c: c.pop("classes"), r"classes.json: .*expected 'classes' \(list\)"),
    ],
)
def test_faults_of_a_folder_are_named(tmp_path: Path, file: str, change: Callable[[Any], Any], message: str) -> None:
    path = write_folder(tmp_path / "set") / file
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        prepare(Nyuv2(str(tmp_path / "set"), level=13), tmp_path / "out")


def test_faults_of_objects_and_fields_are_named(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "set") / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["category_id"] = 77
    path.write_text(json.dumps(content))
    Image.fromarray(np.full((HEIGHT, WIDTH), 77, np.uint8)).save(tmp_path / "set/semantic/train/nyu_0002.png")
    report = prepare(Nyuv2(str(tmp_path / "set"), level=13), tmp_path / "out", on_error="skip")
    assert dict(report.counts) == {"class": 1, "semantic": 1}
    with pytest.raises(FileNotFoundError, match=rf"holds neither {MAT} nor annotations.json; expected one of them"):
        Nyuv2(str(tmp_path)).classes()
    with pytest.raises(ValueError, match="nyuv2: block is 0"):
        Nyuv2("x", block=0)
    with pytest.raises(ValueError, match=r"nyuv2: validation is 0.5 and test 0.5"):
        Nyuv2("x", validation=0.5, test=0.5)


# ---- the reference material -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_fixture_is_as_expected(shared: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    root = shared / "data" / "fixtures" / "nyuv2_mat"
    expected = json.loads((root / "expected.json").read_text())
    assert prepare(Nyuv2(str(root)), tmp_path).counts.total() == 0
    records = {r.id: r for r in Nyuv2(str(root)).records(tmp_path)}
    assert Counter(r.split for r in records.values()) == {"train": 2, "test": 2}
    first = records["nyu_0001"]
    metres = read_depth(str(first.depth), tmp_path)
    frame = expected["frame0"]
    assert (float(metres.min()), float(metres.max())) == (frame["depth_m_min"], frame["depth_m_max"])
    values, counts = np.unique(read_semantic(str(first.segmentation), tmp_path), return_counts=True)
    found = {LABELS[value - 1]: count for value, count in zip(values, counts, strict=True) if value}
    assert found == frame["nyu40_pixels"]
    nyu40 = loadmat(root / "classMapping40.mat")["mapClass"].ravel()
    with h5py.File(root / MAT) as file:
        assert {n: [list(file[n].shape), str(file[n].dtype)] for n in file if n != "#refs#"} == {
            name: [one["shape"], one["dtype"]] for name, one in expected["datasets"].items()
        }
        for number in range(4):
            pairs = set(zip(file["labels"][number].ravel(), file["instances"][number].ravel(), strict=True))
            names = [LABELS[nyu40[label - 1] - 1] for label, instance in pairs if label and instance]
            found = [THINGS[one.label] for one in records[f"nyu_{number + 1:04d}"].objects or ()]
            assert sorted(found) == sorted(name for name in names if name in THINGS)


def test_the_labels_are_those_of_the_published_maps(shared: Path) -> None:
    root = shared / "data" / "fixtures" / "nyuv2_mat"
    names = loadmat(root / "classMapping40.mat")["className"].ravel()
    assert tuple(str(one.item()) for one in names) == LABELS
    content = loadmat(root / "class13Mapping.mat")["classMapping13"][0, 0]
    coarse = tuple(str(one.item()) for one in content["classNames"].ravel())
    assert coarse == COARSE
    assert [coarse[i - 1] for i in content["labels13"].ravel()] == [TO_COARSE[label] for label in LABELS]


@pytest.mark.slow
@pytest.mark.parametrize("level", [13, 40])
def test_every_image_of_the_real_folder_is_read(shared: Path, tmp_path: Path, level: Any) -> None:
    adapter = Nyuv2(str(shared / "data" / "nyuv2_rgbd13"), level=level, validation=0.15, test=0.25)
    report = prepare(adapter, tmp_path)
    assert (report.kept, report.objects, report.clipped, report.counts.total()) == (360, 3095, 0, 0)
    assert report.splits == {"train": 222, "val": 42, "test": 96}
    manifest = Manifest.open(tmp_path)
    samples = Samples(manifest, ("detection", "instances", "segmentation", "depth"))
    ignored = pixels = 0
    for row in manifest.rows().tolist():
        maps: Any = samples[row].targets
        ignored, pixels = ignored + int((maps["segmentation"] == 255).sum()), pixels + maps["segmentation"].numel()
        assert 0.7 < float(maps["depth"].min()) <= float(maps["depth"].max()) < 10
        assert len(maps["instances"].rles) == len(maps["detection"].labels)
    assert round(ignored / pixels, 4) == 0.1787
