"""The nuImages adapter: classes, boxes, painted maps, and what it says of broken tables."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.preparing import PrepareError, prepare
from tasks.data.manifest import Manifest, Record
from tasks.data.nuimages import OBJECTS, NuImages
from tests.data.nuimages import HEIGHT, WIDTH, read_tables, write_nuimages, write_tables


def painted(record: Record, folder: Path) -> np.ndarray:
    with Image.open(folder / str(record.segmentation)) as image:
        return np.asarray(image)


def test_classes_do_not_need_the_data() -> None:
    adapter = NuImages("nowhere", size=(64, 96))
    classes = adapter.classes()
    assert len(classes.detection) == 10
    assert classes.segmentation == ("background", "driveable_surface", *classes.detection)
    assert classes.det_to_seg == tuple(range(2, 12))
    assert adapter.semantic_lut() == (*range(12), *(-1,) * 243, 255)
    assert adapter.size == (64, 96)


def test_records_are_the_key_frames_of_one_camera(tmp_path: Path) -> None:
    records = list(NuImages(str(write_nuimages(tmp_path / "set"))).records(tmp_path))
    assert [r.id for r in records] == [
        f"samples/CAM_FRONT/drive-{name}.jpg" for name in ("a__000000", "b__000001", "c__000003")
    ]
    assert [r.split for r in records] == ["train", "train", "val"]
    assert [r.group for r in records] == ["v1.0-train/drive-a", "v1.0-train/drive-b", "v1.0-val/drive-c"]
    assert records[0].uri == "set/samples/CAM_FRONT/drive-a__000000.jpg"
    assert records[0].size == (HEIGHT, WIDTH)
    names = NuImages("").classes().detection
    found = [(names[o.label], o.box, o.rle is not None) for o in records[0].objects or ()]
    assert found == [  # in the order of their tokens; the animal has no class
        ("bicycle", (8, 10, 12, 20), True),
        ("traffic_cone", (28, 14, 30, 18), False),
        ("car", (2, 12, 10, 18), True),
    ]


def test_every_camera_and_shares_of_the_drives(tmp_path: Path) -> None:
    root = str(write_nuimages(tmp_path))
    assert len(list(NuImages(root, channel="").records(tmp_path))) == 4
    assert len(list(NuImages(root, channel="CAM_BACK").records(tmp_path))) == 1
    cut = {r.id: r.split for r in NuImages(root, channel="", validation=0.4, test=0.3).records(tmp_path)}
    drives = {id.split("/")[2].split("__")[0]: split for id, split in cut.items()}
    assert set(cut.values()) <= {"train", "val", "test"}
    assert all(drives[id.split("/")[2].split("__")[0]] == split for id, split in cut.items())


def test_maps_are_painted_as_the_devkit_paints(tmp_path: Path) -> None:
    record = next(NuImages(str(write_nuimages(tmp_path / "set"))).records(tmp_path))
    values, names = painted(record, tmp_path), NuImages("").classes().segmentation
    assert names[values[14, 9]] == "car", "its token comes later than that of the bicycle, which is under it"
    assert names[values[11, 9]] == names[values[19, 9]] == "bicycle", "objects lie over surfaces"
    assert names[values[13, 20]] == "driveable_surface"
    assert names[values[5, 20]] == "background"
    assert values[23, 20] == values[21, 1] == 255, "the ego car and what has no class are ignored"
    assert names[values[15, 29]] == "driveable_surface", "what has no mask is not painted"


def test_classes_can_be_mapped_otherwise(tmp_path: Path) -> None:
    root = str(write_nuimages(tmp_path / "set"))
    adapter = NuImages(root, objects={"animal": "beast", "vehicle.car": "beast"}, surfaces={"vehicle.ego": "bonnet"})
    assert adapter.classes().segmentation == ("background", "bonnet", "beast")
    first = next(adapter.records(tmp_path))
    assert [o.label for o in first.objects or ()] == [0, 0]
    assert sorted(np.unique(painted(first, tmp_path))) == [0, 1, 2, 255]
    other = next(NuImages(root).records(tmp_path))
    assert other.segmentation != first.segmentation, "maps of other classes do not share a file"
    with pytest.raises(ValueError, match=r"category.json: has no category 'vehicle.cra', which data.objects names"):
        list(NuImages(root, objects={"vehicle.cra": "car"}).records(tmp_path))


def test_a_second_reading_makes_no_map_again(tmp_path: Path) -> None:
    adapter = NuImages(str(write_nuimages(tmp_path / "set")))
    made = [tmp_path / str(r.segmentation) for r in adapter.records(tmp_path)]
    before = [path.stat().st_mtime_ns for path in made]
    list(adapter.records(tmp_path))
    assert [path.stat().st_mtime_ns for path in made] == before


def test_a_version_without_annotations_is_not_labeled(tmp_path: Path) -> None:
    root = write_nuimages(tmp_path)
    write_tables(root / "v1.0-val", {"object_ann": [], "surface_ann": []})
    last = list(NuImages(str(root)).records(tmp_path))[-1]
    assert (last.split, last.objects, last.segmentation) == ("val", None, None)


def test_broken_masks_cost_no_more_than_they_must(tmp_path: Path) -> None:
    root = write_nuimages(tmp_path / "set")
    tables = read_tables(root / "v1.0-train")
    tables["object_ann"][0]["mask"]["counts"] = "no base64!"  # of the car of the first frame
    of_second = tables["sample_data"][3]["token"]
    surface = next(row for row in tables["surface_ann"] if row["sample_data_token"] == of_second)
    surface["mask"]["size"] = [3, 4]
    write_tables(root / "v1.0-train", tables)
    adapter, folder = NuImages(str(root)), tmp_path / "prepared"
    with pytest.raises(PrepareError, match=r"2 faults in 3 images \(1 labels, 1 mask\)") as refused:
        prepare(adapter, folder)
    told = f"surface_ann.json: surface {surface['token']}: its mask is of [3, 4] px (H, W); expected the image's 24, 32"
    assert f"{told}: correct or delete the row" in str(refused.value)
    report = prepare(adapter, folder, "skip")
    assert (report.kept, report.objects) == (2, 5)
    manifest = Manifest.open(folder)
    first = next(r for r in manifest.records(manifest.rows()) if r.split == "train")
    assert (painted(first, folder)[12:18, 2:10] == 255).all(), "where the car is, nobody knows"


def test_faults_of_the_tables_are_named(tmp_path: Path) -> None:
    root = write_nuimages(tmp_path)
    adapter = NuImages(str(root))
    with pytest.raises(ValueError, match=r"has no camera 'CAM_FRNT'; expected one of CAM_BACK, CAM_FRONT"):
        list(NuImages(str(root), channel="CAM_FRNT").records(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"v1.0-mini: no such folder; .* set data.root to the folder"):
        list(NuImages(str(root), versions={"train": "v1.0-mini"}).records(tmp_path))
    with pytest.raises(ValueError, match=r"validation is 0.6 and test 0.5"):
        NuImages(str(root), validation=0.6, test=0.5)
    good = read_tables(root / "v1.0-train")
    for table, change, told in (
        ("object_ann", {"bbox": None}, r"object_ann.json: row 0: 'bbox' is 'None'; expected list"),
        ("object_ann", {"category_token": "x"}, r"object_ann.json: a row has the category_token 'x'"),
        (
            "object_ann",
            {"sample_data_token": "x"},
            r"object_ann.json: 1 rows are of no key frame of sample_data.json, such as 'f",
        ),
        ("sample_data", {"sample_token": "x", "is_key_frame": True}, r"is of the sample 'x', which is not in sample"),
        ("sample", {"log_token": "x"}, r"sample.json: a row has the log_token 'x', which log.json does not hold"),
        ("calibrated_sensor", {"sensor_token": "x"}, r"which sensor.json does not hold"),
    ):
        rows = json.loads(json.dumps(good[table]))
        rows[0] |= change
        write_tables(root / "v1.0-train", {**good, table: rows})
        with pytest.raises(ValueError, match=told):
            list(adapter.records(tmp_path))


def test_the_fixture_is_as_the_devkit_reads_it(shared: Path, tmp_path: Path) -> None:
    """Boxes, and the pixels of each category, of tables that the official devkit has read."""
    root = shared / "data" / "fixtures" / "nuimages"
    expected = json.loads((root / "expected.json").read_text())["images"]
    adapter = NuImages(str(root), versions={"train": "v1.0-mini"})
    categories = sorted(row["name"] for row in json.loads((root / "v1.0-mini" / "category.json").read_text()))
    plain = [name for name in categories if name not in ("flat.driveable_surface", "vehicle.ego")]
    index = {**{i: name for i, name in enumerate(plain, 1)}, 24: "flat.driveable_surface", 31: "vehicle.ego"}
    classes = adapter.classes()
    records = {r.id: r for r in adapter.records(tmp_path)}
    assert set(records) == {image["filename"] for image in expected}
    for image in expected:
        record = records[image["filename"]]
        boxes = sorted((tuple(one["bbox_xyxy"]), OBJECTS[one["category"]]) for one in image["objects"])
        assert sorted((o.box, classes.detection[o.label]) for o in record.objects or ()) == boxes
        wanted = dict.fromkeys(classes.segmentation, 0)
        for value, count in image["semantic_pixel_counts_devkit"].items():
            name = index.get(int(value), "background")
            wanted[{"flat.driveable_surface": "driveable_surface", **OBJECTS}.get(name, name)] += count
        counts = np.bincount(painted(record, tmp_path).ravel(), minlength=256)
        assert dict(zip(classes.segmentation, counts.tolist(), strict=False)) == wanted
        assert counts.sum() == sum(wanted.values()), "nothing is ignored here"


DEVKIT = "nuscenes-devkit==1.2.0"  # Apache-2.0; it needs numpy < 2, so it has a Python environment of its own
PAINT = """
import sys
import numpy as np
from nuimages.nuimages import NuImages
from nuimages.utils.utils import name_to_index_mapping

root, version, out = sys.argv[1:]
tables = NuImages(dataroot=root, version=version, verbose=False, lazy=True)
indices = name_to_index_mapping(tables.category)
maps = {}
for sample in tables.sample:
    token = sample["key_camera_token"]
    name = tables.get("sample_data", token)["filename"]
    maps[name] = tables.get_segmentation(token)[0]
np.savez(out, names=np.array(list(indices)), indices=np.array(list(indices.values())), **maps)
"""


@pytest.fixture(scope="session")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the official devkit; skips where it cannot be installed."""
    home = tmp_path_factory.mktemp("devkit")
    python = home / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", DEVKIT]
    for command in ([sys.executable, "-m", "venv", str(home)], install):
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        if done.returncode:
            pytest.skip(f"{DEVKIT} cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
    return python


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_maps_are_those_of_the_official_devkit(devkit: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Every pixel of every key frame of the fixture: ``get_segmentation`` of the devkit, its classes made ours."""
    shared: Path = request.getfixturevalue("shared")  # not named above: without the devkit this is skipped in CI, too
    root = shared / "data" / "fixtures" / "nuimages"
    command = [str(devkit), "-W", "ignore", "-c", PAINT, str(root), "v1.0-mini", str(tmp_path / "maps.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    adapter = NuImages(str(root), versions={"train": "v1.0-mini"})
    ours = adapter.classes().segmentation
    with np.load(tmp_path / "maps.npz") as file:
        table = np.full(256, 255, np.uint8)
        table[0] = 0
        for name, index in zip(file["names"].tolist(), file["indices"].tolist(), strict=True):
            to = {**adapter.objects, **adapter.surfaces}.get(name)
            table[index] = 255 if to is None else ours.index(to)
        records = list(adapter.records(tmp_path))
        assert len(records) == 3
        for record in records:
            theirs = table[file[record.id]]
            assert len(np.unique(theirs)) > 2, "something is painted"
            np.testing.assert_array_equal(painted(record, tmp_path), theirs)
