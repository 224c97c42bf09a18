"""mtal score with everything in a bucket: the list of the same files on a disk, also after a kill, and in one piece."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from orchestrator.checkpoints import Card, build, save_model
from orchestrator.components import Component
from orchestrator.preparing import prepare
from orchestrator.store import read_table
from tasks.data.objects import S3Path
from tasks.data.streets import Streets
from tests.s3.conftest import send
from tests.s3.far import Far
from tests.s3.test_data_root import ended, refused
from tests.s3.weed import SECRET, Weed

pytestmark = pytest.mark.s3
HOME = Path(__file__).resolve().parents[2]
STREETS = Streets(images=5, validation=1, test=1, size=(64, 96))
WORDS = ("--strategy", "boxmask", "--strategy", "coreset", "--batch", "3")
COUNT = 20
PIECES = """
import sys
from contextlib import contextmanager
from orchestrator.local_workers import LocalWorkers
from orchestrator.pool_scoring import score_pool
from tasks.data.files import place

@contextmanager
def make(setup):
    yield LocalWorkers(setup)

checkpoint, data, out = map(place, sys.argv[1:])
score_pool(checkpoint, data, ["boxmask"], out, make, batch=2, shard=2)
"""


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A folder with a checkpoint and a pool of photos of several sizes, some in a folder below."""
    classes, tasks, model = STREETS.classes(), ("detection", "segmentation"), Component("small", {"width": 8})
    torch.manual_seed(0)
    save_model(tmp_path / "local" / "model.pt", build(model, classes, tasks), Card(model, tasks, classes, (64, 96), 1))
    (tmp_path / "local" / "photos" / "more").mkdir(parents=True)
    for i in range(COUNT):
        noise = np.random.default_rng(i).integers(0, 255, (60 + i, 90 + 2 * i, 3), np.uint8)
        folder = "more/" if i % 3 == 0 else ""
        Image.fromarray(noise).save(tmp_path / "local" / "photos" / f"{folder}{i}.{'jpg' if i % 2 else 'png'}")
    (tmp_path / "local" / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "local"


def words(place: Path | S3Path, data: str = "photos") -> list[str]:
    return ["score", "--checkpoint", f"{place}/model.pt", "--data", f"{place}/{data}", "--out", f"{place}/list.parquet"]


def test_a_pool_in_a_bucket(local: Path, prefix: S3Path, capsys: pytest.CaptureFixture[str]) -> None:
    send(local, prefix)
    before = {str(one) for one in prefix.walk()}
    for data in ("photos", "prepared"):
        if data == "prepared":
            prepare(STREETS, local / data)
            prepare(STREETS, prefix / data)
            before = {str(one) for one in prefix.walk()}
        for place in (local, prefix):
            assert ended(*words(place, data), *WORDS) == 0
        found, expected = read_table(prefix / "list.parquet"), pq.read_table(local / "list.parquet")
        assert found.equals(expected)
        assert found.num_rows == (COUNT if data == "photos" else 5)
        assert {str(one) for one in prefix.walk()} == before | {f"{prefix}/list.parquet"}
    text = capsys.readouterr().out
    assert f"scores: {prefix}/list.parquet" in text
    assert SECRET not in text


def pieces(place: Path | S3Path) -> "subprocess.Popen[bytes]":
    """The same in shards of two images, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PIECES, f"{place}/model.pt", f"{place}/photos", f"{place}/list.parquet"],
        cwd=HOME, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.soak
def test_a_killed_command_carries_on_to_the_same_list(
    local: Path, prefix: S3Path, weed: Weed, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(local, prefix)
    assert pieces(local).wait(120) == 0
    parts = prefix / "list.parquet.parts" / "scores"
    with Far(weed.port, 0.05) as far, monkeypatch.context() as slow:
        slow.setenv("AWS_ENDPOINT_URL", far.address)
        running = pieces(prefix)
        end = time.monotonic() + 120
        while not (parts / "shard_00002.parquet").is_file():
            assert running.poll() is None
            assert time.monotonic() < end
        running.kill()
        running.wait()
    assert not (prefix / "list.parquet").exists()
    done = {str(one): one.head().modified for one in parts.walk()}
    assert 3 <= len(done) < COUNT / 2
    with Far(weed.port) as far, monkeypatch.context() as counted:
        counted.setenv("AWS_ENDPOINT_URL", far.address)
        assert pieces(prefix).wait(120) == 0
        written = [one for one in far.asked if one.startswith("PUT ")]
    assert not [one for one in written if one.rpartition("/")[2] in {name.rpartition("/")[2] for name in done}]
    assert sum("/shard_" in one for one in written) == COUNT / 2 - len(done)
    assert read_table(prefix / "list.parquet").equals(pq.read_table(local / "list.parquet"))
    assert not (prefix / "list.parquet.parts").exists()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("checkpoint", "/model.pt: no such checkpoint; expected a whole model.pt"),
        ("data", "/photos: no such folder; expected a folder of images"),
        ("photo", "/photos/1.jpg: is not a readable image; expected a whole one: repair or remove it"),
        ("secret", "/model.pt: the server refuses this ("),
        ("kind", "gs://bucket/model.pt: is a gs:// uri; expected a local path or s3://bucket/path"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    local: Path, prefix: S3Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    fault: str, says: str,
) -> None:  # fmt: skip
    send(local, prefix)
    arguments = [*words(prefix), *WORDS]
    if fault == "checkpoint":
        (prefix / "model.pt").unlink()
    elif fault == "data":
        (prefix / "photos").remove_tree()
    elif fault == "photo":
        (prefix / "photos" / "1.jpg").write_bytes(b"\xff\xd8\xff no more of it")
    elif fault == "secret":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    else:
        arguments[2] = "gs://bucket/model.pt"
    assert says in refused(capsys, *arguments)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert not (prefix / "list.parquet").exists()
    assert not (prefix / "list.parquet.parts").exists()
