"""One shard that a teacher labels: rows, maps, what stays, and what is looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from orchestrator.pseudo_labels import Teaching, coverage, label_shard
from orchestrator.store import read_table, shard_path
from orchestrator.workers import PseudoJob
from tasks.classes import ClassMap
from tasks.data.decoding import read_depth, read_semantic
from tasks.data.depth_png import MADE, depth_uri
from tasks.data.manifest import NAME, Manifest, Record, write_manifest
from tasks.depth import Depth
from tasks.segmentation import Segmentation
from tasks.types import Batch, DepthMap, Losses, Prediction, Sample, SegMap

CLASSES = ClassMap((), ("road", "car"), ())
LUT = (7, 0, 1, *([-1] * 252), 255)
TASKS = ("segmentation", "depth")


@dataclass(frozen=True)
class Brightness:
    """Images as bright as their row, in sixteenths."""

    def __getitem__(self, row: int) -> Sample:
        return Sample(str(row), torch.full((3, 4, 8), row / 16), {}, {})


@dataclass
class Guess:
    """A network that is the surer the brighter an image is; it sees metres grow from left to right."""

    provides: frozenset[str] = frozenset(TASKS)
    seen: list[int] = field(default_factory=list)

    def forward(self, batch: Batch) -> Losses:
        raise AssertionError("labels are made by a network that is not trained meanwhile")

    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        self.seen.append(len(images))
        metres = DepthMap(torch.arange(1.0, 9).expand(4, 8))
        return [Prediction({"segmentation": _map(x), "depth": metres}) for x in images]


def _map(image: Tensor) -> SegMap:
    sure = image.mean(0).clamp(0.01, 0.99)
    return SegMap(torch.stack([1 - sure, sure]).log())


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    records = [Record(f"i{i}", f"{i}.png", (8, 16), "train") for i in range(16)]
    write_manifest(tmp_path / NAME, records, CLASSES, LUT, (4, 8))
    return Manifest.open(tmp_path)


def job(folder: Path, wanted: np.ndarray, **changes: object) -> PseudoJob:
    plain = PseudoJob(str(folder), "model.pt", TASKS, wanted, 0.7, False, "pseudo:x", "mark")
    return replace(plain, **changes)  # type: ignore[arg-type]


def label(job: PseudoJob, manifest: Manifest, net: Guess) -> int:
    tasks = {"segmentation": Segmentation(), "depth": Depth()}
    teaching = Teaching(net, tasks, Brightness(), manifest, 3, torch.device("cpu"), lambda *told: None)
    return label_shard(job, 1, np.arange(8, 16), job.wanted[8:16], lambda rows: teaching)


def test_rows_and_maps(tmp_path: Path, manifest: Manifest) -> None:
    wanted = np.ones((16, 2), bool)
    wanted[8] = False  # nothing of this image
    wanted[9:, 1] = False  # and depth of none but ..
    wanted[15, 1] = True  # .. the last
    net = Guess()
    assert label(job(tmp_path / "labels", wanted), manifest, net) == 7
    assert net.seen == [3, 3, 1]
    rows = read_table(shard_path(tmp_path / "labels", 1)).to_pylist()
    ids = manifest.ids(np.arange(16))
    expected = [*((ids[i], "segmentation") for i in range(9, 16)), (ids[15], "depth")]
    assert [(r["id"], r["task"]) for r in rows] == expected
    kept = {r["id"] for r in rows if r["task"] == "segmentation" and r["file"]}
    assert kept == {ids[i] for i in range(12, 16)}  # 12 / 16 is above 0.7, 11 / 16 is not
    assert {r["coverage"] for r in rows} == {0.0, 1.0}
    assert {(r["threshold"], r["source"]) for r in rows} == {(0.7, "pseudo:x")}
    semantic, depth = (tmp_path / "labels" / r["file"] for r in rows[-2:])
    assert np.array_equal(read_semantic(str(semantic), tmp_path), np.full((8, 16), 2))  # the value of the class car
    assert np.allclose(read_depth(depth_uri(str(depth), MADE), tmp_path)[0], np.repeat(np.arange(1, 9), 2))


def test_a_shard_that_is_there_is_not_labeled_again(tmp_path: Path, manifest: Manifest) -> None:
    first, net = job(tmp_path / "labels", np.ones((16, 2), bool)), Guess()
    assert label(first, manifest, net) == label(first, manifest, net) == 8
    assert len(net.seen) == 3
    label(replace(first, inputs="another"), manifest, net)
    assert len(net.seen) == 6


def test_the_mirror_image_is_asked_where_it_counts(tmp_path: Path, manifest: Manifest) -> None:
    """Metres that grow to the right whatever is turned agree nowhere but where 1 + x is about 8 - x: nowhere."""
    wanted, net = np.ones((16, 2), bool), Guess()
    label(job(tmp_path / "labels", wanted, mirrored=True), manifest, net)
    assert net.seen == [3, 3, 3, 3, 2, 2]
    rows = read_table(shard_path(tmp_path / "labels", 1)).to_pylist()
    assert all(r["file"] is None and r["coverage"] == 0 for r in rows if r["task"] == "depth")


def test_an_empty_shard_is_written_too(tmp_path: Path, manifest: Manifest) -> None:
    net = Guess()
    assert label(job(tmp_path / "labels", np.zeros((16, 2), bool)), manifest, net) == 0
    assert (net.seen, len(read_table(shard_path(tmp_path / "labels", 1)))) == ([], 0)


def test_coverage() -> None:
    assert coverage(None) == 0
    assert coverage(torch.tensor([[0, 255], [1, 1]])) == 0.75
    assert coverage(torch.tensor([[0.5, float("nan")]])) == 0.5
