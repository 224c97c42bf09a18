"""Failure is normal: whatever is typed or lies there broken, one sentence answers it, with exit code 2.

Each case is typed as a person would type it. A sentence must say where, and what to do; a case lists words of both.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from fcntl import LOCK_EX, flock
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from orchestrator.cli import main
from tests.data.camvid import write_camvid
from tests.tiny import tiny

MARKERS = ("manifest.parquet", "fit.json", "cycle.json", "purchase.json", "reference.json", "report.html")
TEMPORARY = re.compile(r"^\..+\.(\d+\.[0-9a-f]{8}|tmp|spool)$|^\.draft-|\.spool$")
HOME = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow  # whole commands, a hundred and fifty of them

PLUGIN = """
from dataclasses import dataclass
from strategies.base import Pick, Score, Strategy

@dataclass(frozen=True)
class Mine(Strategy):
    {body}
"""
SCORE = "def score(self, seen, rng): return Score(seen.u)"


@dataclass
class Place:
    """A folder that a person works in, and what they can break in it."""

    folder: Path
    finished: Path  # of the shared run, never written to
    capsys: pytest.CaptureFixture[str]
    before: set[Path] = field(default_factory=set)

    def config(self, **changes: Any) -> str:
        """A tiny experiment with some keys replaced; the name of its file."""
        tree = {k: v for k, v in tiny(self.folder / "runs", **changes).items() if v is not None}
        return self.text(yaml.safe_dump(tree, sort_keys=False))

    def text(self, text: str, name: str = "mine.yaml") -> str:
        (self.folder / name).write_text(text)
        return name

    def plugin(self, body: str) -> str:
        """A strategy of one's own, in a module beside the YAML."""
        self.text(PLUGIN.format(body=body), "mine.py")
        return "mine:Mine"

    def camvid(self, change: Callable[[dict[str, Any]], None] | None = None, **options: Any) -> str:
        """An experiment on six images; ``change`` edits their annotations."""
        path = write_camvid(self.folder / "set") / "annotations.json"
        content = json.loads(path.read_text())
        if change is not None:
            change(content)
            path.write_text(json.dumps(content))
        return self.config(data={"name": "camvid", "root": str(self.folder / "set"), "size": [32, 32], **options})

    def run(self, **changes: Any) -> Path:
        """A copy of the finished run, and its experiment with some keys replaced."""
        shutil.copytree(self.finished / "runs", self.folder / "runs")
        self.config(**changes)
        return self.folder / "runs" / "tiny"

    def model(self) -> Path:
        """A checkpoint of the finished run, as one's own copy."""
        copy = self.folder / "model.pt"
        shutil.copy(next((self.finished / "runs" / "tiny" / "initial").rglob("model.pt")), copy)
        return copy

    def photos(self) -> Path:
        folder = self.folder / "photos"
        folder.mkdir()
        for i in range(3):
            noise = np.random.default_rng(i).integers(0, 255, (40, 50, 3), np.uint8)
            Image.fromarray(noise).save(folder / f"{i}.jpg")
        return folder

    def score(self, **words: str) -> list[str]:
        """``mtal score`` on a checkpoint and a folder of photos, with some words replaced."""
        given = {"checkpoint": "model.pt", "data": "photos", "strategy": "random", **words}
        if not (self.folder / "model.pt").exists():
            self.model()
        if not (self.folder / "photos").exists():
            self.photos()
        return ["score", *[text for key, value in given.items() for text in (f"--{key}", value)]]

    def files(self) -> set[Path]:
        return {path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file()}

    def expect(self, arguments: list[str], *words: str, leaves: tuple[str, ...] = ()) -> str:
        """The sentence on stderr, after everything that must hold for every refusal."""
        before = self.files()
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(arguments)
        printed = self.capsys.readouterr()
        assert end.value.code == 2, printed
        details = "".join(line for line in printed.out.splitlines(True) if line.startswith("  "))
        check_sentence(printed.err, details, *words)
        check_nothing_half_done(self.files() - before, leaves)
        return printed.err


RUN = ["run", "--address", "none"]
CHECK = ["check", "mine.yaml"]


def check_sentence(text: str, details: str, *words: str) -> None:
    """One line; it, or the details that were listed before it, holds these words."""
    assert len(text.strip().splitlines()) == 1, text
    assert text.startswith("error: "), text
    assert "Traceback" not in text
    for word in words:
        assert word in text + details, f"{word!r} is not in: {text}{details}"
    assert "; " in text or ": " in text.removeprefix("error: ")


def check_nothing_half_done(new: set[Path], leaves: tuple[str, ...]) -> None:
    """No temporary file and no mark of a finished step among the files that a refused command made."""
    assert not [path for path in new if TEMPORARY.search(path.name)]
    assert not [path for path in new if path.name in MARKERS and path.name not in leaves], new


@pytest.fixture
def place(
    tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Place(tmp_path, tiny_run, capsys)
    for name in [n for n, m in sys.modules.items() if str(getattr(m, "__file__", "")).startswith(str(tmp_path))]:
        del sys.modules[name]


def cases(table: dict[str, Any]) -> Any:
    """A test for each row; the key is its name."""
    return pytest.mark.parametrize("case", table.values(), ids=table.keys())


# ---- configurations --------------------------------------------------------------------------------------------------

ACTIVE = {"initial": 0.4, "budget": {"amount": 2}, "cycles": 1}
CONFIGS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "unknown key": ({"trian": {"steps": 3}}, ("mine.yaml: trian", "did you mean 'train'")),
    "unknown key inside": ({"train": {"step": 3}}, ("train.step", "did you mean 'steps'")),
    "wrong type": ({"train": {"steps": "many"}}, ("train.steps", "'many'", "integer", "correct")),
    "missing key": ({"train": {"batch": 4}}, ("train.steps", "missing", "add it")),
    "missing section": ({"model": None}, ("model", "missing", "add it")),
    "steps of zero": ({"train": {"steps": 0}}, ("train", "steps is 0", "more than 0")),
    "infinite rate": ({"train": {"steps": 3, "rate": float("inf")}}, ("rate is inf", "expected more than 0")),
    "negative decay": ({"train": {"steps": 3, "weight_decay": -1.0}}, ("weight_decay is -1.0", "expected 0 or more")),
    "clip of zero": ({"train": {"steps": 3, "clip": 0.0}}, ("clip is 0.0", "null for none")),
    "negative budget": ({"active": {**ACTIVE, "budget": {"amount": -2}}}, ("amount is -2", "expected 0 or more")),
    "negative GPUs": ({"cluster": {"gpus_per_worker": -1.0}}, ("gpus_per_worker is -1", "expected 0 or more")),
    "a seed twice": ({"seeds": [1, 1]}, ("seeds is [1, 1]", "each once")),
    "no arms": ({"arms": {}}, ("arms is empty", "at least one")),
    "an arm that is a number": ({"arms": {"a": 3}}, ("arms.a", "found 3", "correct")),
    "an arm named as a path": ({"arms": {"../a": {}}}, ("'../a' cannot name an arm", "choose")),
    "an arm that changes the data": ({"arms": {"a": {"data.images": 4}}}, ("arms.a.data.images", "another experiment")),
    "a run named as the data": ({"name": "data"}, ("name is 'data'", "expected a word")),
    "a run named as a path": ({"name": ".."}, ("name is '..'", "expected a word")),
    "unknown strategy": ({"arms": {"a": {"strategy": "boxmsk"}}}, ("arms.a.strategy", "did you mean 'boxmask'")),
    "unknown model": ({"model": "smal"}, ("model", "no model is called 'smal'", "did you mean 'small'")),
    "unknown adapter": ({"data": "street"}, ("data", "no data set", "did you mean 'streets'")),
    "unknown task": ({"tasks": {"detektion": {}}}, ("tasks.detektion", "did you mean 'detection'")),
    "unknown weighting": ({"weighting": "equl"}, ("weighting", "did you mean 'equal'")),
    "unknown option of a strategy": (
        {"arms": {"a": {"strategy": {"name": "boxmask", "tow": 0.3}}}},
        ("arms.a.strategy.tow", "no such key in BoxMask", "tau"),
    ),
    "option of the wrong type": (
        {"arms": {"a": {"strategy": {"name": "boxmask", "tau": "high"}}}},
        ("arms.a.strategy.tau", "'high'", "expected a valid number", "correct"),
    ),
    "option out of range": (
        {"arms": {"a": {"strategy": {"name": "equal", "form": "kulback"}}}},
        ("arms.a.strategy", "kulback", "expected"),
    ),
    "unknown option of a model": ({"model": {"name": "small", "widht": 16}}, ("model.widht", "did you mean 'width'")),
    "size beside the stride": (
        {"data": {"name": "streets", "images": 8, "size": [60, 96]}},
        ("data", "60", "multiples of 32"),
    ),
    "a strategy reads what the model lacks": (
        {"tasks": {"detection": {}}, "arms": {"a": {"strategy": "boxmask"}}},
        ("arms.a reads 'segmentation'", "choose another strategy or model"),
    ),
}


@cases(CONFIGS)
def test_a_configuration_is_refused(place: Place, case: tuple[dict[str, Any], tuple[str, ...]]) -> None:
    changes, words = case
    place.config(**changes)
    place.expect(CHECK, *words)


TEXTS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "not YAML": (b"name: x\ntrain: {steps: 3\nseeds: [0]\n", ("mine.yaml: line 3", "is not YAML", "correct the line")),
    "a control character": (b"name: \x07\n", ("mine.yaml", "is not YAML", "correct")),
    "binary": (b"\xff\xfe\x00\x81", ("mine.yaml", "not a text file", "give another")),
    "empty": (b"", ("mine.yaml", "found nothing", "expected a mapping", "correct the file")),
    "a list": (b"- 1\n", ("mine.yaml", "found list", "expected a mapping")),
}


@cases(TEXTS)
def test_a_file_that_is_no_experiment_is_refused(place: Place, case: tuple[bytes, tuple[str, ...]]) -> None:
    content, words = case
    (place.folder / "mine.yaml").write_bytes(content)
    place.expect(CHECK, *words)


WORDS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "a missing file": (["check", "other.yaml"], ("other.yaml", "no such file", "give the path", "demo")),
    "a folder": (["run", "."], (".:", "no such file", "give the path")),
    "--set without =": ([*CHECK, "--set", "train.steps"], ("--set train.steps", "no '='", "train.steps=100")),
    "--set of no YAML": ([*CHECK, "--set", "train.steps=["], ("--set train.steps=[", "quote it")),
    "--set of an unknown key": ([*CHECK, "--set", "train.stps=4"], ("train.stps", "did you mean 'steps'")),
    "--set inside of a number": ([*CHECK, "--set", "data.images.few=4"], ("--set data.images.few=4", "as a whole")),
    "an unknown address": (["run", "mine.yaml", "--address", "locl"], ("--address locl", "choose one")),
    "a strategy of no name": (["check", ""], ("has no name", "add it")),
    "an unknown strategy": (["check", "boxmsk"], ("boxmsk", "did you mean 'boxmask'")),
    "a report of no run": (["report", "photos"], ("photos", "expected the folder of a run", "run its experiment")),
}


@cases(WORDS)
def test_a_command_is_refused(place: Place, case: tuple[list[str], tuple[str, ...]]) -> None:
    arguments, words = case
    place.config()
    place.photos()
    place.expect(arguments, *words)


@pytest.mark.parametrize(
    "arguments", [["run"], ["run", "demo", "--sett", "a=1"], ["rnu"], ["prepare", "demo", "--on-error", "x"]]
)
def test_usage_errors_end_with_2_too(place: Place, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "Usage" in place.capsys.readouterr().err


# ---- data sets -------------------------------------------------------------------------------------------------------


def edit(what: str, index: int, **values: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one entry of the annotations."""
    return lambda content: content[what][index].update(values)


ANNOTATIONS: dict[str, tuple[Callable[[dict[str, Any]], None], tuple[str, ...]]] = {
    "a box without area": (edit("annotations", 0, bbox=[2, 3, 0, 5]), ("1 box", "no area", "correct or delete")),
    "a box outside": (edit("annotations", 0, bbox=[30, 3, 20, 5]), ("1 box", "leaves the image", "correct it")),
    "a box of words": (edit("annotations", 0, bbox=["a", 3, 2, 5]), ("1 box", "not finite", "correct or delete")),
    "an unknown class": (edit("annotations", 0, category_id=99), ("1 class", "does not hold", "correct the label")),
    "an id twice": (
        edit("images", 1, file_name="images/test/0001TP_000000.jpg"),
        ("faults", "duplicate", "problems.csv"),
    ),
    "a missing image": (edit("images", 1, file_name="images/train/no.jpg"), ("1 missing", "no such file", "restore")),
    "another size": (edit("images", 1, height=20), ("size", "24 x 32", "20 x 32", "correct")),
    "an unknown split": (edit("images", 1, split="trian"), ("1 split", "trian", "expected one of train, val, test")),
    "an entry without its key": (lambda c: c["images"][2].pop("width"), ("images[2]", "expected 'width'", "add it")),
    "a label of no image": (edit("annotations", 0, image_id=77), ("annotations[0]", "image 77", "expected")),
    "no image": (lambda c: c.update(images=[], annotations=[]), ("lists no image", "check its paths")),
    "no image to measure on": (
        lambda c: [image.update(split="train") for image in c["images"]],
        ("'val'", "expected at least one", "change the splits"),
    ),
}


@cases(ANNOTATIONS)
def test_annotations_are_refused(place: Place, case: tuple[Callable[[dict[str, Any]], None], tuple[str, ...]]) -> None:
    change, words = case
    place.camvid(change)
    leaves = ("manifest.parquet",) if "'val'" in words else ()  # whole data, of which a run cannot be made
    place.expect([*RUN, "mine.yaml"], "data", *words, leaves=leaves)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:150])


def small_mask(path: Path) -> None:
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(path)


def unknown_value(path: Path) -> None:
    Image.fromarray(np.full((24, 32), 200, np.uint8)).save(path)


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


FILES: dict[str, tuple[str, Callable[[Path], None], tuple[str, ...]]] = {
    "a truncated image": ("images/train/0001TP_000000.jpg", cut, ("1 undecodable", "150 bytes", "problems.csv")),
    "a mask of another size": ("semantic/train/0001TP_000000.png", small_mask, ("1 semantic", "5 x 5", "correct")),
    "a mask with an unknown value": (
        "semantic/train/0001TP_000000.png",
        unknown_value,
        ("[200]", "which no class has"),
    ),
    "annotations that are no JSON": ("annotations.json", cut, ("annotations.json", "is not JSON", "export")),
    "no data": (".", remove, ("/set", "no such folder", "set data.root")),
    "no class list": ("classes.json", remove, ("classes.json", "no such file", "restore")),
}


@cases(FILES)
def test_files_of_a_data_set_are_refused(
    place: Place, case: tuple[str, Callable[[Path], None], tuple[str, ...]]
) -> None:
    name, spoil, words = case
    config = place.camvid()
    spoil(place.folder / "set" / name)
    place.expect(["prepare", config, "--out", "prepared"], "data", *words)


def test_details_of_bad_data_are_listed_before_the_sentence(place: Place) -> None:
    config = place.camvid(edit("annotations", 0, bbox=[2, 3, 0, 5]))
    cut(place.folder / "set/images/train/0001TP_000000.jpg")
    with pytest.raises(SystemExit):
        main(["prepare", config, "--out", "prepared"])
    assert "0001TP_000000" in place.capsys.readouterr().out
    assert "undecodable" in (place.folder / "prepared" / "problems.csv").read_text()
    with pytest.raises(SystemExit) as end:
        main(["prepare", config, "--out", "prepared", "--on-error", "skip"])
    assert end.value.code == 0
    assert "5 of 6 images" in place.capsys.readouterr().out


def test_a_size_that_the_network_cannot_take(place: Place) -> None:
    place.camvid(size=[30, 32])
    place.expect(CHECK, "data.size", "[30, 32]", "multiples of 4", "choose")


# ---- checkpoints and pools -------------------------------------------------------------------------------------------


def weights(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A change of what a checkpoint holds."""

    def spoil(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        answer = change(content)
        torch.save(content if answer is None else answer, path)

    return spoil


def poison(content: dict[str, Any]) -> None:
    name = next(name for name, value in content["model"].items() if value.is_floating_point())
    content["model"][name] = torch.full_like(content["model"][name], float("nan"))


def other_card(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update(card=content["card"].replace(old, new))


CHECKPOINTS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "is missing": (remove, ("no such checkpoint", "restore it")),
    "is a text": (lambda path: path.write_text("weights\n" * 9), ("not a readable checkpoint", "restore it")),
    "is empty": (lambda path: path.write_bytes(b""), ("not a readable checkpoint", "restore it")),
    "is cut": (cut, ("not a readable checkpoint", "restore it")),
    "holds NaN": (weights(poison), ("holds NaN", "use another checkpoint")),
    "has no card": (weights(lambda c: {"model": c["model"]}), ("no card", "'card'", "give another")),
    "has a card of noise": (weights(lambda c: {**c, "card": "{"}), ("no card", "give another")),
    "has no weights": (weights(lambda c: {**c, "model": 3}), ("holds no weights", "give another")),
    "is a tensor": (
        weights(lambda c: c["model"]["pyramid.x"] if 0 else torch.zeros(3)),
        ("holds a Tensor", "expected"),
    ),
    "is of another model": (weights(other_card('"width": 16', '"width": 32')), ("does not fit", "the same model")),
    "is of an unknown model": (weights(other_card('"small"', '"smal"')), ("model.pt", "did you mean 'small'")),
}


@cases(CHECKPOINTS)
def test_a_checkpoint_is_refused(place: Place, case: tuple[Callable[[Path], Any], tuple[str, ...]]) -> None:
    spoil, words = case
    spoil(place.model()) if case is not CHECKPOINTS["is missing"] else None
    place.photos()
    path = "absent.pt" if case is CHECKPOINTS["is missing"] else "model.pt"
    place.expect(["score", "--checkpoint", path, "--data", "photos"], path, *words)


POOLS: dict[str, tuple[Callable[[Place], list[str]], tuple[str, ...]]] = {
    "is absent": (lambda p: p.score(data="fotos"), ("fotos", "no such folder", "expected")),
    "has no images": (
        lambda p: (p.folder / "empty").mkdir() or p.score(data="empty"),
        ("empty", "holds no image", "give"),
    ),
    "has a text as an image": (
        lambda p: (p.photos() / "4.png").write_text("x") and p.score(),
        ("photos/4.png", "not a readable image", "repair or remove"),
    ),
    "has a cut image": (
        lambda p: _with(p.photos() / "1.jpg", _halve) or p.score(strategy="equal"),
        ("1.jpg", "cannot be decoded", "copy"),
    ),
    "has no such split": (lambda p: p.score(split="trian"), ("--split trian", "train, val, test", "choose one")),
    "has nothing in the split": (
        lambda p: p.score(split="val"),
        ("--split val", "photos has no splits", "leave it out"),
    ),
    "has a damaged manifest": (
        lambda p: (p.photos() / "manifest.parquet").write_text("x") and p.score(),
        ("manifest.parquet", "no parquet file", "run prepare again"),
    ),
    "has other classes": (lambda p: p.score(data=_prepared(p)), ("prepared", "other classes", "prepare this data set")),
    "meets an unknown strategy": (lambda p: p.score(strategy="boxmsk"), ("--strategy", "did you mean 'boxmask'")),
    "meets an unknown option": (
        lambda p: p.score(strategy="{name: equal, tau: 1}"),
        ("--strategy", "tau", "no such key"),
    ),
    "meets a strategy that is no YAML": (lambda p: p.score(strategy="{name: x"), ("--strategy {name: x", "quote it")),
    "meets a strategy that reads more": (
        lambda p: p.score(strategy=p.plugin("reads = ('predicted_loss',)\n    " + SCORE)),
        ("'Mine'", "reads 'predicted_loss'", "add model.loss_prediction"),
    ),
    "has a folder for its list": (lambda p: p.score(out="photos"), ("--out photos", "is a folder", "add one")),
    "has a file for its folder": (lambda p: p.score(out="model.pt/list.parquet"), ("model.pt", "directory", "mend")),
}


def _with(path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(path)


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])


def _prepared(place: Place) -> str:
    with pytest.raises(SystemExit) as end:
        main(["prepare", place.camvid(), "--out", "prepared"])
    assert end.value.code == 0
    return "prepared"


@cases(POOLS)
def test_a_pool_is_refused(place: Place, case: tuple[Callable[[Place], list[str]], tuple[str, ...]]) -> None:
    spoil, words = case
    place.expect(spoil(place), *words, leaves=("manifest.parquet",) if "cannot be decoded" in words else ())
    assert not (place.folder / "scores.parquet").exists()


# ---- plugins ---------------------------------------------------------------------------------------------------------

STRATEGIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "raises in score": (
        "def score(self, seen, rng): return Score(1 / 0)",
        ("ZeroDivisionError", ".py, line 7"),
    ),
    "answers NaN": (
        "def score(self, seen, rng): return Score(float('nan'))",
        ("nan", "expected a finite"),
    ),
    "answers a number": (
        "def score(self, seen, rng): return 0.5",
        ("a float", "expected a Score", "make it one"),
    ),
    "answers too few": (
        "def score_batch(self, seen, rngs): return []",
        ("0 scores", "expected one an image"),
    ),
    "has no score": ("reads = ()", ("defines neither score nor score_batch", "needs one of them")),
    "reads what it does not declare": (
        "def score(self, seen, rng): return Score(float(len(seen.plain['detection'].boxes)))",
        ("'detection'", ".py, line 7", "'mtal check' tells more"),
    ),
    "raises in select": (
        SCORE + "\n    def select(self, c, rng): raise KeyError('where')",
        ("KeyError", ".py, line 8"),
    ),
    "picks too many": (
        SCORE + "\n    def select(self, c, rng): return [Pick(i, c.tasks) for i in c.top_k(5)]",
        ("5 images", "pays for 2", "mend its select"),
    ),
    "picks twice": (
        SCORE + "\n    def select(self, c, rng): return [Pick(i, c.tasks) for i in c.top_k(1) * 2]",
        ("twice", "mend its select"),
    ),
    "picks what is not there": (
        SCORE + "\n    def select(self, c, rng): return [Pick('moon', c.tasks)]",
        ("'moon'", "mend its select"),
    ),
    "raises in explain": (
        SCORE + "\n    def explain(self, seen): return {}['why']",
        ("KeyError", ".py, line 8"),
    ),
}


@pytest.fixture(scope="module")
def failures(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is printed for each of these strategies, all of them arms of one command on the finished run."""
    home = tmp_path_factory.mktemp("strategies")
    shutil.copytree(tiny_run / "runs", home / "runs")
    arms: dict[str, Any] = {"random": {"strategy": "random"}}
    for i, (body, _) in enumerate(STRATEGIES.values()):
        (home / f"mine_{i}.py").write_text(PLUGIN.format(body=body))
        arms[f"arm_{i}"] = {"strategy": f"mine_{i}:Mine"}
    (home / "mine.yaml").write_text(yaml.safe_dump(tiny(home / "runs", arms=arms), sort_keys=False))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()), redirect_stderr(StringIO()) as told:
        patch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as end:
            main([*RUN, str(home / "mine.yaml")])
    assert end.value.code == 2
    assert not list(home.glob("runs/tiny/arm_*/seed_0/cycle_0/purchase.json"))
    assert all(arm in (home / "runs/tiny/report.html").read_text() for arm in arms)
    assert not [path for path in home.rglob("*") if TEMPORARY.search(path.name)]
    lines = told.getvalue().splitlines(keepends=True)
    return dict(zip(STRATEGIES, lines, strict=True))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_that_fails_ends_its_arm_alone(failures: dict[str, str], name: str) -> None:
    number = list(STRATEGIES).index(name)
    check_sentence(failures[name], "", f"error: arm_{number}, seed 0: ", f"mine_{number}:Mine", *STRATEGIES[name][1])


CLASSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "raises at import": ("1 / 0\n", ("'mine'", "ZeroDivisionError", "mend that module")),
    "is no Python": ("def broken(:\n", ("'mine'", "SyntaxError", "mend that module")),
    "needs what is not installed": ("import torchh\n", ("'torchh'", "not installed", "install it")),
    "has no such class": ("class Nine: pass\n", ("no 'Mine'", "did you mean 'Nine'")),
    "is a number": ("Mine = 3\n", ("'mine:Mine'", "is of type int", "expected a class")),
    "is no strategy": ("class Mine: pass\n", ("'mine:Mine'", "lacks reads", "derive it from")),
    "raises when made": (
        "class Mine:\n    def __init__(self): raise KeyError('x')\n",
        ("'mine:Mine'", "KeyError", "mend it"),
    ),
    "has options that no YAML holds": (
        "import dataclasses, threading\n@dataclasses.dataclass\nclass Mine:\n    lock: threading.Lock\n",
        ("Mine", "no YAML can fill", "change their annotations"),
    ),
    "reads the absent": (
        "from strategies.base import Strategy\nclass Mine(Strategy):\n    reads = ('predicted_loss',)\n",
        ("arms.a reads 'predicted_loss'", "add model.loss_prediction"),
    ),
}


@cases(CLASSES)
def test_a_plugin_is_refused(place: Place, case: tuple[str, tuple[str, ...]]) -> None:
    text, words = case
    place.text(text, "mine.py")
    place.config(arms={"a": {"strategy": "mine:Mine"}})
    place.expect(CHECK, "arms.a", *words)


OWN: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "a model without predict": (
        "model",
        "class Net:\n    def __init__(self, classes, tasks): self.provides = frozenset(tasks)\n",
        ("mine:Own", "predict", "needs all three"),
    ),
    "a model that takes no classes": ("model", "class Net: pass\n", ("mine:Own", "TypeError", "mend it")),
    "a model without the head": (
        "model",
        "class Net:\n    def __init__(self, c, t): self.provides = frozenset()\n"
        "    def forward(self, batch): ...\n    def predict(self, images, heads=None, inputs=None): ...\n",
        ("mine:Own", "no head", "choose another model"),
    ),
    "an adapter without records": ("data", "class Net:\n    size = None\n", ("mine:Own", "lacks classes", "add them")),
    "a weighting without total": ("weighting", "class Net: pass\n", ("mine:Own", "lacks total", "add them")),
}


@cases(OWN)
def test_a_component_of_ones_own_is_refused(place: Place, case: tuple[str, str, tuple[str, ...]]) -> None:
    kind, text, words = case
    place.text(text.replace("class Net", "class Own"), "mine.py")
    place.config(**{kind: "mine:Own"})
    place.expect(CHECK, kind, *words)


def test_a_strategy_that_breaks_the_laws_is_told_which(place: Place) -> None:
    place.plugin("def score(self, seen, rng):\n        import random\n        return Score(random.random())")
    place.expect(["check", "mine:Mine"], "mine:Mine", "checks fail", "mend the strategy")


# ---- run folders -----------------------------------------------------------------------------------------------------


def damage(pattern: str, content: bytes = b"{") -> Callable[[Path], None]:
    """Overwrite the first file of this pattern."""

    def spoil(run: Path) -> None:
        sorted(run.glob(pattern))[0].write_bytes(content)

    return spoil


CYCLE = "random/seed_0/cycle_1"
ONE = {"random": {"strategy": "random"}}
MORE = {"active": {**ACTIVE, "cycles": 3}, "arms": ONE}  # one cycle more than the finished run has
RUNS: dict[str, tuple[Callable[[Path], Any], dict[str, Any], tuple[str, ...]]] = {
    "made from another configuration": (
        lambda run: None,
        {"train": {"steps": 4, "first_steps": 5, "batch": 4, "checkpoint_steps": 2}},
        ("tiny", "train.steps: 3 -> 4", "--fresh", "undo the change"),
    ),
    "made from other options of an arm": (
        lambda run: None,
        {"arms": {"random": {"strategy": "equal"}}},
        ("random", 'strategy.name: "random" -> "equal"', "--fresh random"),
    ),
    "a damaged cycle.json": (damage(f"{CYCLE}/cycle.json"), {}, (f"{CYCLE}/cycle.json", "delete this file")),
    "a cycle.json of nothing": (
        damage("random/seed_0/cycle_0/cycle.json", b"{}"),
        {},
        ("cycle.json", "delete this file"),
    ),
    "a damaged reference.json": (damage("reference.json"), {}, ("reference.json", "not readable", "delete this file")),
    "a damaged purchase": (damage(f"{CYCLE}/bought.parquet"), MORE, ("bought.parquet", "delete this file")),
    "a damaged checkpoint": (damage("random/seed_0/cycle_2/model.pt"), MORE, ("cycle_2/model.pt", "not a readable")),
    "a checkpoint that is gone": (
        lambda run: remove(run / "random/seed_0/cycle_2/model.pt"),
        MORE,
        ("cycle_2/model.pt", "no such checkpoint"),
    ),
    "a damaged training checkpoint": (
        lambda run: (
            (run / "random/seed_0/cycle_3").mkdir(),
            (run / "random/seed_0/cycle_3/training.pt").write_text("half"),
        ),
        MORE,
        ("cycle_3/training.pt", "not a readable", "delete this file"),
    ),
    "damaged data": (damage("../data/*/manifest.parquet"), {}, ("data", "manifest.parquet", "prepare again")),
    "an image that is gone": (
        lambda run: [remove(path) for path in run.glob("../data/*/images/train-*")],
        MORE,
        ("data", "no such file", "restore"),
    ),
    "an image that broke": (
        lambda run: [_halve(path) for path in run.glob("../data/*/images/train-*")],
        MORE,
        ("data", "cannot be decoded", "copy it again"),
    ),
    "a damaged shard": (
        lambda run: (damage(f"{CYCLE}/scores/*.parquet")(run), remove(run / CYCLE / "purchase.json")),
        {"arms": ONE},
        ("shard_00000.parquet", "delete this file"),
    ),
}


@cases(RUNS)
def test_a_run_folder_is_refused(
    place: Place, case: tuple[Callable[[Path], Any], dict[str, Any], tuple[str, ...]]
) -> None:
    spoil, changes, words = case
    run = place.run(**changes)
    spoil(run)
    bought = ("purchase.json",) if "training.pt" in words[0] else ()  # of the cycle before the fit that fails
    place.expect([*RUN, "mine.yaml"], *words, leaves=bought)


ADVICE = {
    "cycle.json": f"{CYCLE}/cycle.json",
    "bought.parquet": f"{CYCLE}/bought.parquet",
    "a shard": f"{CYCLE}/scores/shard_00000.parquet",
    "reference.json": "reference.json",
}


@cases(ADVICE)
def test_the_advice_helps(place: Place, case: str) -> None:
    """Delete the damaged file and type the same command again: the same run is there again."""
    run = place.run(**(MORE if "bought" in case else {"arms": ONE}))
    bought = (run / CYCLE / "bought.parquet").read_bytes()
    for path in (run / case, run / CYCLE / "purchase.json") if "scores" in case else (run / case,):
        path.unlink()
    with pytest.raises(SystemExit) as end:
        main([*RUN, "mine.yaml"])
    assert end.value.code == 0, place.capsys.readouterr()
    assert (run / case).is_file()
    assert (run / CYCLE / "bought.parquet").read_bytes() == bought


@pytest.mark.parametrize("shard", [3, 50])
def test_shards_of_another_size_are_not_mixed_in(place: Place, shard: int) -> None:
    """A command that was stopped between scoring and buying goes on with other shards, and buys the same."""
    run = place.run(arms=ONE, cluster={"shard": shard, "score_batch": 4})
    bought = (run / CYCLE / "bought.parquet").read_bytes()
    remove(run / CYCLE / "purchase.json")
    with pytest.raises(SystemExit) as end:
        main([*RUN, "mine.yaml"])
    assert end.value.code == 0
    shards = [run / CYCLE / "scores" / f"shard_{i:05d}.parquet" for i in range(-(-16 // shard))]
    ids = [id for path in shards for id in pq.read_table(path)["id"].to_pylist()]
    assert len(ids) == len(set(ids)) == 8
    assert (run / CYCLE / "bought.parquet").read_bytes() == bought


def test_an_unknown_arm_to_make_afresh(place: Place) -> None:
    run = place.run()
    place.expect([*RUN, "mine.yaml", "--fresh", "random", "--fresh", "nobody"], "--fresh nobody", "choose one")
    assert (run / "random").is_dir()


def test_a_run_that_another_command_writes_to(place: Place) -> None:
    run = place.run()
    with (run / ".lock").open("a+") as held:
        flock(held, LOCK_EX)
        place.expect([*RUN, "mine.yaml"], "runs/tiny", "another command is writing", "wait for it")


def test_an_output_that_is_a_file(place: Place) -> None:
    place.config()
    (place.folder / "runs").write_text("here I am")
    place.expect([*RUN, "mine.yaml"], "runs", "directory", "mend that")
    assert (place.folder / "runs").read_text() == "here I am"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_that_may_not_be_written(place: Place) -> None:
    place.config()
    (place.folder / "runs").mkdir(mode=0o500)
    place.expect([*RUN, "mine.yaml"], "runs", "Permission denied", "mend that")


REPORTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cycles.parquet": ("cycles.parquet", ("cycles.parquet", "not readable as parquet", "delete this file")),
    "reference.json": ("reference.json", ("reference.json", "not readable as JSON", "delete this file")),
    "experiment.yaml": ("experiment.yaml", ("experiment.yaml", "not readable as YAML", "delete it")),
}


@cases(REPORTS)
def test_a_report_is_refused(place: Place, case: tuple[str, tuple[str, ...]]) -> None:
    name, words = case
    run = place.run()
    before = (run / "report.html").read_bytes()
    (run / name).write_bytes(b"{")
    place.expect(["report", str(run)], *words)
    assert (run / "report.html").read_bytes() == before


# ---- disks -----------------------------------------------------------------------------------------------------------


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The system refuses to let a file of this process grow beyond ``size`` bytes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [2_000, 60_000])
def test_a_disk_that_refuses_to_write_and_then_has_room(place: Place, size: int) -> None:
    """A table, a picture or a checkpoint cannot be written; after that the same command carries on."""
    run = place.run(**MORE)
    with no_file_above(size):
        place.expect([*RUN, "mine.yaml"], "could not be written", "make room", "type the same command again")
    assert not (run / "random/seed_0/cycle_3/cycle.json").exists()
    with pytest.raises(SystemExit) as end:
        main([*RUN, "mine.yaml"])
    assert end.value.code == 0
    assert (run / "random/seed_0/cycle_3/cycle.json").is_file()


def test_a_disk_that_is_full_while_data_are_prepared(place: Place) -> None:
    config = place.camvid()
    with no_file_above(300):
        place.expect(["prepare", config, "--out", "prepared"], "mend that or make room", "the same command")


def test_a_disk_that_is_full(place: Place) -> None:
    full = place.folder / "runs"
    full.mkdir()
    size = ["-o", "size=64k"]
    if subprocess.run(["mount", "-t", "tmpfs", *size, "tmpfs", str(full)], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        place.config()
        place.expect([*RUN, "mine.yaml"], "No space left on device", "make room")
    finally:
        subprocess.run(["umount", "--lazy", str(full)], check=True)


# ---- as a process ----------------------------------------------------------------------------------------------------

PROCESSES: dict[str, tuple[list[str], str]] = {
    "a configuration": (["check", "mine.yaml"], "did you mean 'steps'"),
    "a checkpoint": (["score", "--checkpoint", "model.pt", "--data", "photos"], "not a readable checkpoint"),
}


@cases(PROCESSES)
def test_a_process_ends_with_2_and_one_line(place: Place, case: tuple[list[str], str]) -> None:
    arguments, words = case
    place.config(train={"step": 3})
    place.photos()
    (place.folder / "model.pt").write_text("no weights")
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        capture_output=True, text=True, cwd=place.folder, env={**os.environ, "PYTHONPATH": str(HOME)},
    )  # fmt: skip
    assert done.returncode == 2, done
    check_sentence(done.stderr, "", words)
