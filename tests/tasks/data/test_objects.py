"""S3Path in itself: names, order, pickling. What it does on a server is in tests/s3."""

import os
import pickle
from pathlib import Path, PurePosixPath

import pytest

from tasks.data.files import leads_below, place, relative_uri, resolve
from tasks.data.objects import S3Path

A = S3Path("bucket", "runs/tiny/model.pt")


def test_the_names_of_pathlib_mean_the_same() -> None:
    local = PurePosixPath("/bucket/runs/tiny/model.pt")
    assert (A.name, A.stem, A.suffix) == (local.name, local.stem, local.suffix)
    assert str(A.parent) == "s3://bucket/runs/tiny"
    assert [str(one) for one in A.parents] == ["s3://bucket/runs/tiny", "s3://bucket/runs", "s3://bucket"]
    assert A.with_name("x.json") == S3Path("bucket", "runs/tiny/x.json")
    assert A.parent / "a" / "./b//c" == A.parent.joinpath("a", "b", "c") == S3Path("bucket", "runs/tiny/a/b/c")
    assert S3Path("bucket") / "a" == S3Path("bucket", "a")
    assert S3Path("bucket").parent == S3Path("bucket")
    assert A.relative_to(S3Path("bucket", "runs")) == PurePosixPath("tiny/model.pt")
    assert A.is_relative_to(S3Path("bucket"))
    assert not A.is_relative_to(S3Path("bucket", "run"))
    assert not A.is_relative_to(Path("/runs"))
    with pytest.raises(ValueError, match="is not below s3://other"):
        A.relative_to(S3Path("other"))
    assert (A.parent / ".." / "x").resolve() == S3Path("bucket", "runs/x")
    assert (S3Path("bucket") / ".." / "x").resolve() == S3Path("bucket", "x")
    assert A.absolute() is A
    A.mkdir(parents=True, exist_ok=True)


def test_a_path_is_plain_data_and_no_local_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    packed = pickle.dumps(A)
    assert pickle.loads(packed) == A
    assert b"a-secret" not in packed
    assert len({A, place("s3://bucket/runs/tiny/model.pt"), place("s3://bucket//runs/tiny/model.pt/")}) == 1
    assert sorted([A, A.parent]) == [A.parent, A]
    assert not isinstance(A, os.PathLike)
    with pytest.raises(TypeError):
        open(A)  # type: ignore[call-overload]  # noqa: SIM115
    with pytest.raises(ValueError, match="mode is 'wb'; objects are opened for reading bytes only"):
        A.open("wb")


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "s3://b/key", "s3://-bucket/key", "s3://bu cket/key"])
def test_a_uri_without_a_bucket_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="names no bucket; expected s3://bucket/path"):
        place(uri)


def test_keys_in_a_uri_are_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="give keys by the environment") as told:
        place("s3://AKIA:very-secret@bucket/key")
    assert "very-secret" not in str(told.value)


def test_uris_start_at_their_base_wherever_it_is() -> None:
    base = S3Path("bucket", "data")
    assert resolve("images/a.jpg", base) == S3Path("bucket", "data/images/a.jpg")
    assert resolve("/data/a.jpg", base) == Path("/data/a.jpg")
    assert resolve("file:///data/a.jpg", base) == Path("/data/a.jpg")
    assert resolve("s3://other/a.jpg", Path("/data")) == S3Path("other", "a.jpg")
    assert relative_uri(base / "images/a.jpg", base) == "images/a.jpg"
    assert relative_uri(S3Path("other", "a.jpg"), base) == "s3://other/a.jpg"
    assert relative_uri(Path("/data/a.jpg"), base) == "/data/a.jpg"
    assert relative_uri(base, Path("/data")) == "s3://bucket/data"
    assert leads_below(base / "a" / ".." / "b", base)
    assert not leads_below(base / ".." / "b", base)
    assert not leads_below(base, Path("/data"))
    assert not leads_below(Path("/data/../b"), Path("/data"))
