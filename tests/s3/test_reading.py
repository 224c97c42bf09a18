"""Images of far storage come many at a time, whoever reads them, and no listing is in the way."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator import fitting
from orchestrator.components import Component
from orchestrator.config import Train
from orchestrator.preparing import prepare
from orchestrator.training_group import Group
from orchestrator.worker import Worker
from orchestrator.workers import Bought, ExplainJob, FitJob, ScoreJob, Setup
from tasks.data.manifest import Manifest
from tasks.data.objects import S3Path
from tasks.data.samples import Samples
from tasks.data.streets import Streets
from tests.s3.conftest import send
from tests.s3.far import LIST, Far
from tests.s3.test_data_root import ended
from tests.s3.weed import Weed
from tests.tiny import write_tiny

pytestmark = pytest.mark.s3
TASKS = ("detection", "segmentation")
MANY = 4  # requests at a time that one image (its pixels and a map) after another never comes to
JUNK = 1200  # keys beside those of a run, and below: more than a page


@pytest.fixture
def far(weed: Weed, prefix: S3Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    """The way to the server, from now on 20 ms longer."""
    with Far(weed.port) as way:
        monkeypatch.setenv("AWS_ENDPOINT_URL", way.address)
        way.seconds = 0.02
        yield way


@pytest.fixture
def manifest(prefix: S3Path) -> Manifest:
    prepare(Streets(images=48, validation=20, test=20, size=(64, 96)), prefix / "data")
    return Manifest.open(prefix / "data")


def batches(data: fitting.Data, train: Train, steps: int, group: Group) -> list[tuple[list[str], torch.Tensor]]:
    """What a process trains on: the ids and pixels of each part."""
    found = []
    for step in range(steps):
        for part in fitting.step_parts(data, train, step, steps, 0, 0, group):
            found.append((list(part.batch.ids), part.batch.images))
    return found


@pytest.mark.parametrize(("cut", "group"), [(1, Group()), (4, Group(1, 2))])
def test_the_batches_of_training_are_read_ahead(manifest: Manifest, far: Far, cut: int, group: Group) -> None:
    rows, train = manifest.rows("train"), Train(steps=6, batch=16, accumulate=cut)
    has = np.ones((len(rows), 2), bool)
    alone = Samples(manifest, TASKS, rows)
    expected = batches(fitting.Data(alone, rows, has, TASKS, manifest.classes), train, 6, group)
    samples = Samples(manifest, TASKS, rows)
    far.forget()
    found = batches(fitting.Data(samples, rows, has, TASKS, manifest.classes, samples.expect), train, 6, group)
    assert far.most >= MANY
    assert far.counts["GET"] == 2 * len({id for ids, _ in found for id in ids})  # each image and map once
    assert not samples._coming
    assert [ids for ids, _ in found] == [ids for ids, _ in expected]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(found, expected, strict=True))


def test_every_job_of_a_worker_reads_ahead(manifest: Manifest, far: Far, prefix: S3Path) -> None:
    model, rows = Component("small", {"width": 8}), manifest.rows("train")
    setup = Setup(
        manifest=str(prefix / "data"), tasks={task: {} for task in TASKS}, model=model, weighting=Component("equal"),
        batch=8, shard=48, threads=1, cache=0, gpu=False, code="",
    )  # fmt: skip
    worker, has, labeled = Worker(setup), np.ones((len(rows), 2), bool), np.zeros(len(rows), bool)
    fitted = worker.fit(FitJob(str(prefix / "fit"), Train(steps=2, batch=8), rows, has, 2, 0, 0))
    ids, keys = manifest.ids(rows), manifest.keys("train").tolist()
    picks = [Bought(ids[i], keys[i], TASKS, 0.0, {}) for i in np.random.default_rng(0).permutation(48)[:24]]
    jobs = {
        "fit": lambda: worker.fit(FitJob(str(prefix / "fit"), Train(steps=2, batch=16), rows, has, 2, 0, 0)),
        "evaluate": lambda: worker.evaluate_shard(fitted.checkpoint, "test", 0),
        "score": lambda: worker.score_shard(
            ScoreJob(str(prefix / "scores"), fitted.checkpoint, {"x": Component("equal")}, 0, 0, labeled), 0
        ),
        "cost": lambda: worker.label_cost(rows, has),
        "explain": lambda: worker.explain(
            ExplainJob(str(prefix / "gallery"), fitted.checkpoint, Component("equal"), picks, 0, 0)
        ),
    }
    most = {}
    for name, job in jobs.items():
        far.forget()
        job()
        most[name] = far.most
        assert far.counts["LIST"] == 0
    assert min(most.values()) >= MANY, most


@pytest.mark.soak
def test_keys_beside_those_of_a_run_cost_nothing(
    prefix: S3Path, weed: Weed, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listings of a command, and their pages, do not grow with what else lies in the bucket or below the run."""
    send(tiny_run / "runs", prefix / "runs")
    config = str(write_tiny(tmp_path / "tiny.yaml", prefix / "runs"))
    commands = {
        "one cycle more": ["run", config, "--address", "none", "--set", "active.cycles=3"],
        "report": ["report", str(prefix / "runs" / "tiny")],
    }
    lists = []
    with Far(weed.port) as far:
        monkeypatch.setenv("AWS_ENDPOINT_URL", far.address)
        for places in ((), ("runs/data/junk", "runs/tiny/boxmask/seed_0/cycle_0/scores")):
            for place in places:
                fill(prefix / place, JUNK)
            counts = {}
            for name, words in commands.items():
                far.forget()
                assert ended(*words) == 0
                counts[name] = sorted({one for one in far.asked if LIST.match(one)})  # one that is tried again is one
            lists.append(counts)
            if not places:  # as it was before
                (prefix / "runs").remove_tree()
                send(tiny_run / "runs", prefix / "runs")
    assert lists[0] == lists[1]
    assert max(map(len, lists[0].values())) <= 20


def fill(place: S3Path, count: int) -> None:
    """Small objects, some of them in folders below."""
    names = [f"{i % 7}/{i:05d}.parquet" if i % 2 else f"{i:05d}.json" for i in range(count)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: (place / name).write_bytes(b"{}"), names))
