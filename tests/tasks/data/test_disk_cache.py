"""Where objects are kept, and within which limit. What is kept, and for how long, is in tests/s3."""

import os
from pathlib import Path

import pytest

from tasks.data.disk_cache import DiskCache, own_folder
from tasks.data.objects import S3Path


def test_a_cache_is_made_when_the_environment_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTAL_CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.delenv("MTAL_CACHE_MIB", raising=False)
    assert DiskCache.asked() is None
    for text in ("", "0"):
        monkeypatch.setenv("MTAL_CACHE_MIB", text)
        assert DiskCache.asked() is None
    monkeypatch.setenv("MTAL_CACHE_MIB", "1.5")
    assert DiskCache.asked() == DiskCache(tmp_path / "kept" / "objects", 3 << 19)
    for text in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("MTAL_CACHE_MIB", text)
        with pytest.raises(ValueError, match=r"MTAL_CACHE_MIB is .*; expected a number of MiB"):
            DiskCache.asked()


def test_two_objects_never_share_a_file(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1)
    paths = [S3Path("bucket", "a/b"), S3Path("bucket", "a"), S3Path("bucketa", "b"), S3Path("bucket", "a/c")]
    assert len({cache.place(path) for path in paths}) == 4


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MTAL_CACHE_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = own_folder()
    assert folder == tmp_path / f"mtal-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(OSError, match="may be written by others; expected a folder of your own: set MTAL_CACHE_DIR"):
        own_folder()
