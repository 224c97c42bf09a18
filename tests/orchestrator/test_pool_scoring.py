"""A model and a pool in, the list out: the same list from any folder, for any company, after any interruption."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from PIL.ExifTags import Base
from rich.console import Console

from orchestrator.checkpoints import Card, build, save_model
from orchestrator.components import Component
from orchestrator.errors import ConfigError
from orchestrator.local_workers import LocalWorkers
from orchestrator.pool_scoring import PoolScores, named, score_pool, top_table
from orchestrator.workers import Scored, ScoreJob, Setup
from tasks.data.streets import Streets
from tasks.seeding import key_of

STREETS = Streets(images=4, validation=1, test=1, size=(64, 96))
TASKS = ("detection", "segmentation")


class Watched(LocalWorkers):
    """Workers that stop after some shards, and count those that they were asked for."""

    stop_after = 99
    done: int

    def score(self, job: ScoreJob) -> Scored:
        type(self).done = 0
        for shard in range(-(-len(job.labeled) // self.worker.setup.shard)):
            if shard == self.stop_after:
                raise KeyboardInterrupt
            self.worker.score_shard(job, shard)
            type(self).done += 1
        return super().score(job)


@contextmanager
def local(setup: Setup) -> Iterator[Any]:
    yield LocalWorkers(setup)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    classes, model = STREETS.classes(), Component("small", {"width": 8})
    torch.manual_seed(0)
    net = build(model, classes, TASKS)
    save_model(tmp_path / "model.pt", net, Card(model, TASKS, classes, (64, 96), 1))
    return tmp_path / "model.pt"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven photos, two of them in a folder below, of several sizes and endings."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    names = ["a.jpg", "b.JPG", "c.png", "d.bmp", "e.webp", "more/a.jpg", "more/f.png"]
    for i, name in enumerate(names):
        noise = np.random.default_rng(i).integers(0, 255, (60 + i, 90 + 2 * i, 3), np.uint8)
        Image.fromarray(noise).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def score(checkpoint: Path, data: Path, strategies: list[str], **options: Any) -> PoolScores:
    out = options.pop("out", checkpoint.with_name("list.parquet"))
    return score_pool(checkpoint, data, strategies, out, options.pop("make", local), **{"batch": 3, **options})


@pytest.mark.slow
def test_a_folder_of_photos(checkpoint: Path, photos: Path) -> None:
    found = score(checkpoint, photos, ["boxmask", "{name: equal, form: entropy}", "random"])
    written = pq.read_table(checkpoint.with_name("list.parquet"))
    assert written.equals(found.table)
    assert found.names == ("boxmask", "equal", "random")
    assert set(written.column_names) >= {"id", "key", "boxmask.value", "equal.value", "random.value"}
    ids = written["id"].to_pylist()
    assert sorted(ids) == ["a.jpg", "b.JPG", "c.png", "d.bmp", "e.webp", "more/a.jpg", "more/f.png"]
    assert written["key"].to_pylist() == sorted(key_of(name) for name in ids)
    assert np.isfinite(written["equal.value"].to_numpy()).all()
    assert found.scored.images == 7
    assert found.scored.forwards >= 1.0
    assert sorted(p.name for p in checkpoint.parent.iterdir()) == ["list.parquet", "model.pt", "photos"]
    assert not list(photos.rglob("*.parquet"))


@pytest.mark.slow
def test_shards_and_company_change_no_score(checkpoint: Path, photos: Path) -> None:
    together = score(checkpoint, photos, ["boxmask", "equal"], shard=3).table
    alone = score(checkpoint, photos, ["equal"], shard=3).table
    assert together["equal.value"].equals(alone["equal.value"])
    other = score(checkpoint, photos, ["random"], shard=2).table
    assert other["random.value"].equals(score(checkpoint, photos, ["random"], shard=99).table["random.value"])


@pytest.mark.slow
def test_a_seed_changes_draws_and_nothing_else(checkpoint: Path, photos: Path) -> None:
    first, second = (score(checkpoint, photos, ["random", "equal"], seed=seed).table for seed in (0, 1))
    assert not first["random.value"].equals(second["random.value"])
    assert first["equal.value"].equals(second["equal.value"])


def interrupted(checkpoint: Path, photos: Path, after: int, **options: Any) -> None:
    @contextmanager
    def make(setup: Setup) -> Iterator[Any]:
        workers = Watched(setup)
        workers.stop_after = after
        yield workers

    with pytest.raises(KeyboardInterrupt):
        score(checkpoint, photos, ["equal"], make=make, **options)


@pytest.mark.slow
def test_a_killed_command_carries_on_to_the_same_list(checkpoint: Path, photos: Path) -> None:
    whole = score(checkpoint, photos, ["equal"], shard=2).table
    checkpoint.with_name("list.parquet").unlink()
    interrupted(checkpoint, photos, after=2, shard=2)
    parts = checkpoint.with_name("list.parquet.parts") / "scores"
    shards = {path: path.stat().st_mtime_ns for path in parts.iterdir()}
    assert len(shards) == 2
    assert not checkpoint.with_name("list.parquet").exists()
    seen: dict[Path, int] = {}

    @contextmanager
    def make(setup: Setup) -> Iterator[Any]:
        yield LocalWorkers(setup)
        seen.update({path: path.stat().st_mtime_ns for path in parts.iterdir()})

    assert score(checkpoint, photos, ["equal"], shard=2, make=make).table.equals(whole)
    assert {path: seen[path] for path in shards} == shards
    assert not parts.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", ["fewer photos", *(pytest.param(one, marks=pytest.mark.slow) for one in ("other shards", "another seed"))]
)
def test_parts_of_another_command_are_not_mixed_in(checkpoint: Path, photos: Path, change: str) -> None:
    """What an interrupted command left is used only for the same photos, cut in the same way."""
    interrupted(checkpoint, photos, after=3, shard=2)
    options: dict[str, Any] = {"shard": 2}
    if change == "fewer photos":
        for name in ("a.jpg", "b.JPG", "c.png", "d.bmp"):
            (photos / name).unlink()
    elif change == "other shards":
        options["shard"] = 4
    else:
        options["seed"] = 5
    found = score(checkpoint, photos, ["equal"], **options).table
    fresh = score(checkpoint, photos, ["equal"], out=checkpoint.with_name("fresh.parquet"), **options).table
    assert found.num_rows == (3 if change == "fewer photos" else 7)
    assert found.equals(fresh)


@pytest.mark.slow
def test_a_photo_that_lies_on_its_side_is_taken_as_shown(checkpoint: Path, tmp_path: Path) -> None:
    """A phone stores the pixels lying, and writes how to turn them."""
    upright = np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8)
    for name, pixels, orientation in (("shown", upright, 1), ("stored", np.rot90(upright), 6)):
        (tmp_path / name).mkdir()
        exif = Image.Exif()
        exif[Base.Orientation] = orientation
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / name / "a.png", exif=exif)
    values = [score(checkpoint, tmp_path / name, ["equal"]).table["equal.value"] for name in ("shown", "stored")]
    assert values[0].equals(values[1])


def test_a_checkpoint_without_a_size_takes_no_photos(checkpoint: Path, photos: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "card": content["card"].replace("[64, 96]", "null")}, checkpoint)
    with pytest.raises(ConfigError, match=r"without data\.size; prepare the pool first"):
        score(checkpoint, photos, ["equal"])


def test_names_of_columns() -> None:
    found = named(["equal", "{name: equal, form: entropy}", "my.strategies:LeastSure", "other:LeastSure", "equal"])
    assert list(found) == ["equal", "equal-2", "LeastSure", "LeastSure-2", "equal-3"]
    assert found["equal-2"] == Component("equal", {"form": "entropy"})
    assert found["LeastSure-2"] == Component("other:LeastSure")


def printed(table: Any) -> str:
    file = StringIO()
    Console(file=file, width=100).print(table)
    return file.getvalue()


def test_the_picks_are_printed_in_their_order() -> None:
    rows = pa.table(
        {
            "id": ["d", "b", "a[/x]", "c"],
            "key": pa.array([4, 2, 1, 3], pa.uint64()),
            "one.rank": pa.array([3, 2, 1, None], pa.int32()),
            "one.value": [0.5, 0.5, 0.9, float("-inf")],
            "two.rank": pa.array([4, 3, 2, 1], pa.int32()),
            "two.value": [1.0, 2.0, 3.0, 4.0],
        }
    )
    text = printed(top_table(PoolScores(rows, ("one", "two"), Scored(4, 1.0)), 10))
    assert "the first 4 of 4 images to label" in text
    cells = [[cell.split()[:1] for cell in line.split("│")[2:4]] for line in text.splitlines() if line.startswith("│")]
    assert cells == [[["a[/x]"], ["c"]], [["b"], ["a[/x]"]], [["d"], ["b"]], [[], ["d"]]]
    assert "the first 2 of 4" in printed(top_table(PoolScores(rows, ("one",), Scored(4, 1.0)), 2))
    assert "the first 0 of 4" in printed(top_table(PoolScores(rows, ("one",), Scored(4, 1.0)), 0))


@pytest.mark.slow
def test_the_list_is_what_select_chooses(checkpoint: Path, photos: Path) -> None:
    """Values order the images of EquAL, ties by key; core-set chooses a set, whatever the values."""
    table = score(checkpoint, photos, ["equal", "coreset"], top=4).table
    equal = table.take(np.lexsort((table["key"].to_numpy(), -table["equal.value"].to_numpy())))
    assert equal["equal.rank"].to_pylist() == [1, 2, 3, 4, None, None, None]
    ranks = table["coreset.rank"].to_pylist()
    assert sorted(r for r in ranks if r) == [1, 2, 3, 4]
    by_value = table.take(np.argsort(-table["coreset.value"].to_numpy()))["coreset.rank"].to_pylist()
    assert by_value[:4] != [1, 2, 3, 4]
    assert "coreset.summary" not in table.column_names
    assert score(checkpoint, photos, ["coreset"], top=0).table["coreset.rank"].null_count == 7
