"""A real local Ray cluster on a real S3 server that is killed: the result of one process on a disk, and no secret."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.data.objects import S3Path
from tests.ray.conftest import command, wait_for
from tests.s3.test_run import check_all_whole
from tests.s3.weed import BUCKET, KEY, SECRET, Weed
from tests.tiny import results, write_tiny

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.long]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Ray keeps what it writes; a short path, because sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def holding(folder: Path, *words: str) -> list[str]:
    """The files below a folder that hold one of these words."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found += [str(path) for word in words if word.encode() in data]
    return found


def test_the_server_dies_under_a_run_on_ray(own: Weed, session: Path, tiny_run: Path, tmp_path: Path) -> None:
    output = S3Path(BUCKET, "runs")
    config = str(write_tiny(tmp_path / "tiny.yaml", output))
    words = ("run", config, "--address", "local")
    running = command(*words)
    try:
        point = output / "tiny" / "boxmask" / "seed_0" / "cycle_0" / "scores" / "shard_00000.parquet"
        wait_for(lambda: point.is_file() or not running.is_running, 400, every=0.2)
        assert running.is_running, running.text
        own.kill()
        time.sleep(1.0)
        own.start()
        looked = 0
        while running.is_running:
            looked += check_all_whole(output / "tiny")
            time.sleep(2.0)
    finally:
        running.kill()
    assert looked
    said = running.text
    for _ in range(2):  # the command rides it out, or is typed again
        if running.process.returncode == 0:
            break
        assert "Traceback" not in said
        running = command(*words)
        running.finish()
        said += running.text
    assert running.process.returncode == 0, said
    assert results(output / "tiny") == results(tiny_run / "runs" / "tiny")
    assert check_all_whole(output / "tiny") > 20

    assert list(session.rglob("runtime_env_agent.log"))  # it would print what travels in a runtime environment
    assert not holding(session, SECRET, KEY)
    assert SECRET not in said
    assert KEY not in said
    assert not [str(one) for one in S3Path(BUCKET).walk() if any(w.encode() in one.read_bytes() for w in (SECRET, KEY))]
