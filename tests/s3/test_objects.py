"""Objects on a real server: whole or not there, made once, listed in pages, read by ranges, cached within a limit."""

import json
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator import lease
from orchestrator.errors import RunError
from orchestrator.lease import Holder, leased
from orchestrator.store import RunFolder, commit, read_json, read_table, write_table
from tasks.data import s3
from tasks.data.copies import copied
from tasks.data.disk_cache import DiskCache
from tasks.data.files import local_file, place, read_bytes, remove_tree, resolve, staged, version, write_bytes
from tasks.data.objects import PAGE, S3Path
from tests.s3.weed import KEY, SECRET

pytestmark = pytest.mark.s3
HOME = Path(__file__).resolve().parents[2]


def test_names_of_all_kinds_come_back(prefix: S3Path) -> None:
    for name in ("a/b.txt", "with space/ü+&%=?#.txt", "deep/er/and/deeper"):
        (prefix / name).write_text(name)
        assert (prefix / name).read_text() == name
    assert [str(one.relative_to(prefix)) for one in prefix.walk()] == sorted(
        ("a/b.txt", "with space/ü+&%=?#.txt", "deep/er/and/deeper")
    )
    assert sorted(one.name for one in prefix.iterdir()) == ["a", "deep", "with space"]
    assert list(prefix.glob("*/*.txt")) == [prefix / "a/b.txt", prefix / "with space/ü+&%=?#.txt"]
    assert list(prefix.glob("deep/er/*/deeper")) == [prefix / "deep/er/and/deeper"]
    assert list(prefix.glob("a/none")) == []
    assert (prefix / "a").is_dir()
    assert not (prefix / "a").is_file()
    assert (prefix / "a/b.txt").is_file()
    assert not (prefix / "a/b").exists()


def test_what_is_not_there_is_named(prefix: S3Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"/none.json: no such object$"):
        (prefix / "none.json").read_bytes()
    with pytest.raises(FileNotFoundError, match=r"no such file; expected what the data set lists"):
        read_bytes("none.jpg", prefix)
    with pytest.raises(FileNotFoundError, match="no such bucket; make it"):
        place("s3://no-such-bucket-here/a").read_bytes()
    with pytest.raises(FileNotFoundError):
        (prefix / "none.json").unlink()
    (prefix / "none.json").unlink(missing_ok=True)
    remove_tree(prefix)
    assert version(prefix / "none.json") == ""


def test_a_wrong_key_is_refused_without_being_told(prefix: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(PermissionError, match=r"the server refuses this .*set AWS_ACCESS_KEY_ID") as refused:
        (prefix / "a").read_bytes()
    text = f"{refused.value!r} {refused.value} {refused.value.__cause__} {refused.value.__suppress_context__}"
    assert "another-secret" not in text
    assert KEY not in text
    assert SECRET.encode() not in pickle.dumps(prefix)


@pytest.mark.parametrize("count", [2500, pytest.param(10_000, marks=pytest.mark.soak)])
def test_many_keys_are_listed_in_pages_and_deleted(prefix: S3Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """A page is asked for when the last one is used up, so memory does not grow with the number of keys."""
    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(lambda i: (prefix / f"many/{i:06d}").write_bytes(b"x"), range(count))) == count
    asked: list[int] = []
    listed = S3Path._listed
    monkeypatch.setattr(S3Path, "_listed", lambda self, **options: asked.append(1) or listed(self, **options))
    some = list(islice((prefix / "many").walk(), 10))
    assert [one.name for one in some] == [f"{i:06d}" for i in range(10)]
    assert len(asked) == 1
    assert sum(1 for _ in (prefix / "many").iterdir()) == count
    assert len(asked) == 1 - -count // PAGE
    asked.clear()
    assert (prefix / "many").is_dir()
    assert list(prefix.glob("many/000017")) == [prefix / "many/000017"]  # no wildcard: nothing is listed
    assert len(asked) == 1
    remove_tree(prefix / "many")
    assert not (prefix / "many").is_dir()


def test_a_large_object_goes_up_in_parts_and_comes_back(prefix: S3Path, tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(64 << 20)
    with staged(prefix / "large.bin") as draft:
        draft.write_bytes(data)
    head = (prefix / "large.bin").head()
    assert head.size == len(data)
    assert int(head.etag.strip('"').rpartition("-")[2]) > 1  # so many parts
    assert (prefix / "large.bin").read_bytes() == data
    first = local_file(prefix / "large.bin")
    assert first.read_bytes() == data
    assert local_file(prefix / "large.bin") == first
    (prefix / "large.bin").write_bytes(b"new")
    assert copied(prefix / "large.bin").read_bytes() == b"new"


def test_a_failed_write_leaves_what_was_there(prefix: S3Path) -> None:
    write_bytes("a.txt", prefix, b"old")
    with pytest.raises(ZeroDivisionError), staged(prefix / "a.txt") as draft:
        draft.write_text("ne")
        _ = 1 // 0
    assert (prefix / "a.txt").read_bytes() == b"old"
    assert list(prefix.walk()) == [prefix / "a.txt"]


def test_a_column_of_a_table_is_read_without_the_others(prefix: S3Path) -> None:
    rng = np.random.default_rng(0)
    columns = {f"c{i}": rng.standard_normal(200_000) for i in range(20)}
    write_table(prefix / "t.parquet", pa.table(columns))
    size = (prefix / "t.parquet").head().size
    with (prefix / "t.parquet").open() as file, pq.ParquetFile(file) as table:
        found = table.read(["c7"])["c7"].to_numpy()
        sent = file.sent
    assert np.array_equal(found, columns["c7"])
    assert sent < size / 8  # a twentieth, and the foot
    assert read_table(prefix / "t.parquet", ["c3"])["c3"].to_pylist() == columns["c3"].tolist()


def test_a_file_by_ranges_is_the_object_at_every_place(prefix: S3Path) -> None:
    data = np.random.default_rng(1).bytes(1_500_000)
    (prefix / "a").write_bytes(data)
    rng = np.random.default_rng(2)
    with (prefix / "a").open() as file:
        for start, length in zip(rng.integers(0, len(data), 60), rng.integers(0, 400_000, 60), strict=True):
            file.seek(int(start))
            assert file.read(int(length)) == data[start : start + length]
        file.seek(-7, os.SEEK_END)
        assert file.read() == data[-7:]
        assert file.read() == b""
        file.seek(0)
        (prefix / "a").write_bytes(data[::-1])
        with pytest.raises(OSError, match="was replaced by another process"):
            file.seek(3)
            file.read(1_000_000)
    (prefix / "empty").write_bytes(b"")
    with (prefix / "empty").open() as file:
        assert file.read() == b""


def test_one_of_many_threads_makes_an_object(prefix: S3Path) -> None:
    for round_ in range(5):
        path, start = prefix / f"marker_{round_}.json", threading.Barrier(16)

        def make(who: int, path: S3Path = path, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                path.create(b"the same from all")
            except FileExistsError:
                return False
            return who >= 0

        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(make, range(16))) == 1


def test_the_first_commit_stands(prefix: S3Path) -> None:
    commit(prefix / "done.json", {"by": 1})
    commit(prefix / "done.json", {"by": 2})
    assert read_json(prefix / "done.json") == {"by": 1}


def test_what_is_damaged_is_named(prefix: S3Path) -> None:
    (prefix / "a.json").write_text("{")
    (prefix / "a.parquet").write_text("no")
    with pytest.raises(RunError, match=r"a\.json: is not readable as JSON; delete this file"):
        read_json(prefix / "a.json")
    with pytest.raises(RunError, match=r"a\.parquet: is not readable as parquet; delete this file"):
        read_table(prefix / "a.parquet")


# ---- the local cache ------------------------------------------------------------------------------------------------


def test_the_cache_asks_whether_an_object_has_changed(prefix: S3Path, tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "kept", 1 << 20)
    (prefix / "a.jpg").write_bytes(b"one")
    assert cache.read(prefix / "a.jpg") == b"one"
    place_ = cache.place(prefix / "a.jpg")
    etag, _, _ = place_.read_bytes().partition(b"\n")
    place_.write_bytes(etag + b"\nONE")  # to see where the bytes come from
    assert cache.read(prefix / "a.jpg") == b"ONE"
    (prefix / "a.jpg").write_bytes(b"two")
    assert cache.read(prefix / "a.jpg") == b"two"
    (prefix / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError):
        cache.read(prefix / "a.jpg")


def test_the_cache_stays_within_its_limit_and_drops_what_was_read_longest_ago(prefix: S3Path, tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "kept", 100_000)
    for i in range(30):
        (prefix / f"{i}.jpg").write_bytes(bytes([i]) * 10_000)
        cache.read(prefix / "0.jpg")  # asked for all the time
        assert cache.read(prefix / f"{i}.jpg") == bytes([i]) * 10_000
        held = sum(file.stat().st_size for file in (tmp_path / "kept").rglob("*") if len(file.name) == 40)
        assert held <= 100_000
    assert cache.place(prefix / "29.jpg").is_file()
    assert cache.place(prefix / "0.jpg").is_file()
    assert not cache.place(prefix / "2.jpg").exists()
    (prefix / "huge.jpg").write_bytes(bytes(200_000))
    assert len(cache.read(prefix / "huge.jpg")) == 200_000
    assert not cache.place(prefix / "huge.jpg").exists()


def test_images_are_cached_when_the_environment_asks(
    prefix: S3Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (prefix / "a.jpg").write_bytes(b"one")
    assert read_bytes("a.jpg", prefix) == b"one"
    assert not (tmp_path / "cache" / "objects").exists()
    monkeypatch.setenv("MTAL_CACHE_MIB", "0.5")
    assert read_bytes(str(prefix / "a.jpg"), tmp_path) == b"one"
    cache = DiskCache.asked()
    assert cache is not None
    assert cache.place(resolve("a.jpg", prefix)).is_file()  # type: ignore[arg-type]


# ---- the lease ------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.3)
    monkeypatch.setattr(lease, "LOOK", 0.2)


@pytest.mark.usefixtures("quick")
def test_two_commands_cannot_write_to_one_run(prefix: S3Path) -> None:
    folder = RunFolder(prefix)
    with folder.locked():
        with pytest.raises(RunError, match=r"another command \(.*\) is writing to this run"), folder.locked():
            pass
    with folder.locked():
        assert (prefix / ".lock").is_file()
    assert not (prefix / ".lock").exists()


@pytest.mark.usefixtures("quick")
def test_a_lease_that_nobody_renews_is_taken(prefix: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = Holder("t", "another machine", 1, 0.0)
    (prefix / ".lock").write_bytes(stranger.written(3))
    assert not stranger.is_dead()
    monkeypatch.setattr(lease, "TERM", 2.0)
    with leased(prefix / ".lock"):
        assert json.loads((prefix / ".lock").read_bytes())["pid"] == os.getpid()


def test_the_lease_of_a_process_that_died_here_is_taken_at_once(prefix: S3Path) -> None:
    me = Holder.me()
    died = Holder("t", me.machine, me.pid, me.started - 1000)  # the number was used again since
    assert died.is_dead()
    (prefix / ".lock").write_bytes(died.written(0))
    with leased(prefix / ".lock"):
        assert json.loads((prefix / ".lock").read_bytes())["token"] != "t"


@pytest.mark.usefixtures("quick")
def test_a_lease_that_was_taken_away_is_left_alone(prefix: S3Path) -> None:
    other = Holder("t", "another machine", 1, 0.0).written(0)
    with leased(prefix / ".lock"):
        (prefix / ".lock").write_bytes(other)
    assert (prefix / ".lock").read_bytes() == other


def test_an_address_where_nobody_listens_is_told_in_time(prefix: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hidden@127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3, "FIRST_PATIENCE", 0.5)
    told = r"no answer for \d+ s from http://127\.0\.0\.1:9 .*; start the server, or correct AWS_ENDPOINT_URL"
    with pytest.raises(ConnectionError, match=told) as away:
        (prefix / "a").read_bytes()
    assert "hidden" not in str(away.value)


def test_uploads_in_parts_that_a_kill_has_left_are_ended(prefix: S3Path) -> None:
    def begin(path: S3Path) -> str:
        def ask(client: Any) -> str:
            begun = client.create_multipart_upload(Bucket=path.bucket, Key=path.key)["UploadId"]
            client.upload_part(Bucket=path.bucket, Key=path.key, UploadId=begun, PartNumber=1, Body=bytes(5 << 20))
            return str(begun)

        return s3.ask(path, ask)

    def left(path: S3Path) -> list[str]:
        below = {"Bucket": path.bucket, "Prefix": f"{path.key}/"}
        answer = s3.ask(path, lambda client: client.list_multipart_uploads(**below))
        return [one["Key"] for one in answer.get("Uploads", ())]

    begin(prefix / "tiny" / "model.pt")
    begin(prefix / "tiny" / "boxmask" / "seed_0" / "model.pt")
    begin(prefix / "tiny2" / "model.pt")
    assert len(left(prefix / "tiny")) == 2
    with RunFolder(prefix / "tiny").locked():
        assert left(prefix / "tiny") == []
        assert len(left(prefix / "tiny2")) == 1
    assert (prefix / "tiny2").abort_uploads() == 1


def test_copies_are_kept_within_a_limit_but_for_those_in_use(
    prefix: S3Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTAL_CACHE_MIB", "1")
    code = "import sys\nfrom tasks.data.copies import copied\nfrom tasks.data.files import place\n"
    code += "for uri in sys.argv[1:]:\n    print(copied(place(uri)))"
    for i in range(6):
        (prefix / f"{i}.parquet").write_bytes(bytes([i]) * 400_000)
    mine = copied(prefix / "0.parquet")
    for i in range(1, 6):
        subprocess.run([sys.executable, "-c", code, str(prefix / f"{i}.parquet")], check=True, cwd=HOME)
        held = list((tmp_path / "cache" / "copies").iterdir())
        assert mine in held
        assert len(held) <= 3  # two within the limit, and perhaps the one that was just made
    assert mine.read_bytes() == bytes(400_000)
