"""A cluster that looks at files finds what threads find, to the byte, also where a worker is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.preparing import prepare
from tasks.data.coco import Coco
from tests.data.coco import write_coco
from tests.ray.conftest import HOME, command
from tests.ray.looking import FIELDS
from tests.tiny import write_tiny

pytestmark = pytest.mark.ray


def spoiled(folder: Path) -> Path:
    """Six images, of which one is gone and one is none."""
    root = write_coco(folder)
    sorted((root / "train2017").iterdir())[1].unlink()
    sorted((root / "train2017").iterdir())[1].write_bytes(b"no image")
    return root


def check_same(near: Path, far: Path) -> None:
    for file in ("manifest.parquet", "problems.csv"):
        assert (near / file).read_bytes() == (far / file).read_bytes()


@pytest.mark.parametrize("look", [pytest.param("pixels", marks=pytest.mark.soak), "headers"])
def test_the_command_writes_the_same_bytes(tmp_path: Path, look: str) -> None:
    root = spoiled(tmp_path / "set")
    config = str(write_tiny(tmp_path / "tiny.yaml", tmp_path, data={"name": "coco", "root": str(root), **FIELDS}))
    told = []
    for address in ("none", "local"):
        words = ("prepare", config, "--on-error", "skip", "--look", look, "--address", address)
        code, text = command(*words, "--out", str(tmp_path / address)).finish()
        assert code == 0, text
        told.append(next(line for line in text.splitlines() if "images (" in line))
    assert told[0] == told[1]
    assert "faults: 1 missing, 1 undecodable" in told[1]
    check_same(tmp_path / "none", tmp_path / "local")


@pytest.mark.soak
def test_a_worker_that_is_lost_is_replaced(tmp_path: Path) -> None:
    root = spoiled(tmp_path / "set")
    report = prepare(Coco(str(root), **FIELDS), tmp_path / "near", "skip")
    mark = tmp_path / "died"
    words = [sys.executable, "-m", "tests.ray.looking", str(root), str(tmp_path / "far"), str(mark)]
    done = subprocess.run(words, cwd=HOME, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    assert mark.is_file()
    assert str(report) in done.stdout
    check_same(tmp_path / "near", tmp_path / "far")
