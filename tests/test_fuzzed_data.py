"""Data sets whose JSON is damaged at random: each is prepared or refused with a sentence, and nothing else is touched.

One node of one JSON file is changed (or its text is cut), then ``mtal prepare`` is typed, or ``mtal augment``. The seed
of a failure is in its message; MTAL_FUZZ_SEED sets the first one.
"""

import copy
import json
import os
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.cli import main
from tests.data.a9 import write_a9
from tests.data.camvid import write_camvid
from tests.data.cityscapes import write_cityscapes
from tests.data.coco import write_coco
from tests.data.joint import write_joint
from tests.data.label_studio import write_label_studio
from tests.data.nuimages import write_nuimages
from tests.data.nyuv2 import write_folder
from tests.tiny import tiny

SEED = int(os.environ.get("MTAL_FUZZ_SEED", "0"))
OUTSIDE = "untouched.txt"
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, -5, 10**30, 10**400, 2**31, 1e308, float("nan"), float("inf"), 0.5, "", "a", "é\ud800", "\0",
    "../../escaped", "/tmp/mtal-escaped/x", "s3://", "gs://b/x", "link/x.jpg", ".", "..", [], {}, [None], [[]], [5],
    [[1, 2]], [1, 2, 3, 4], [0, 0, -3, -3], [float("nan")] * 4, [10**400] * 4, ["a"] * 4, {"a": 1}, {"size": [1]},
    {"size": [-1, -1], "counts": "1"}, {"size": [24, 32], "counts": [1, 2]}, {"size": [24, 32], "counts": "oooooooo"},
    [[2, 3, 8, 13, 8, 3, 2, 13]], [[1e9, 1e9, -1e9, 5, 7, 8]], [[float(i % 30) for i in range(200_000)]],
)  # fmt: skip
Json = Any


def nodes(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every node below the top."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in below:
        yield (*path, key)
        yield from nodes(one, (*path, key))


def at(value: Json, path: tuple[Any, ...]) -> Json:
    for key in path:
        value = value[key]
    return value


def damaged(draw: random.Random, text: str) -> tuple[bytes, str]:
    """The file with one fault, and what was done."""
    kind = draw.choice(
        ("value",) * 12 + ("drop", "drop", "twice", "twice", "cut", "bytes", "empty", "nested", "digits")
    )
    data = text.encode()
    if kind == "cut":
        return data[: draw.randrange(len(data))], kind
    if kind == "bytes":
        at_ = draw.randrange(len(data))
        return data[:at_] + bytes([draw.choice((0xFF, 0x00, 0x80))]) + data[at_ + 1 :], kind
    if kind in ("empty", "nested", "digits"):
        return {"empty": b"", "nested": b"[" * 100_000, "digits": b'{"images": [' + b"1" * 5000 + b"]}"}[kind], kind
    content = json.loads(text)
    path = draw.choice(list(nodes(content)))
    parent = at(content, path[:-1])
    value = draw.choice(VALUES)
    if kind == "drop":
        del parent[path[-1]]
    elif kind == "twice" and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[path[-1]]))
    else:
        parent[path[-1]] = value
    return json.dumps(content).encode(), f"{kind} {'.'.join(map(str, path))} = {str(value)[:60]}"


class Desk:
    """A folder with the data set, an experiment, and files that nobody may touch."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        write, options = SETS[name]
        root, out = str(folder / "set" / "root"), str(folder / "work" / "out")
        self.command = {
            "combined": ["augment", f"{root}/annotations.json", out],
        }.get(name, ["prepare", str(folder / "mine.yaml"), "--out", out, "--on-error", "skip"])
        (folder / "set").mkdir(parents=True)
        write(folder / "set" / "root")
        (folder / OUTSIDE).write_text("as it was")
        (folder / "set" / "root" / "link").symlink_to(folder)
        tree = tiny(
            folder / "work" / "runs", data={"name": name.split("-")[0], "root": str(folder / "set" / "root"), **options}
        )
        (folder / "mine.yaml").write_text(yaml.safe_dump(tree))
        texts = {path: path.read_text() for path in sorted((folder / "set").rglob("*.json"))}
        self.texts = {path: text for path, text in texts.items() if json.loads(text)}
        self.before = self.files()

    def files(self) -> dict[str, int]:
        """Every file outside of the destination, and its size."""
        found = [path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return {str(p): p.stat().st_size for p in found if not p.is_relative_to(self.folder / "work")}

    def type_command(self) -> int:
        """Type it; the exit code."""
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        with pytest.raises(SystemExit) as end:
            main(self.command)
        return int(end.value.code or 0)


SETS: dict[str, tuple[Callable[[Path], Any], dict[str, Any]]] = {
    "coco-instances": (
        write_coco, {"annotations": "annotations/instances_{split}2017.json", "images": "{split}2017"},
    ),
    "coco-panoptic": (
        write_coco,
        {
            "annotations": "", "images": "{split}2017",
            "panoptic": "annotations/panoptic_{split}2017.json",
        },
    ),
    "nuimages": (write_nuimages, {"channel": ""}),
    "a9": (write_a9, {}),
    "label_studio": (write_label_studio, {"images": "images"}),
    "cityscapes": (write_cityscapes, {"signs": True}),
    "camvid": (write_camvid, {}),
    "nyuv2": (write_folder, {"level": 13}),
    "combined": (write_joint, {}),
}  # fmt: skip


def check_outcome(desk: Desk, code: int, printed: Any, told: str) -> None:
    """One sentence or success, and nothing written outside of the destination."""
    text = printed.out + printed.err
    assert "Traceback" not in text, f"{told}\n{text}"
    assert code in (0, 2), f"{told}\n{text}"
    if code:
        errors = [line for line in printed.err.splitlines() if line and not line.startswith("  ")]
        assert len(errors) == 1, f"{told}\n{text}"
        assert errors[0].startswith("error: "), f"{told}\n{text}"
    after = desk.files()
    assert {k: v for k, v in after.items() if k not in desk.before} == {}, told
    assert not Path("/tmp/mtal-escaped").exists(), told


def fuzz(folder: Path, name: str, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk(folder, name)
    assert desk.type_command() == 0, capsys.readouterr()
    for seed in range(SEED, SEED + count):
        draw = random.Random(f"{name} {seed}")
        path = draw.choice(list(desk.texts))
        data, what = damaged(draw, desk.texts[path])
        path.write_bytes(data)
        desk.before = desk.files()
        told = f"{name}, seed {seed}: {path.name}: {what}"
        capsys.readouterr()
        try:
            code = desk.type_command()
        except BaseException as error:
            raise AssertionError(f"{told}: {type(error).__name__}: {error}") from error
        check_outcome(desk, code, capsys.readouterr(), told)
        path.write_text(desk.texts[path])


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_some_damage_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    fuzz(tmp_path, name, 8, capsys)
    assert re.fullmatch("as it was", (tmp_path / OUTSIDE).read_text())


@pytest.mark.parametrize(
    "count", [pytest.param(40, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.soak)]
)
@pytest.mark.parametrize("name", SETS)
def test_much_damage_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, count: int) -> None:
    """Thousands of faults; ``MTAL_FUZZ_SEED`` sets the first seed."""
    fuzz(tmp_path, name, count, capsys)
    assert (tmp_path / OUTSIDE).read_text() == "as it was"


ESCAPES = ("../../../escaped", "/tmp/mtal-escaped/x", "..", "", "link/escaped", "a\0b")


@pytest.mark.slow
@pytest.mark.parametrize("name", ESCAPES)
def test_no_name_makes_a_file_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A panoptic PNG, and the token of an image, name files that are made."""
    for kind, table, key in (
        ("coco-panoptic", "panoptic_train2017", "file_name"),
        ("nuimages", "sample_data", "token"),
    ):
        desk = Desk(tmp_path / kind, kind)
        path = next(path for path in desk.texts if path.stem == table)
        content = json.loads(desk.texts[path])
        rows = content["annotations"] if isinstance(content, dict) else content
        row = next(one for one in rows if one.get("is_key_frame", True))
        old, row[key] = row[key], name
        path.write_text(json.dumps(content))
        if kind == "nuimages":  # whose annotations follow it
            for other in ("object_ann", "surface_ann"):
                whole = path.with_name(f"{other}.json")
                whole.write_text(whole.read_text().replace(old, json.dumps(name)[1:-1]))
        desk.before = desk.files()
        capsys.readouterr()
        check_outcome(desk, desk.type_command(), capsys.readouterr(), f"{kind}: {name!r}")
