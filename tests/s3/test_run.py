"""A whole run in a bucket: what a local run comes to, also when the server or the command is killed in the middle."""

import io
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from orchestrator.curves import Results
from orchestrator.report import write_report
from tasks.data import samples
from tasks.data.manifest import Manifest
from tasks.data.objects import S3Path
from tasks.data.samples import Samples
from tests.s3.weed import SECRET, Weed
from tests.tiny import results, write_tiny
from tests.typed import Running, start

pytestmark = [pytest.mark.s3, pytest.mark.long]
HOME = Path(__file__).resolve().parents[2]


def started(config: Path, *words: str) -> Running:
    """``mtal run`` without Ray, printing to run.log beside the configuration."""
    return start(["run", str(config), "--address", "none", *words], HOME, config.with_name("run.log"))


def log_of(config: Path) -> str:
    return config.with_name("run.log").read_text()


def wait_for(what: Callable[[], bool], running: Running | subprocess.Popen[bytes], config: Path) -> None:
    end = time.monotonic() + 240
    while not what():
        assert running.poll() is None, log_of(config)
        assert time.monotonic() < end, log_of(config)
        time.sleep(0.05)


def check_whole(path: S3Path) -> None:
    """Fails where an object can be read and is only a part of what was to be written."""
    data = path.read_bytes()
    if path.suffix == ".json":
        assert isinstance(json.loads(data), dict | list)
    elif path.suffix == ".parquet":
        assert pq.read_table(pa.BufferReader(data)).num_columns
    elif path.suffix == ".pt":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
        torch.load(io.BytesIO(data), weights_only=True)
    elif path.suffix == ".png":
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    elif path.suffix == ".html":
        assert data.rstrip().endswith(b"</html>")


def check_all_whole(folder: S3Path) -> int:
    """How many objects there are; what goes while we look is no fault."""
    count = 0
    for path in folder.walk():
        try:
            check_whole(path)
        except FileNotFoundError:
            continue
        count += 1
    return count


def write_config(place: Path, output: S3Path) -> Path:
    return write_tiny(place / "tiny.yaml", output)


def test_a_run_in_a_bucket_equals_a_local_one(
    prefix: S3Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTAL_CACHE_MIB", "100")
    config = write_config(tmp_path, prefix)
    assert started(config).wait(400) == 0, log_of(config)
    assert results(prefix / "tiny") == results(tiny_run / "runs" / "tiny")
    made = {str(one.relative_to(prefix / "tiny")) for one in (prefix / "tiny").walk()}
    local = {str(one.relative_to(tiny_run / "runs" / "tiny")) for one in (tiny_run / "runs" / "tiny").rglob("*.*")}
    assert made == {name for name in local if not name.endswith(".lock")}
    assert f"report: {prefix}/tiny/report.html" in log_of(config)
    assert SECRET not in log_of(config)
    assert not [one for one in prefix.walk() if SECRET.encode() in one.read_bytes()]
    assert list((tmp_path / "cache" / "objects").glob("??/*"))

    before = {str(one): one.head().modified for one in prefix.walk() if one.suffix == ".pt"}
    assert started(config).wait(400) == 0, log_of(config)
    assert {str(one): one.head().modified for one in prefix.walk() if one.suffix == ".pt"} == before
    (prefix / "tiny" / "report.html").unlink()
    assert write_report(prefix / "tiny") == prefix / "tiny" / "report.html"
    assert (prefix / "tiny" / "report.html").read_bytes().count(b"data:image/jpeg;base64,") >= 4
    assert len(Results.load(prefix / "tiny").table) == 6
    assert started(config, "--set", "train.rate=0.001").wait(400) == 2
    assert "train.rate: 0.004 -> 0.001" in log_of(config)
    assert started(config, "--fresh", "boxmask").wait(400) == 0, log_of(config)
    assert results(prefix / "tiny") == results(tiny_run / "runs" / "tiny")

    check_samples(prefix, monkeypatch)


def check_samples(prefix: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prepared data of a run: rows that follow each other are read ahead, and are what they are alone."""
    manifest = Manifest.open(next((prefix / "data").iterdir()))
    assert pickle.loads(pickle.dumps(manifest)).fingerprint == manifest.fingerprint
    rows = manifest.rows("train")
    alone = [Samples(manifest, ("segmentation",), rows[i : i + 1])[int(row)] for i, row in enumerate(rows)]
    monkeypatch.setattr(samples, "AHEAD", 5)
    together = Samples(manifest, ("segmentation",), rows)
    most = 0
    for row, one in zip(rows.tolist(), alone, strict=True):
        found = together[row]
        most = max(most, len(together._coming))
        assert torch.equal(found.image, one.image)
        assert torch.equal(found.targets["segmentation"], one.targets["segmentation"])  # type: ignore[arg-type]
    assert most == 5
    assert not together._coming


@pytest.mark.soak  # test_cluster has one, with actors
@pytest.mark.parametrize("point", ["reference/*/seed_0/model.pt", "boxmask/seed_0/cycle_0/scores/shard_00000.parquet"])
def test_the_server_is_killed_in_the_middle(own: Weed, tiny_run: Path, tmp_path: Path, point: str) -> None:
    output = S3Path("mtal-tests", "runs")
    config = write_config(tmp_path, output)
    running = started(config)
    wait_for(lambda: any((output / "tiny").glob(point)), running, config)
    own.kill()
    time.sleep(1.0)
    own.start()
    looked = 0
    while running.poll() is None:
        looked += check_all_whole(output / "tiny")
        time.sleep(0.5)
    assert looked
    for _ in range(3):  # the command rides it out, or is typed again
        if running.returncode == 0:
            break
        assert "Traceback" not in log_of(config)
        running = started(config)
        running.wait(400)
    assert running.returncode == 0, log_of(config)
    assert results(output / "tiny") == results(tiny_run / "runs" / "tiny")
    assert check_all_whole(output / "tiny") > 20


@pytest.mark.soak
def test_a_server_that_stays_away_is_one_sentence_and_the_same_command_goes_on(
    own: Weed, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = S3Path("mtal-tests", "runs")
    config = write_config(tmp_path, output)
    script = tmp_path / "impatient.py"
    script.write_text(
        "import sys\nfrom tasks.data import s3\ns3.PATIENCE = s3.FIRST_PATIENCE = 2.0\n"
        "from orchestrator.cli import main\nmain(sys.argv[1:])\n"
    )
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with tempfile.TemporaryFile() as log:
        running = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), "run", str(config), "--address", "none"],
            stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOME)},
        )  # fmt: skip
        wait_for(lambda: any((output / "tiny").glob("initial/*/seed_0/fit.json")), running, config)
        own.kill()
        assert running.wait(120) == 2
        log.seek(0)
        text = log.read().decode()
    assert "error: s3://mtal-tests/" in text
    assert "start the server, or correct AWS_ENDPOINT_URL" in text
    assert "Traceback" not in text
    assert SECRET not in text
    own.start()
    assert started(config).wait(400) == 0, log_of(config)
    assert results(output / "tiny") == results(tiny_run / "runs" / "tiny")


@pytest.mark.soak
def test_a_killed_command_is_carried_on_at_once(prefix: S3Path, tiny_run: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, prefix)
    running = started(config)
    wait_for(lambda: any((prefix / "tiny").glob("boxmask/seed_0/cycle_0/cycle.json")), running, config)
    running.kill()
    running.wait()
    assert (prefix / "tiny" / ".lock").is_file()  # nobody has given it back
    assert check_all_whole(prefix / "tiny")
    assert started(config).wait(400) == 0, log_of(config)
    assert not (prefix / "tiny" / ".lock").exists()
    assert results(prefix / "tiny") == results(tiny_run / "runs" / "tiny")
