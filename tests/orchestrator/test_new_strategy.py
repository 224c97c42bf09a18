"""A generated package: whole or not at all, under a name that can be, and it passes its own tests."""

import ast
import errno
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator import __version__
from orchestrator.cli import main
from orchestrator.components import Offer
from orchestrator.errors import ConfigError
from orchestrator.new_strategy import FORM, LONGEST, TAKEN, TEMPLATES, Names, names_of, new_strategy
from strategies import STRATEGIES
from strategies.base import Strategy
from strategies.conformance import assert_conforms
from tests.test_wheel import environment, run

HOME = Path(__file__).resolve().parents[2]
LONG = "longest-" * 4 + "possible"


def shape(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("least-sure", Names("least-sure", "least-sure", "least_sure", "LeastSure")),
        ("least_sure", Names("least_sure", "least-sure", "least_sure", "LeastSure")),
        ("a-b_c2", Names("a-b_c2", "a-b-c2", "a_b_c2", "ABC2")),
        ("x", Names("x", "x", "x", "X")),
    ],
)
def test_the_forms_of_a_name(name: str, forms: Names) -> None:
    assert names_of(name) == forms


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LeastSure", "a letter first, .*; type mtal new-strategy least-sure$"),
        ("Least_Sure", "type mtal new-strategy least-sure$"),
        ("least sure", "type mtal new-strategy least-sure$"),
        ("../least", "type mtal new-strategy least$"),
        ("/etc", "type mtal new-strategy etc$"),
        ("2nd", "type mtal new-strategy nd$"),
        ("-x", "type mtal new-strategy x$"),
        ("a--b", "type mtal new-strategy a-b$"),
        ("a.b", "type mtal new-strategy a-b$"),
        ("a\n", "type mtal new-strategy a$"),
        ("", "type mtal new-strategy my-strategy$"),
        ("größe", "type mtal new-strategy gr-e$"),
        ("x" * (LONGEST + 1), "at most 40 small letters"),
        ("class", "is a word of Python or of YAML"),
        ("none", "is a word of Python or of YAML"),
        ("yes", "is a word of Python or of YAML"),
        ("score", "makes a class Score, which is one of mtal's"),
        ("equal", "is a strategy of mtal"),
        ("numpy", "there is a module of this name"),
        ("json", "there is a module of this name"),
        ("sys", "there is a module of this name"),
        ("orchestrator", "there is a module of this name"),
        ("tests", "there is a module of this name"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        new_strategy(name, tmp_path)
    assert str(error.value).startswith(f"NAME {name!r}: ")
    assert list(tmp_path.iterdir()) == []


def test_every_name_of_ours_is_taken() -> None:
    for name in STRATEGIES:
        with pytest.raises(ConfigError):
            names_of(name)


def test_the_name_of_an_installed_plugin_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    offers = [Offer("least-sure", "a:B", "pack-a", "1.0")]
    monkeypatch.setattr("orchestrator.new_strategy.plugin_strategies", lambda: offers)
    with pytest.raises(ConfigError, match="'least-sure': is a strategy of pack-a"):
        names_of("least-sure")
    assert names_of("less-sure").kind == "LessSure"


@pytest.mark.slow
@settings(max_examples=40)
@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9._-]{0,50}", fullmatch=True))
@example("A" * 60 + "-b")
@example("x" * (LONGEST - 1) + "--x")
def test_any_text_is_a_name_or_is_answered_with_one(text: str) -> None:
    if not FORM.fullmatch(text) or len(text) > LONGEST:
        with pytest.raises(ConfigError) as error:
            names_of(text)
        near = str(error.value).rpartition(" ")[2]
        assert FORM.fullmatch(near)
        assert len(near) <= LONGEST
    else:
        try:
            names = names_of(text)
        except ConfigError:  # it is somebody's
            return
        assert names.module.isidentifier()
        assert names.kind.isidentifier()
        assert yaml.safe_load(text) == text


def test_no_generated_class_has_a_name_that_its_files_import() -> None:
    imported = set()
    for path in TEMPLATES.glob("*.py.jinja"):
        text = path.read_text().replace("{{ names.module }}", "module").replace("{{ names.kind }}", "Kind")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                imported |= {alias.name for alias in node.names}
    assert {name for name in imported if re.fullmatch("[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*", name)} - {"Kind"} <= {
        *TAKEN
    }


# ---- what is written -------------------------------------------------------------------------------------------------


def test_it_writes_a_whole_package(tmp_path: Path) -> None:
    files = new_strategy("least-sure", tmp_path)
    home = tmp_path / "least-sure"
    assert shape(tmp_path) == [
        "least-sure",
        "least-sure/README.md",
        "least-sure/least_sure.py",
        "least-sure/pyproject.toml",
        "least-sure/tests",
        "least-sure/tests/test_least_sure.py",
    ]
    assert sorted(files) == sorted(p for p in home.rglob("*") if p.is_file())
    assert not [path for path in files if re.search(r"{{|{%|names\.", path.read_text())]
    project = tomllib.loads((home / "pyproject.toml").read_text())["project"]
    assert project["name"] == "least-sure"
    assert project["entry-points"] == {"mtal.strategies": {"least-sure": "least_sure:LeastSure"}}
    assert project["dependencies"] == [f"mtal>={__version__}"]
    ours = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ours["requires-python"]
    (tmp_path / "other").mkdir()
    assert home.stat().st_mode == (tmp_path / "other").stat().st_mode  # others may read it as usual


@pytest.mark.parametrize("name", ["x", "least_sure", LONG])
def test_what_is_written_is_in_good_form(tmp_path: Path, name: str) -> None:
    """Whatever the length of the name."""
    assert len(LONG) == LONGEST
    new_strategy(name, tmp_path)
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--no-cache", "."],
            cwd=tmp_path / name, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_keeps_the_laws(tmp_path: Path) -> None:
    new_strategy("sample-doubt", tmp_path)
    spec = importlib.util.spec_from_file_location("sample_doubt", tmp_path / "sample-doubt" / "sample_doubt.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sample_doubt"] = module  # where pickle looks for it
    try:
        spec.loader.exec_module(module)
        made = module.SampleDoubt(balance=0.7)
        assert isinstance(made, Strategy)
        assert_conforms(made)
    finally:
        del sys.modules["sample_doubt"]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "mine"
    if kind == "folder":
        place.mkdir()
    elif kind == "file":
        place.write_text("dear")
    else:
        place.symlink_to("nowhere")
    with pytest.raises(ConfigError, match="mine: is there already; nothing is overwritten"):
        new_strategy("mine", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert kind != "file" or place.read_text() == "dear"


def test_who_comes_second_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder appears after it was looked for."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "dear.txt").write_text("dear")
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    with pytest.raises(ConfigError, match=r"mine: cannot be made \(Directory not empty\); choose another"):
        new_strategy("mine", tmp_path)
    assert shape(tmp_path) == ["mine", "mine/dear.txt"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_half_a_package_never_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    write, written = Path.write_text, []

    def third_fails(path: Path, *words: str, **options: str) -> int:
        written.append(path)
        if len(written) == 3:
            raise error
        return write(path, *words, **options)

    monkeypatch.setattr(Path, "write_text", third_fails)
    with pytest.raises(type(error)):
        new_strategy("mine", tmp_path)
    assert len(written) == 3
    assert list(tmp_path.iterdir()) == []


def test_the_verb_says_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["new-strategy", "least-sure"])
    assert end.value.code == 0
    told = capsys.readouterr().out.splitlines()
    assert sorted(told[:-1]) == [name for name in shape(tmp_path) if Path(name).is_file()]
    assert told[-1].endswith("then type mtal check least-sure")
    with pytest.raises(SystemExit) as end:
        main(["new-strategy", "least-sure"])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: least-sure: is there already")


# ---- the whole way ---------------------------------------------------------------------------------------------------


def check_types(python: Path, home: Path, cache: Path) -> None:
    """mypy accepts a generated package, and refuses a fault in it: it sees mtal's types."""
    mypy = [sys.executable, "-m", "mypy", "--python-executable", python, "--cache-dir", cache]
    assert "no issues found in 2 source files" in run(mypy, home, seconds=900)
    module = home / "least_sure.py"
    text = module.read_text()
    module.write_text(text + "\n\nwrong: int = LeastSure().score\n")
    wrong = subprocess.run([str(word) for word in mypy], cwd=home, capture_output=True, text=True, timeout=900)
    assert "least_sure.py" in wrong.stdout  # types of mtal are seen, and not taken for anything
    assert "Incompatible types in assignment" in wrong.stdout
    module.write_text(text)


@pytest.mark.soak
def test_a_generated_package_installs_and_is_found(tmp_path: Path) -> None:
    """From mtal's wheel: generated, tested, linted, typed, built, installed, listed, checked, and taken off again."""
    dist, root = tmp_path / "dist", Path("/")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", dist], HOME)
    python = environment(tmp_path / "venv")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet"]
    install = [*pip, "install", "--no-deps", "--no-index", "--no-compile"]
    run([*install, *dist.glob("mtal-*.whl")], root)
    mtal = python.with_name("mtal")

    told = run([mtal, "new-strategy", "least-sure"], tmp_path)
    home = tmp_path / "least-sure"
    assert "least-sure/pyproject.toml" in told
    assert " passed" in run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider"], home)
    assert "All checks passed" in run([sys.executable, "-m", "ruff", "check", "--no-cache", "."], home)
    run([sys.executable, "-m", "ruff", "format", "--no-cache", "--check", "."], home)
    check_types(python, home, tmp_path / "types")

    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", dist], home)
    run([*install, *dist.glob("least_sure-*.whl")], root)
    shutil.rmtree(home)
    rows = {row["name"]: row for row in json.loads(run([mtal, "strategies", "--json"], root))}
    assert set(rows) == {*STRATEGIES, "least-sure"}
    assert [name for name, row in rows.items() if not row["usable"]] == []
    assert (rows["least-sure"]["package"], rows["least-sure"]["version"]) == ("least-sure", "0.1.0")
    assert rows["least-sure"]["costs"] == [{"passes": 1.0, "crops": []}]
    assert "least-sure" in run([mtal, "strategies"], root)
    assert re.search(r"least-sure: (\d+) of \1 checks hold", run([mtal, "check", "least-sure"], root))
    run([*pip, "uninstall", "--yes", "least-sure"], root)
    assert "least-sure" not in run([mtal, "strategies"], root)
