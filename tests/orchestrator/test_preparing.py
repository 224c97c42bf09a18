"""A data set is prepared or refused, the same way each time, and a failure leaves what was there."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.preparing import PrepareError, prepare
from tasks.classes import ClassMap
from tasks.data.camvid import Camvid
from tasks.data.checks import LOOKS
from tasks.data.coco import Coco
from tasks.data.manifest import Manifest, Record
from tasks.data.samples import Samples
from tests.data.camvid import write_camvid
from tests.data.coco import write_coco


@dataclass(frozen=True)
class Listed:
    """An adapter of given records."""

    given: tuple[Record, ...]
    size: tuple[int, int] | None = None
    fails: bool = False

    def classes(self) -> ClassMap:
        return ClassMap()

    def semantic_lut(self) -> tuple[int, ...]:
        return (-1,) * 255 + (255,)

    def records(self, folder: Path) -> Iterator[Record]:
        yield from self.given
        if self.fails:
            raise RuntimeError("killed")


def images(folder: Path, count: int) -> tuple[Record, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(np.full((4, 6, 3), i, np.uint8)).save(folder / f"{i}.png")
    return tuple(Record(f"image {i}", f"{i}.png", (4, 6), "train") for i in range(count))


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def problems(folder: Path) -> list[dict[str, str]]:
    with (folder / "problems.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_camvid_from_files_to_samples(tmp_path: Path) -> None:
    done: list[int] = []
    folder = tmp_path / "run"
    report = prepare(Camvid(str(write_camvid(tmp_path / "set")), (12, 16)), folder, progress=done.append)
    assert (report.images, report.kept, report.objects, report.clipped) == (6, 6, 6, 0)
    assert done == [1, 2, 3, 4, 5, 6]
    assert str(report).startswith("6 of 6 images (1 test, 4 train, 1 val), 6 objects, 0 boxes cut")
    assert [p.name for p in folder.iterdir()] == ["manifest.parquet"]
    manifest = Manifest.open(folder)
    assert manifest.object_counts(manifest.rows("train"))[0].tolist() == [4, 0, 0, 0]
    samples = Samples(manifest, ("detection", "segmentation"))
    assert samples[int(manifest.rows("val")[0])].image.shape == (3, 12, 16)
    assert samples[int(manifest.rows("val")[0])].targets.keys() == {"detection", "segmentation"}


def test_the_same_again_is_the_same_file_with_any_number_of_threads(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set")
    adapter = Coco(str(root), "annotations/instances_{split}2017.json", "{split}2017")
    adapter = replace(adapter, panoptic="annotations/panoptic_{split}2017.json")
    prints = []
    for threads in (1, 3, 3):
        report = prepare(adapter, tmp_path / "run", threads=threads)
        prints.append(Manifest.open(tmp_path / "run").fingerprint)
        assert (report.kept, report.objects, report.counts.total()) == (6, 18, 0)
    assert len(set(prints)) == 1


def spoil(root: Path) -> None:
    """A fault of each cost: a cut image, and an object of an unknown class, one without area."""

    def change(content: Any) -> None:
        content["annotations"][1]["category_id"] = 99
        content["annotations"][2]["bbox"][2] = 0

    edit(root / "annotations.json", change)
    path = sorted((root / "images").rglob("*.jpg"))[0]
    path.write_bytes(path.read_bytes()[:200])


def test_refuse_names_the_faults_and_writes_no_manifest(tmp_path: Path) -> None:
    root, folder = write_camvid(tmp_path / "set"), tmp_path / "run"
    spoil(root)
    with pytest.raises(PrepareError) as caught:
        prepare(Camvid(str(root)), folder)
    text = str(caught.value)
    assert "3 faults in 6 images (1 box, 1 class, 1 undecodable); expected none; no manifest is written" in text
    assert "or leave them out with 'mtal prepare --on-error skip'. All are in problems.csv" in text
    assert "0001TP_000005.jpg: cannot be decoded" in text
    assert [p.name for p in folder.iterdir()] == ["problems.csv"]
    assert costs(problems(folder)) == {"undecodable": "image", "class": "object", "box": "object"}


def costs(rows: list[dict[str, str]]) -> dict[str, str]:
    """What each kind of fault costs."""
    return {row["kind"]: row["dropped"] for row in rows}


def test_skip_leaves_out_what_is_wrong_and_lists_it(tmp_path: Path) -> None:
    root, folder = write_camvid(tmp_path / "set"), tmp_path / "run"
    spoil(root)
    report = prepare(Camvid(str(root)), folder, on_error="skip")
    assert (report.images, report.kept, report.objects) == (6, 5, 3)
    assert dict(report.counts) == {"undecodable": 1, "class": 1, "box": 1}
    manifest = Manifest.open(folder)
    assert sorted(manifest.ids(manifest.rows())) == sorted(
        path.stem for path in (root / "images").rglob("*.jpg") if path.stem != "0001TP_000005"
    )
    assert [row["id"] for row in problems(folder)] == ["0006R0_000001", "0016E5_000002", "0001TP_000005"]
    write_camvid(root)
    assert prepare(Camvid(str(root)), folder, on_error="skip").counts.total() == 0
    assert not (folder / "problems.csv").exists()


def test_many_faults_are_counted_and_a_few_quoted(tmp_path: Path) -> None:
    records = images(tmp_path, 9)
    for record in records[:8]:
        (tmp_path / record.uri).unlink()
    with pytest.raises(PrepareError, match=r"8 faults in 9 images \(8 missing\)") as caught:
        prepare(Listed(records), tmp_path)
    assert len(str(caught.value).splitlines()) == 7
    assert "and 3 more" in str(caught.value)
    assert len(problems(tmp_path)) == 8


def test_ids_and_scenes_across_images(tmp_path: Path) -> None:
    one, two, three = images(tmp_path, 3)
    records = (replace(one, group="s"), replace(two, group="s", split="val"), replace(three, id=one.id))
    with pytest.raises(PrepareError, match=r"\(1 duplicate, 1 scene\)"):
        prepare(Listed(records), tmp_path)
    report = prepare(Listed(records), tmp_path, on_error="skip")
    assert (report.kept, dict(report.splits)) == (1, {"train": 1})


def test_an_empty_data_set_and_one_without_a_usable_image(tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match=r"the data set lists no image; expected at least one"):
        prepare(Listed(()), tmp_path)
    with pytest.raises(PrepareError, match=r"1 fault .* correct them: no image is left"):
        prepare(Listed((Record("a", "a.png", (4, 6), "train"),)), tmp_path, on_error="skip")
    assert not (tmp_path / "manifest.parquet").exists()


def test_a_failure_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    records = images(tmp_path, 3)
    prepare(Listed(records), tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    fingerprint = Manifest.open(tmp_path).fingerprint
    with pytest.raises(RuntimeError, match="killed"):
        prepare(Listed(records[:2], fails=True), tmp_path)
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(PrepareError, match="1 undecodable"):
        prepare(Listed(records), tmp_path)
    assert Manifest.open(tmp_path).fingerprint == fingerprint
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*before, "problems.csv"])


def test_wrong_arguments_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"on_error is 'ignore'; expected 'refuse' or 'skip'"):
        prepare(Listed(()), tmp_path, on_error="ignore")  # type: ignore[arg-type]
    (tmp_path / "annotations.json").write_text("images: []")
    with pytest.raises(ValueError, match=r"annotations.json: is not JSON"):
        prepare(Coco(str(tmp_path)), tmp_path / "run")


def test_less_can_be_looked_at(tmp_path: Path) -> None:
    """Whole data give the same manifest; what a look does not see, it does not tell."""
    root, prints = write_coco(tmp_path / "set"), set()
    fields: dict[str, Any] = {"annotations": "annotations/instances_{split}2017.json", "images": "{split}2017"}
    for look in LOOKS:
        prepare(Coco(str(root), **fields), tmp_path / "run", look=look)  # type: ignore[arg-type]
        prints.add(Manifest.open(tmp_path / "run").fingerprint)
    assert len(prints) == 1
    _, cut, gone = sorted((root / "train2017").iterdir())[:3]
    data = cut.read_bytes()
    cut.write_bytes(data[:-50])
    gone.unlink()
    edit(root / fields["annotations"].format(split="train"), lambda c: c["images"][0].update(height=21))
    found = {}
    for look in LOOKS:
        report = prepare(Coco(str(root), **fields), tmp_path / "run", "skip", look=look)  # type: ignore[arg-type]
        found[look] = dict(report.counts)
    assert found == {
        "pixels": {"size": 1, "undecodable": 1, "missing": 1},
        "headers": {"size": 1, "missing": 1},
        "list": {"mask": 2},
    }
    with pytest.raises(ValueError, match="look is 'nothing'; expected one of pixels, headers, list"):
        prepare(Coco(str(root), **fields), tmp_path / "run", look="nothing")  # type: ignore[arg-type]
