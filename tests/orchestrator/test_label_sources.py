"""Where labels lie: every source answers the same images, the sample is spread, what is wrong is told in a sentence."""

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import ConfigError, RunError
from orchestrator.exporting import Wanted, export_coco
from orchestrator.label_sources import Bought, opened, spread
from orchestrator.preparing import prepare
from tasks.classes import ClassMap
from tasks.data.coco import Coco
from tasks.data.manifest import Manifest, ObjectRecord, Record, write_manifest
from tests.data.joint import write_joint
from tests.data.label_studio import write_label_studio

CLASSES = ClassMap(("car", "bus", "tram"), (), (-1, -1, -1))


def rare(folder: Path, unlabeled: int = 0) -> Path:
    """200 images of cars; one has a bus, one a tram, one a crowd of trams, and some have no labels."""
    box = (1.0, 1.0, 5.0, 5.0)
    labels = {7: (1,), 90: (0, 2), 150: ()}
    crowd = ObjectRecord(box, 2, True)
    records = [
        Record(f"image {i:03d}", f"{i}.png", (8, 8), ("train", "val", "test")[i % 3], objects=objects)
        for i in range(200)
        for known in [tuple(ObjectRecord(box, label) for label in labels.get(i, (0,)))]
        for objects in [None if i < unlabeled else (*known, crowd) if i == 150 else known]
    ]
    write_manifest(folder / "manifest.parquet", records, CLASSES, [255] * 256)
    return folder


def test_a_sample_holds_the_rare_classes_and_is_the_same_again(tmp_path: Path) -> None:
    with opened(str(rare(tmp_path / "set")), "set") as source:
        chosen = source.manifest.ids(spread(source, 6, 0))
        assert {"image 007", "image 090", "image 150"} <= set(chosen)
        assert len(set(chosen)) == 6
        assert chosen == source.manifest.ids(spread(source, 6, 0))
        assert chosen != source.manifest.ids(spread(source, 6, 1))
        assert len(spread(source, 10_000, 0)) == 200


def test_the_census_counts_objects_and_labels_by_split(tmp_path: Path) -> None:
    with opened(str(rare(tmp_path / "set", unlabeled=9)), "set") as source:
        census = source.census
    assert census.images == {"train": 67, "val": 67, "test": 66}
    assert census.labeled["objects"] == {"train": 64, "val": 64, "test": 63}
    assert {name: sum(counts.values()) for name, counts in census.objects.items()} == {"car": 190, "bus": 0, "tram": 1}
    assert census.objects["tram"] == {"train": 1, "val": 0, "test": 0}, "the crowd is no tram"


def test_splits_and_ids(tmp_path: Path) -> None:
    name = str(rare(tmp_path / "set") / "manifest.parquet")
    with opened(name, name, ["val"]) as source:
        assert len(source.rows) == 67
        assert source.manifest.ids(source.of_ids(["image 007", "image 001"])) == ["image 007", "image 001"]
        with pytest.raises(ConfigError, match=r"--ids image 002: .* shows no such image; .* such as 'image \d+'"):
            source.of_ids(["image 002"])  # of another split


def test_a_combined_file_is_read_as_it_is(tmp_path: Path) -> None:
    """Also what an export wrote: the same objects, maps and depth as in the manifest it came from."""
    file = write_joint(tmp_path / "joint")
    with opened(str(file), "joint") as source:
        record = source.manifest.record(int(source.of_ids(["images/001.png"])[0]))
        path = source.manifest.base / (record.depth or "")
        assert path.resolve() == (tmp_path / "joint" / "depth" / "001.npy").resolve()
        assert source.manifest.classes.segmentation == ("floor", "gear", "wall")
        assert sum(sum(counts.values()) for counts in source.census.objects.values()) == 3 * 4
    assert not source.manifest.path.exists(), "what was made for the time of the block is gone"
    prepare(Coco(str(tmp_path / "joint")), tmp_path / "prepared")
    export_coco(str(tmp_path / "prepared"), str(tmp_path / "all.json"), Wanted(), lambda *told: None)
    first = Manifest.open(tmp_path / "prepared")
    with opened(str(tmp_path / "all.json"), "all") as source:
        ids = first.ids(first.rows())
        again = source.manifest.records(source.of_ids(ids))
        assert [one.objects for one in again] == [one.objects for one in first.records(first.rows())]
        assert [one.split for one in again] == [one.split for one in first.records(first.rows())]


def test_an_image_that_says_it_has_no_labels_has_none(tmp_path: Path) -> None:
    file = write_joint(tmp_path / "joint")
    content = json.loads(file.read_text())
    content["images"][0]["has"] = {"detection": False, "depth": False}
    file.write_text(json.dumps(content))
    with opened(str(file), "joint") as source:
        record = source.manifest.record(int(source.of_ids(["images/001.png"])[0]))
    assert (record.objects, record.depth) == (None, None)
    assert record.segmentation is not None


def test_an_export_of_label_studio(tmp_path: Path) -> None:
    root = write_label_studio(tmp_path / "engine")
    with opened(str(root / "export.json"), "engine") as source:
        assert len(source.rows) > 1
        assert sum(sum(counts.values()) for counts in source.census.objects.values()) > 1


def test_what_an_arm_has_bought(tiny_run: Path) -> None:
    run = str(tiny_run / "runs" / "tiny")
    sizes = {}
    for cycle in (None, 0, 1, 2):
        with opened(run, run, arm=Bought("boxmask", 0, cycle)) as source:
            sizes[cycle] = len(source.rows)
            assert all(one == frozenset({"detection", "segmentation"}) for one in source.tasks_of(source.rows))
    assert sizes == {None: 10, 0: 6, 1: 2, 2: 2}
    with opened(run, run) as source:
        assert len(source.rows) == 26
        assert source.tasks_of(source.rows[:1]) == [None]
    with pytest.raises(RunError, match="has no arm 'other'"), opened(run, run, arm=Bought("other")):
        pass
    with pytest.raises(ConfigError, match="no image that the arm random has bought"):
        with opened(run, run, arm=Bought("random", 0, 9)):
            pass


def test_what_cannot_be_looked_at_is_one_sentence(tmp_path: Path) -> None:
    prepared = str(rare(tmp_path / "set"))
    (tmp_path / "broken.json").write_text('{"images": [{"id": 1}], "categories": []')
    (tmp_path / "note.txt").write_text("hello")
    cases = [
        (("nothing", "nothing"), "is neither a configuration"),
        ((str(tmp_path / "note.txt"), "note"), "is neither a configuration"),
        ((str(tmp_path / "broken.json"), "broken"), "broken.json"),
        ((prepared, "set", ["all"]), "--split all: no such split"),
        ((prepared, "set", (), Bought("random")), "is no run folder"),
        ((prepared, "set", (), None, "photos"), "--images photos: only a JSON file needs it"),
        (("gs://bucket/x", "x"), "expected a local path or s3://"),
    ]
    for arguments, words in cases:
        with pytest.raises(ConfigError, match=words) as error, opened(*arguments):  # type: ignore[arg-type]
            pass
        assert "\n" not in str(error.value)


def test_rows_stay_sorted(tmp_path: Path) -> None:
    with opened(str(rare(tmp_path / "set")), "set", ["val", "train", "val"]) as source:
        assert (np.diff(source.rows) > 0).all()
        assert len(source.rows) == 134
