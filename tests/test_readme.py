"""The README is true: its files exist, its house is the house, its code works, and its commands run in their order."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from PIL import Image

from orchestrator import running
from orchestrator.cli import app, main
from orchestrator.config import experiment_of, load, read_yaml
from tests.data.site import write_site
from tests.test_house import statements, tree_of
from tests.typed import typed

HOME = Path(__file__).resolve().parents[1]
TEXT = (HOME / "README.md").read_text(encoding="utf-8")
ROOMS = ("orchestrator", "strategies", "tasks", "configs")
VERBS: dict[str, Any] = vars(typer.main.get_command(app))["commands"]

# What makes the commands of the README small enough for a test; put before their own --set words, which win.
SMALL = (
    "data.size=[64,96]", "train.steps=3", "train.batch=4", "seeds=[0]", "reference.seeds=[0]", "cluster.shard=8",
    "gallery.picks=1", "active.initial=0.4", "model.width=16",
)  # fmt: skip
SHORT = ("train.first_steps=5", "reference.steps=20")  # put behind them: these win
FEW_STREETS = ("data.images=16", "data.validation=4", "data.test=6")


@dataclass(frozen=True)
class Block:
    """A fenced block: what it is, its lines, and the file that its first line names."""

    kind: str
    text: str

    @property
    def file(self) -> str | None:
        found = re.match(r"# (\w+\.(?:py|yaml))\n", self.text)
        return found[1] if found else None


@dataclass
class Command:
    """A line behind a dollar, and what the README shows of its answer."""

    words: list[str]
    answer: list[str] = field(default_factory=list)


BLOCKS = [Block(kind, text) for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)]
PYTHON = {b.file: b.text for b in BLOCKS if b.kind == "python"}
INLINE = re.findall(r"`((?:mtal|make|pytest) [^`]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.M | re.S))


def commands(block: Block) -> list[Command]:
    found: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Command(shlex.split(line[2:])))
        else:
            found[-1].answer.append(line)
    return found


def section(title: str) -> list[Block]:
    part = re.split(r"^## ", TEXT, flags=re.M)
    body = next(p for p in part if p.startswith(f"{title}\n"))
    return [Block(kind, text) for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", body, re.M | re.S)]


# ---- files and links ------------------------------------------------------------------------------------------------


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", TEXT)
    assert len(targets) > 10
    gone = [t for t in targets if not t.startswith(("http", "#")) and not (HOME / t).exists()]
    assert gone == []


def test_every_file_that_is_named_exists() -> None:
    rooms = "|".join((*ROOMS, "tests"))
    named = set(re.findall(rf"`((?:{rooms})/[\w/.]+\.(?:py|yaml|html))`", TEXT))
    assert {name for name in named if "foo" not in name and not (HOME / name).is_file()} == set()


def test_the_picture_is_small_and_whole() -> None:
    path = HOME / "docs" / "demo.png"
    assert path.stat().st_size <= 300_000
    with Image.open(path) as image:
        assert min(image.size) > 600
        image.load()


def test_blocks_are_of_kinds_that_are_checked_here() -> None:
    assert {b.kind for b in BLOCKS} == {"console", "bash", "yaml", "python", "text"}
    assert all(b.text.startswith("$ ") for b in BLOCKS if b.kind == "console")
    assert set(PYTHON) == {"my_strategies.py", "my_models.py"}


# ---- the house ------------------------------------------------------------------------------------------------------


def test_the_tree_is_the_house() -> None:
    """Each module of each room stands in the tree, and nothing else."""
    folder, named = "", []
    for line in section("The house")[0].text.splitlines():
        name, _, words = line.strip().partition("  ")
        assert words.strip(), f"{line!r} says nothing about it"
        if line.startswith(" "):
            named.append(folder + name)
        else:
            folder = name
    kinds = (".py", ".yaml", ".html", ".jinja")
    house = {p.relative_to(HOME).as_posix() for room in ROOMS for p in (HOME / room).rglob("*") if p.suffix in kinds}
    assert len(set(named)) == len(named)
    assert set(named) == house


def test_imports_go_down_the_floors() -> None:
    floors: dict[str, int] = {}
    room = ""
    for height, line in enumerate(section("The house")[1].text.splitlines()):
        names = line.strip().split("  ")[0].split(" ")
        if not line.startswith(" "):
            room = names[0]
            continue
        for name in names:
            floors[f"{room}.{name.removesuffix('/')}"] = height
    modules = {
        f"{room}.{p.stem}" for room in ROOMS[:3] for p in (HOME / room).glob("*.py") if not p.stem.startswith("__")
    }
    assert modules | {"tasks.nets", "tasks.data", "tasks.weighting", "orchestrator.studies"} == set(floors)
    for name, height in floors.items():
        place = HOME / name.replace(".", "/")
        for path in [place.with_suffix(".py")] if place.with_suffix(".py").is_file() else sorted(place.glob("*.py")):
            for used in imported(path) & set(floors):
                same_room = used.split(".")[0] == name.split(".")[0]
                assert not same_room or floors[used] >= height, f"{path}: {used} stands higher"


def imported(path: Path) -> set[str]:
    """``room.module`` of all that a file imports from the rooms."""
    found = set()
    for node in statements(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                found.add(".".join(f"{node.module}.{alias.name}".split(".")[:2]))
    return found


# ---- code and configurations ----------------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the Python files of the README, where commands are typed in this process."""
    for name, text in PYTHON.items():
        (tmp_path / str(name)).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in PYTHON:
        sys.modules.pop(str(name).removesuffix(".py"), None)


def test_least_sure_keeps_the_laws(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["check", "my_strategies:LeastSure"])
    assert end.value.code == 0
    answer = capsys.readouterr().out
    assert re.search(r"(\d+) of \1 checks hold", answer)
    assert "fails" not in answer


def test_experiments_load_and_can_be_built(desk: Path) -> None:
    """Whole experiments are checked with all their parts; arms are added to the demonstration."""
    names = []
    for block in BLOCKS:
        if block.kind != "yaml":
            continue
        tree = yaml.safe_load(block.text)
        if "name" not in tree:  # a part of an experiment
            demo = read_yaml(HOME / "configs" / "demo.yaml")
            tree = {**demo, **{key: {**demo.get(key, {}), **part} for key, part in tree.items()}}
        else:
            assert block.file == f"{tree['name']}.yaml"
        names.append(tree["name"])
        if tree["data"]["name"] == "coco":
            tree["data"]["root"] = str(write_site(desk / "site", train=4, held_out=2))
        running.check(experiment_of(tree, "README.md"))
    assert sorted(names) == ["demo", "demo", "demo", "own", "site", "taught"]


def test_the_data_set_that_stands_for_the_readers_own_has_all_splits(desk: Path) -> None:
    site = yaml.safe_load(next(b.text for b in BLOCKS if b.file == "site.yaml"))
    site["data"]["root"] = str(write_site(desk / "site"))
    experiment = experiment_of(site, "site.yaml")
    _, report = running.prepare_data(experiment, lambda *told: None, folder=desk / "prepared")
    assert min(report.splits[name] for name in ("train", "val", "test")) >= 3
    assert report.counts.total() == 0


# ---- commands -------------------------------------------------------------------------------------------------------


def parse(words: list[str]) -> Any:
    """What the command line makes of words behind ``mtal``; fails for verbs and options that are not there."""
    name, *rest = words
    command = VERBS[name]
    while inner := vars(command).get("commands"):
        name, command = f"{name} {rest[0]}", inner[rest.pop(0)]
    return command.make_context(name, rest)


def test_commands_are_understood() -> None:
    lines = [c.words for b in BLOCKS if b.kind == "console" for c in commands(b)] + [shlex.split(x) for x in INLINE]
    seen = set()
    for words in lines:
        seen.add(words[0])
        if words[0] == "mtal" and len(words) == 2:  # the name of a verb, in a sentence
            assert words[1] in (*VERBS, "--help"), words
        elif words[0] == "mtal":
            parse(words[1:])
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (HOME / "Makefile").read_text(), re.M), words
        elif words[0] == "pytest":
            assert f'"{words[2]}: ' in (HOME / "pyproject.toml").read_text(), words
    assert seen == {"make", ".", "mtal", "cp", "pytest"}


def test_a_job_submits_a_command_that_is_understood() -> None:
    """Not run here: that takes a cluster with the jobs server."""
    starts = {"my_experiment": ["mtal"], ".": ["python", "-m", "orchestrator"]}
    typed = [line for b in BLOCKS if b.kind == "bash" for line in b.text.splitlines()]
    lines = [line for line in typed if line.startswith("ray job")]
    assert len(lines) == len(starts)
    verbs = [parse(shlex.split(line)[1:]).info_name for line in typed if line.startswith("mtal ")]
    shown = {"bench", "run", "report", "score", "submit", "status", "stop", "label push", "label pull", "study heads"}
    assert set(verbs) == shown
    for line, (folder, start) in zip(lines, starts.items(), strict=True):
        submit, _, command = line.partition(" -- ")
        assert submit == f"ray job submit --working-dir {folder}"
        words = shlex.split(command)
        assert words[: len(start)] == start
        context = parse(words[len(start) :])
        assert context.params["address"] == "auto"
        if folder == ".":
            load(context.params["config"], context.params["set_"])


def test_verbs_options_and_addresses_are_told() -> None:
    missing = [verb for verb in VERBS if f"mtal {verb}" not in TEXT]
    assert missing == []
    for word in ("--set", "--fresh", "--address", "--on-error", "--checkpoint", "ray://"):
        assert word in TEXT


class Reader:
    """Types what the README says, in its order, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "configs").symlink_to(HOME / "configs")
        self.made: list[tuple[str, set[str]]] = []  # each run: what was typed, and for which arms networks were made
        write_site(folder / "site")

    def does(self, block: Block) -> None:
        if block.file:
            (self.folder / block.file).write_text(block.text.replace("/data/site", str(self.folder / "site")))
        elif block.kind == "yaml":
            path = self.folder / "mine.yaml"
            tree = yaml.safe_load(path.read_text())
            tree["arms"] |= yaml.safe_load(block.text).get("arms", {})  # parts of other kinds are shown, not run
            path.write_text(yaml.safe_dump(tree, sort_keys=False))
        elif block.kind == "console":
            for command in commands(block):
                self.types(command)

    def types(self, command: Command) -> None:
        first, *words = command.words
        if first == "cp":
            shutil.copyfile(self.folder / words[0], self.folder / words[1])
        elif first == "make":
            dry = subprocess.run(["make", "-n", *words], cwd=HOME, capture_output=True, text=True, check=True)
            assert words[0] != "demo" or "mtal run demo" in dry.stdout
        elif first == "mtal":
            if words[0] == "score":
                self.takes_photos()
            before = self.networks()
            self.answers(self.small(words), command.answer)
            if words[0] == "run":
                after = self.networks()
                assert before.items() <= after.items(), f"{words}: something was made again"
                new = [path.relative_to(self.folder / "runs").parts for path in after if path not in before]
                self.made.append((" ".join(words[:2]), {parts[1] for parts in new}))

    def small(self, words: list[str]) -> list[str]:
        if words[0] not in ("run", "prepare"):
            return words
        config = self.folder / words[1] if words[1].endswith(".yaml") else HOME / "configs" / f"{words[1]}.yaml"
        streets = yaml.safe_load(config.read_text())["data"]["name"] == "streets"
        sets = [w for key in (*SMALL, *(FEW_STREETS if streets else ())) for w in ("--set", key)]
        short = [w for key in SHORT for w in ("--set", key)]
        return [*words[:2], *sets, *words[2:], *short, *(["--address", "none"] if words[0] == "run" else [])]

    def answers(self, words: list[str], expected: list[str]) -> None:
        """Run ``mtal``; it must end well, or with the error that the README shows."""
        code, out, err = typed(words, self.folder)
        assert code == (2 if expected else 0), f"{words}: {out[-800:]}{err[-2000:]}"
        for part in " ".join(expected).split("..."):
            assert part.strip() in err

    def networks(self) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (self.folder / "runs").rglob("model.pt")}

    def takes_photos(self) -> None:
        (self.folder / "photos").mkdir()
        for path in sorted((self.folder / "runs" / "data").glob("streets-*/images/*.png"))[:5]:
            shutil.copyfile(path, self.folder / "photos" / path.name)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_readme_can_be_followed(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    for block in BLOCKS:
        reader.does(block)
    shared = {"reference", "initial"}
    built_in = {"random", "equal", "boxmask"}
    assert reader.made == [
        ("run demo", shared | built_in),
        ("run demo", set()),  # typed again
        ("run demo", set()),  # a changed key: refused
        ("run demo", shared | built_in),  # under another name
        ("run mine.yaml", {"entropy"}),
        ("run site.yaml", shared | {"random", "boxmask"}),
        ("run nuimages", set()),  # a dry run
        ("run mine.yaml", {"sure"}),
        ("run own.yaml", shared | {"random", "equal"}),
    ]
    curves = (tmp_path / "runs" / "demo" / "curves.csv").read_text()
    assert all(arm in curves for arm in (*built_in, "entropy", "sure"))
    assert (tmp_path / "list.parquet").stat().st_size > 0
    for name in re.findall(r"^    ([a-z]+\.(?:yaml|json|parquet|html|csv))", section("The run folder")[0].text, re.M):
        assert (tmp_path / "runs" / "demo" / name).is_file(), name
