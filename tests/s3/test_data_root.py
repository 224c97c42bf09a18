"""A data set in a bucket: the records, figures and picks of the same files on a disk, and errors in one sentence."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.preparing import prepare
from tasks.data import s3
from tasks.data.a9 import A9
from tasks.data.camvid import Camvid
from tasks.data.cityscapes import Cityscapes
from tasks.data.coco import Coco
from tasks.data.files import resolve
from tasks.data.manifest import Adapter, Manifest, Record
from tasks.data.nuimages import NuImages
from tasks.data.nyuv2 import Nyuv2
from tasks.data.objects import S3Path
from tests.data.a9 import write_a9
from tests.data.camvid import write_camvid
from tests.data.cityscapes import write_cityscapes
from tests.data.coco import write_coco
from tests.data.nuimages import write_nuimages
from tests.data.nyuv2 import write_folder, write_mat
from tests.data.site import write_site
from tests.s3.conftest import send
from tests.s3.weed import KEY, SECRET
from tests.tiny import results, write_tiny

pytestmark = pytest.mark.s3
SITE = {"images": "images", "semantic": "masks", "group": "drive", "validation": 0.2, "test": 0.4, "size": [64, 96]}
ARM = {"strategy": {"name": "boxmask", "crop_size": 32, "min_score": 0.05}}


def site_config(place: Path, root: str, output: object) -> Path:
    """The tiny experiment on somebody's own data: one arm, one purchase."""
    place.mkdir(exist_ok=True)
    return write_tiny(
        place / "tiny.yaml", output, data={"name": "coco", "root": root, **SITE}, arms={"boxmask": ARM},
        active={"initial": 0.4, "budget": {"amount": 2}, "cycles": 1}, reference={"steps": 40, "seeds": [0]},
    )  # fmt: skip


def ended(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(words)
    return int(end.value.code or 0)


def plain(manifest: Manifest) -> list[Record]:
    """The records with the places of files in full."""
    found = manifest.records(manifest.rows())

    def full(uri: str | None) -> str:
        return str(resolve(uri, manifest.base)) if uri else ""

    return [
        replace(one, uri=full(one.uri), segmentation=full(one.segmentation), depth=full(one.depth)) for one in found
    ]


def moved(records: list[Record], old: str, new: str) -> list[Record]:
    """The same records at another root."""

    def there(uri: str | None) -> str:
        return str(uri).replace(old, new)

    return [
        replace(one, uri=there(one.uri), segmentation=there(one.segmentation), depth=there(one.depth))
        for one in records
    ]


PANOPTIC: dict[str, Any] = {
    "annotations": "annotations/instances_{split}2017.json",
    "images": "{split}2017",
    "panoptic": "annotations/panoptic_{split}2017.json",
}


@pytest.mark.parametrize(
    ("write", "adapter"),
    [
        (write_camvid, Camvid),
        (write_coco, lambda root: Coco(root, **{**PANOPTIC, "panoptic": ""})),
        (write_coco, lambda root: Coco(root, **PANOPTIC)),
        (write_coco, lambda root: Coco(root, **{**PANOPTIC, "annotations": ""})),
        (write_cityscapes, lambda root: Cityscapes(root, signs=True)),
        (write_folder, lambda root: Nyuv2(root, level=13)),
        (write_mat, Nyuv2),
        (write_nuimages, lambda root: NuImages(root, channel="")),
        (write_a9, A9),
    ],
)
def test_the_records_are_those_of_a_folder(
    prefix: S3Path, tmp_path: Path, write: Callable[[Path], Path], adapter: Callable[[str], Adapter]
) -> None:
    root = write(tmp_path / "root")
    send(root, prefix / "root")
    near = prepare(adapter(str(root)), tmp_path / "near")
    expected = moved(plain(Manifest.open(tmp_path / "near")), str(root), str(prefix / "root"))
    shutil.rmtree(root)
    for folder in (tmp_path / "far", prefix / "far"):  # the manifest on a disk, and in the bucket
        far = prepare(adapter(str(prefix / "root")), folder)
        assert str(far) == str(near)
        found = Manifest.open(folder)
        assert plain(found) == moved(expected, str(tmp_path / "near"), str(folder))
        assert found.classes == Manifest.open(tmp_path / "near").classes


def test_a_run_on_a_data_set_in_a_bucket(prefix: S3Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_site(tmp_path / "root", train=24, held_out=12)
    send(root, prefix / "site")
    assert ended("run", str(site_config(tmp_path / "near", str(root), tmp_path / "runs")), "--address", "none") == 0
    shutil.rmtree(root)
    config = str(site_config(tmp_path / "far", str(prefix / "site"), prefix / "runs"))
    for words in (("check", config), ("prepare", config), ("run", config, "--address", "none")):
        assert ended(*words) == 0, capsys.readouterr()
    text = capsys.readouterr().out
    assert f"manifest: {prefix}/runs/data/coco-" in text
    assert results(prefix / "runs" / "tiny") == results(tmp_path / "runs" / "tiny")
    assert SECRET not in text


# ---- what is wrong is one sentence ----------------------------------------------------------------------------------


@pytest.fixture
def few(prefix: S3Path, tmp_path: Path) -> S3Path:
    """A root with six images in the bucket."""
    send(write_site(tmp_path / "root", train=4, held_out=1), prefix / "site")
    return prefix / "site"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command says that ends with exit code 2: one line, without a secret."""
    assert ended(*words) == 2
    found = capsys.readouterr()
    assert "Traceback" not in found.out + found.err
    assert SECRET not in found.out + found.err
    assert KEY not in found.out + found.err
    [line] = [one for one in found.err.splitlines() if one]
    return line


@pytest.mark.parametrize("verb", ["check", "prepare", "run"])
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("bucket", "s3://no-such-bucket/site/annotations.json: no such bucket; make it, or correct the uri"),
        ("key", "/site/annotations.json: no such file; expected what the data set lists: restore it"),
        ("secret", "/site/annotations.json: the server refuses this (SignatureDoesNotMatch"),
        ("address", "/site/annotations.json: no answer for"),
        ("kind", "gs://bucket/site: is a gs:// uri; expected a local path or s3://bucket/path"),
    ],
)
def test_a_root_that_cannot_be_read(
    few: S3Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    verb: str, fault: str, says: str,
) -> None:  # fmt: skip
    root = str(few)
    if fault == "bucket":
        root = "s3://no-such-bucket/site"
    elif fault == "key":
        (few / "annotations.json").unlink()
    elif fault == "secret":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    elif fault == "kind":
        root = "gs://bucket/site"
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setattr(s3, "FIRST_PATIENCE", 0.2)
    config = str(site_config(tmp_path / "far", root, tmp_path / "runs"))
    line = refused(capsys, verb, config, *(["--address", "none"] if verb == "run" else []))
    assert line.startswith("error: ")
    assert says in line
    assert not list((tmp_path / "runs").glob("*/*"))


def test_images_that_are_missing_are_counted_and_may_be_left_out(
    few: S3Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = json.loads((few / "annotations.json").read_text())["images"]
    gone = few / "images" / listed[0]["file_name"]
    gone.unlink()
    config = str(site_config(tmp_path / "far", str(few), tmp_path / "runs"))
    assert "1 fault in 6 images (1 missing)" in refused(capsys, "prepare", config)
    assert ended("prepare", config, "--on-error", "skip") == 0
    assert f"{gone}: no such file" in next((tmp_path / "runs").glob("data/*/problems.csv")).read_text()
    assert "5 of 6 images" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("prepare",), ("run", "--address", "none")])
def test_an_output_that_may_not_be_written_to(
    tmp_path: Path, prefix: S3Path, capsys: pytest.CaptureFixture[str], words: Any
) -> None:
    config = str(write_tiny(tmp_path / "tiny.yaml", "s3://no-such-bucket/runs"))
    line = refused(capsys, words[0], config, *words[1:])
    assert "the server refuses this (AccessDenied" in line
    assert line.endswith("of somebody who may read, write, delete and list here, then type the same command again")
    assert not list(prefix.walk())


def test_pictures_of_a_bucket_are_those_of_a_disk(prefix: S3Path, tmp_path: Path) -> None:
    write_camvid(tmp_path / "set")
    send(tmp_path / "set", prefix / "set")
    prepare(Camvid(str(tmp_path / "set")), tmp_path / "data")
    prepare(Camvid(str(prefix / "set")), prefix / "data")
    assert ended("show", str(tmp_path / "data"), "--out", str(tmp_path / "here")) == 0
    assert ended("show", str(prefix / "data"), "--out", str(tmp_path / "there")) == 0
    assert ended("show", str(prefix / "data"), "--out", str(prefix / "labels.html")) == 0
    here = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    assert len(here) > 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()} == here
    assert (prefix / "labels.html").read_bytes().count(b"<img") >= len(here) - 1
