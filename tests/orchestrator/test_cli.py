"""The verbs as they are typed: what they answer, what they print, how they end."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer
import yaml
from typer.main import get_command

import orchestrator
from orchestrator import running, terminal
from orchestrator.cli import app, main
from orchestrator.errors import RunError
from tests.tiny import tiny, write_tiny

HOME = Path(__file__).resolve().parents[2]
Typed = Callable[..., tuple[int, str, str]]
VERBS = {  # a new verb, argument or option is added here on purpose, and to the README
    "run": [
        *("config", "--set", "--address", "--fresh", "--dry-run", "--images", "--measure", "--step-seconds"),
        "--image-seconds",
    ],
    "prepare": ["config", "--set", "--out", "--on-error", "--look", "--address"],
    "score": [
        *("--checkpoint", "--data", "--strategy", "--out", "--split", "--top", "--batch", "--seed", "--workers"),
        "--address",
    ],
    "bench": [
        *("config", "--set", "--address", "--checkpoint", "--strategy", "--images", "--workers", "--shards", "--runs"),
        *("--steps", "--stub-ms", "--out"),
    ],
    "report": ["folder"],
    "export": ["form", "source", "--out", "--splits", "--arm", "--seed", "--prefix", "--finished"],
    "label push": [
        *("source", "--top", "--project", "--url", "--prefix", "--root", "--arm", "--seed", "--cycle", "--data"),
        *("--strategy", "--checkpoint", "--predictions", "--min-score"),
    ],
    "label pull": [
        *("source", "--out", "--project", "--url", "--arm", "--seed", "--data", "--strategy", "--strict", "--partial"),
    ],
    "show": [
        *("source", "--set", "--split", "--count", "--draw", "--ids", "--task", "--out", "--images", "--arm", "--seed"),
        *("--cycle", "--checkpoint"),
    ],
    "augment": [
        *("source", "folder", "--root", "--images", "--semantic", "--copies", "--config", "--set", "--split"),
        *("--group", "--validation", "--test", "--seed", "--workers"),
    ],
    "place": [
        *("checkpoint", "--data", "--out", "--split", "--reference", "--score", "--depth", "--per-metre", "--erosion"),
        "--pictures",
    ],
    "parts": [
        *("source", "--out", "--config", "--set", "--copies", "--recipe", "--validation", "--test", "--seed"),
        *("--reference", "--score", "--workers", "--address"),
    ],
    "study heads": [
        *("--size", "--detections", "--rounds", "--threads", "--backbone", "--device", "--into"),
    ],
    "study convergence": ["runs", "--error", "--cycle", "--ours", "--out"],
    "study affinity": ["runs", "--out"],
    "study toy": ["--regime", "--seeds", "--out"],
    "study side-by-side": ["run", "--arms", "--images", "--seed", "--draw", "--out"],
    "check": ["what", "--set"],
    "strategies": ["--json"],
    "new-strategy": ["name"],
    "submit": [
        *("config", "--address", "--set", "--working-dir", "--env", "--python", "--name", "--fresh", "--no-wait"),
    ],
    "status": ["name", "--address", "--follow"],
    "stop": ["name", "--address"],
}


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types a command line in an empty folder; answers exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def type_(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(one) for one in arguments])
        printed = capsys.readouterr()
        return int(end.value.code or 0), printed.out, printed.err

    return type_


def without_colour(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


# ---- what there is ---------------------------------------------------------------------------------------------------


def leaves(commands: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every verb, those of a group with its name before them."""
    for name, command in commands.items():
        if inner := vars(command).get("commands"):
            yield from leaves(inner, f"{before}{name} ")
        else:
            yield before + name, command


def test_the_verbs_and_their_options_are_these() -> None:
    found = {}
    for name, command in leaves(vars(get_command(app))["commands"]):
        found[name] = [p.opts[0] if p.param_type_name == "option" else p.name for p in command.params]
    assert found == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_shows_an_example(typed: Typed, verb: str) -> None:
    code, out, err = typed(*verb.split(), "--help")
    assert (code, err) == (0, "")
    assert f"Usage: mtal {verb} " in without_colour(out)
    assert f"Example:  mtal {verb} " in without_colour(out)
    for option in VERBS[verb]:
        assert option in without_colour(out).lower()


def test_version_and_bare_call(typed: Typed) -> None:
    assert typed("--version") == (0, f"{orchestrator.__version__}\n", "")
    out = without_colour("".join(typed()[1:]))
    assert all(verb.split()[0] in out for verb in VERBS)


@pytest.mark.slow
def test_the_module_is_the_same_command(tmp_path: Path) -> None:
    """``python -m orchestrator`` and the installed script say the same, apart from what they are called."""
    environment = {**os.environ, "PYTHONPATH": str(HOME), "COLUMNS": "100"}
    script = Path(sys.executable).with_name("mtal")
    commands = [[sys.executable, "-m", "orchestrator"], [str(script)]] if script.exists() else []
    if not commands:
        pytest.skip("the script mtal is not installed beside this python")
    answers = []
    for command in commands:
        done = subprocess.run(
            [*command, "check", "nothing.yaml"], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        answers.append((done.returncode, done.stdout, done.stderr))
    assert answers[0] == answers[1]
    assert answers[0][0] == 2
    assert answers[0][2].startswith("error: nothing.yaml: no such file")


# ---- run -------------------------------------------------------------------------------------------------------------


def test_a_run_prints_its_stages_its_table_and_where_the_report_is(tiny_run: Path) -> None:
    out = (tiny_run / "stdout.txt").read_text()
    stages = [
        "tiny: reading the data",
        "the fully trained reference and cycle 0, shared by the arms: 2",
        "the arms: 2",
    ]
    places = [out.index(stage) for stage in stages]
    assert places == sorted(places)
    assert "mDSQ" in out
    assert out.rstrip().endswith(f"report: {tiny_run / 'runs' / 'tiny' / 'report.html'}")
    assert "\x1b" not in out
    assert "\r" not in out


def test_a_log_tells_nothing_twice(tiny_run: Path) -> None:
    """Between two purchases of an arm each phase ends once."""
    lines = [line for line in (tiny_run / "stdout.txt").read_text().splitlines() if ", seed 0:" in line]
    assert lines
    assert all(first != second for first, second in pairwise(lines))
    assert sum("random, seed 0: training 3/3" in line for line in lines) == 2  # cycles 1 and 2
    assert sum("random cycle 0, seed 0: training 5/5" in line for line in lines) == 1


@pytest.mark.slow
def test_a_run_that_is_done_computes_nothing_again(typed: Typed, tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run / "runs", tmp_path / "runs")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.name in ("model.pt", "cycle.json")}
    code, out, err = typed("run", write_tiny(tmp_path / "tiny.yaml", tmp_path / "runs"), "--address", "none")
    assert (code, err) == (0, "")
    assert "the arms" not in out
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(before) == 12


@pytest.mark.slow
def test_fresh_makes_one_arm_again_to_the_same_result(typed: Typed, tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run / "runs", tmp_path / "runs")
    config = write_tiny(tmp_path / "tiny.yaml", tmp_path / "runs")
    code, out, _ = typed("run", config, "--address", "none", "--fresh", "random")
    assert code == 0
    assert "the arms: 1 to do" in out
    first, second = (pq.read_table(home / "runs" / "tiny" / "cycles.parquet") for home in (tiny_run, tmp_path))
    for name in first.column_names:
        if not name.startswith("seconds."):
            assert str(first[name].to_pylist()) == str(second[name].to_pylist()), name  # nan is nan


@pytest.mark.slow
def test_failed_arms_are_told_after_the_results(typed: Typed, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "failing_arm.py").write_text(
        "from strategies.base import Strategy\nclass Bad(Strategy):\n    def score(self, seen, rng): return 1 / 0\n"
    )
    shutil.copytree(tiny_run / "runs", tmp_path / "runs")
    arms = {"random": {"strategy": "random"}, "bad": {"strategy": "failing_arm:Bad"}}
    config = write_tiny(tmp_path / "tiny.yaml", tmp_path / "runs", arms=arms, seeds=[0])
    code, out, err = typed("run", config, "--address", "none")
    assert code == 2
    assert "report: " in out
    assert err.startswith("error: bad, seed 0: ")
    assert err.count("bad, seed 0") == 1
    assert "ZeroDivisionError" in err
    failures = json.loads((tmp_path / "runs" / "tiny" / "failures.json").read_text())
    assert [f["arm"] for f in failures] == ["bad"]


@pytest.mark.slow
def test_set_changes_the_run_and_is_recorded(typed: Typed, tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run / "runs" / "data", tmp_path / "runs" / "data")
    tree = {**tiny(tmp_path / "runs"), "arms": {"random": {"strategy": "random"}}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tree))
    changes = ("--set", "name=other", "--set", "active.cycles=0", "--set", "train.first_steps=1")
    code, _, err = typed("run", "tiny.yaml", "--address", "none", *changes)
    assert (code, err) == (0, "")
    recorded = yaml.safe_load((tmp_path / "runs" / "other" / "experiment.yaml").read_text())
    assert (recorded["active"]["cycles"], recorded["train"]["first_steps"], recorded["train"]["steps"]) == (0, 1, 3)
    assert pq.read_table(tmp_path / "runs" / "other" / "cycles.parquet").num_rows == 1


# ---- prepare, check, report ------------------------------------------------------------------------------------------


def test_prepare_tells_what_it_found_and_where(typed: Typed, tmp_path: Path) -> None:
    changes = {"data": {"name": "streets", "images": 2, "validation": 1, "test": 1, "size": [32, 32]}}
    config = write_tiny(tmp_path / "tiny.yaml", tmp_path / "runs", **changes)
    code, out, err = typed("prepare", config, "--out", tmp_path / "my [data]")
    assert (code, err) == (0, "")
    assert "4 of 4 images (1 test, 2 train, 1 val)" in out
    assert f"manifest: {tmp_path / 'my [data]' / 'manifest.parquet'}\n" in out
    assert pq.read_metadata(tmp_path / "my [data]" / "manifest.parquet").num_rows == 4
    assert typed("prepare", config)[0] == 0
    assert len(list((tmp_path / "runs" / "data").glob("streets-*/manifest.parquet"))) == 1


@pytest.mark.slow
def test_check_of_a_configuration_and_of_strategies(typed: Typed, tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.yaml", tmp_path / "runs", seeds=[0, 1])
    assert typed("check", "tiny.yaml") == (0, "tiny.yaml: 2 arms x 2 seeds: all is well\n", "")
    assert typed("check", "demo") == (0, "demo.yaml: 3 arms x 2 seeds: all is well\n", "")
    code, out, err = typed("check", "random")
    assert (code, err) == (0, "")
    assert "28 of 28 checks hold" in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_report_writes_what_was_deleted(typed: Typed, tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run / "runs" / "tiny", tmp_path / "tiny")
    before = {name: (run / name).read_bytes() for name in ("report.html", "curves.csv", "curves_mdsq.svg")}
    for name in before:
        (run / name).unlink()
    code, out, err = typed("report", "tiny")
    assert (code, err) == (0, "")
    assert "report: tiny/report.html" in out
    assert "boxmask" in out
    assert (run / "curves.csv").read_bytes() == before["curves.csv"]
    assert len((run / "report.html").read_bytes()) == pytest.approx(len(before["report.html"]), rel=0.01)


# ---- score -----------------------------------------------------------------------------------------------------------


def photos(folder: Path, tiny_run: Path) -> Path:
    folder.mkdir()
    for path in sorted((tiny_run / "runs" / "data").glob("*/images/test-*.png"))[:5]:
        shutil.copy(path, folder)
    return folder


def top_list(out: str) -> list[list[tuple[str, float]]]:
    """The printed list: for each strategy its (id, value), best first."""
    rows = [[cell.split() for cell in line.split("│")[2:-1]] for line in out.splitlines() if line.startswith("│")]
    return [[(id, float(value)) for id, value in column] for column in zip(*rows, strict=True)]


@pytest.mark.slow
def test_score_a_folder_of_photos_with_several_strategies(typed: Typed, tiny_run: Path, tmp_path: Path) -> None:
    data = photos(tmp_path / "photos", tiny_run)
    model = next((tiny_run / "runs" / "tiny" / "reference").rglob("model.pt"))
    strategies = ("--strategy", "boxmask", "--strategy", "{name: equal, form: entropy}", "--strategy", "equal")
    code, out, err = typed(
        "score", "--checkpoint", model, "--data", data, *strategies, "--out", "list.parquet", "--top", 3
    )
    assert (code, err) == (0, "")
    table = pq.read_table("list.parquet")
    assert table.num_rows == 5
    assert [name for name in table.column_names if name.endswith(".value")] == [
        *("boxmask.value", "equal.value", "equal-2.value"),
    ]
    assert "the first 3 of 5 images to label" in out
    for name, printed in zip(("boxmask", "equal", "equal-2"), top_list(out), strict=True):
        values = dict(zip(table["id"].to_pylist(), table[f"{name}.value"].to_pylist(), strict=True))
        best = sorted(values, key=lambda id: -values[id])[:3]
        assert sorted(id for id, _ in printed) == sorted(best)
        assert [value for _, value in printed] == pytest.approx([values[id] for id in best], abs=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.parquet", "photos"]
    assert "scores: list.parquet" in out


@pytest.mark.slow
def test_score_a_prepared_folder_by_split(typed: Typed, tiny_run: Path, tmp_path: Path) -> None:
    data = next((tiny_run / "runs" / "data").iterdir())
    model = next((tiny_run / "runs" / "tiny" / "reference").rglob("model.pt"))
    counts = {}
    for split in ("train", "test"):
        out_file = tmp_path / f"{split}.parquet"
        code, _, err = typed(
            "score", "--checkpoint", model, "--data", data, "--strategy", "random", "--split", split, "--out", out_file
        )
        assert (code, err) == (0, "")
        ids = pq.read_table(out_file)["id"].to_pylist()
        assert all(id.startswith(split) for id in ids)
        counts[split] = len(ids)
    assert counts == {"train": 16, "test": 6}


@pytest.mark.slow
def test_score_with_the_strategies_of_the_help_when_none_are_given(
    typed: Typed, tiny_run: Path, tmp_path: Path
) -> None:
    data = photos(tmp_path / "photos", tiny_run)
    model = next((tiny_run / "runs" / "tiny" / "reference").rglob("model.pt"))
    assert typed("score", "--checkpoint", model, "--data", data)[0] == 0
    names = pq.read_table("scores.parquet").column_names
    assert {"boxmask.value", "equal.value"} <= set(names)


# ---- how it ends -----------------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Any:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "stopped; the same command carries on where this one was\n"),
        (RunError("here: this was found\n  and that\nmend it"), 2, "error: here: this was found mend it\n"),
        (RunError("[red]x[/red]: [1, 2]"), 2, "error: [red]x[/red]: [1, 2]\n"),
        (OSError(28, "No space left on device", "/x"), 2, "error: /x: No space left on device; mend that or make room"),
        (PermissionError(13, "Permission denied", "/y"), 2, "error: /y: Permission denied; mend that"),
        (OSError(5, "no answer; start it", "s3://b/x"), 2, "error: s3://b/x: no answer; start it, then type the same"),
    ],
)
def test_what_people_can_mend_is_one_line(
    typed: Typed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    words: str,
) -> None:
    config = write_tiny(tmp_path / "tiny.yaml", tmp_path / "runs")
    monkeypatch.setattr(running, "planned", raising(error))
    found, out, err = typed("run", config, "--address", "none")
    assert found == code
    assert err.startswith(words)
    assert len(err.splitlines()) == 1
    assert ("  and that" in out.splitlines()) == ("and that" in str(error))


@pytest.mark.parametrize("error", [ZeroDivisionError("ours"), OSError("without a number"), ValueError("ours")])
def test_a_fault_of_ours_is_not_dressed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """It keeps its traceback: nobody but us can mend it."""
    monkeypatch.setattr(running, "planned", raising(error))
    config = write_tiny(tmp_path / "tiny.yaml", tmp_path / "runs")
    with pytest.raises(type(error), match=str(error)):
        main(["run", str(config), "--address", "none"])


def test_a_long_line_is_not_wrapped_in_a_log(typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_tiny(tmp_path / "tiny.yaml", tmp_path / "runs")
    monkeypatch.setattr(running, "planned", raising(RunError("word " * 100)))
    assert typed("run", config, "--address", "none")[2] == "error: " + "word " * 99 + "word\n"


def test_the_output_has_room_for_tables_when_it_is_no_terminal() -> None:
    assert terminal.out.width == 120 or sys.stdout.isatty()
    assert isinstance(app, typer.Typer)
