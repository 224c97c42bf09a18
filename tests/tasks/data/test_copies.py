"""Copies that nobody uses go when they are too many. What is copied is in tests/s3."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.data import copies
from tasks.data.objects import S3Path
from tests.tasks.data.answering import Answer, error, starting

HOLD = """
import sys
from fcntl import LOCK_SH, flock
file = open(sys.argv[1], "rb")
flock(file, LOCK_SH)
print("held", flush=True)
sys.stdin.read()
"""


def test_unused_copies_go_oldest_first_and_used_ones_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTAL_CACHE_MIB", "1")
    for i in range(6):
        (tmp_path / f"{i}.parquet").write_bytes(bytes(400_000))
        os.utime(tmp_path / f"{i}.parquet", (i, i))
    for name, age in (("old.tmp", 0), ("new.tmp", None)):
        (tmp_path / name).write_bytes(b"draft")
        if age is not None:
            os.utime(tmp_path / name, (age, age))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "0.parquet")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        copies._drop(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0.parquet", "5.parquet", "new.tmp"]
        other.stdin.close()
    (tmp_path / "6.parquet").write_bytes(bytes(400_000))
    copies._drop(tmp_path)  # the other process is gone, and its claim with it
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5.parquet", "6.parquet", "new.tmp"]


def test_a_copy_that_is_gone_is_not_used(tmp_path: Path) -> None:
    assert not copies._use(tmp_path / "none.parquet")
    (tmp_path / "a.parquet").write_bytes(b"a")
    assert copies._use(tmp_path / "a.parquet")
    assert not copies._removed(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").unlink()  # somebody has emptied the folder
    assert not copies._use(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("code", "words"), [("NoSuchKey", "no such object"), ("NoSuchBucket", "no such bucket; make it, or correct")]
)
def test_a_missing_object_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, words: str
) -> None:
    """The answer to HEAD has a number and no words: why it is missing is asked for."""
    monkeypatch.setenv("MTAL_CACHE_DIR", str(tmp_path))
    with starting(monkeypatch) as start:
        server = start(Answer(404), error(404, code))
        with pytest.raises(FileNotFoundError, match=words) as told:
            copies.copied(S3Path("bucket", "manifest.parquet"))
    assert told.value.filename == "s3://bucket/manifest.parquet"
    assert [method for method, _, _ in server.asked] == ["HEAD", "GET"]
    assert not list(tmp_path.rglob("*.parquet"))
