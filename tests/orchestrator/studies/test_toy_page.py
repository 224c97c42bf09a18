"""The page and the table of the toy example, and the sentences that depend on what was found."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from orchestrator.cli import main
from orchestrator.studies import toy as room
from orchestrator.studies.toy import Method, Regime, Toy, f2
from orchestrator.studies.toy_page import finding, rows, terminal_table, write_toy
from tests.orchestrator.test_report import Page

GRID = np.linspace(0, 1, 501)
FOUND = {
    "ST": 0.03, "MTL": 0.01, "teacher": 0.001, "T-S": 0.001, "T-S, equal steps": 0.05, "teacher without f1": 0.001,
    "T-S without f1": 0.001, "mask-MTL": 0.0001,
}  # fmt: skip


def example(seeds: int = 4, **errors: float) -> Toy:
    """Invented errors, each with a little noise."""
    methods = {}
    for name, error in {**FOUND, **{key.replace("_", " "): value for key, value in errors.items()}}.items():
        values = error * np.random.default_rng(len(name)).uniform(0.95, 1.05, seeds)
        steps = 300 if name in ("ST", "MTL", "T-S, equal steps") else 1200
        answer = f2(GRID) + np.sqrt(values)[:, None]
        methods[name] = Method(name, f"<i>{name}", steps, answer, values)
    z = np.random.default_rng(0).uniform(0, 1, (seeds, 640))
    return Toy("tanh60-teacher4", tuple(range(seeds)), z, GRID, methods)


def test_the_finding_is_that_of_the_numbers() -> None:
    said = finding(example())
    assert "This is the paper's order (ST worst, T-S best)." in said[0]
    assert "T-S was trained for 1,200 steps and ST for 300" in said[1]
    assert said[-1] == (
        "So the gain of T-S over ST is one of training budget, and not of f1: with equal steps there is none and "
        "without f1 it is no smaller."
    )
    none = finding(example(**{"T-S": 0.03}))
    assert "not the paper's order" in none[0]
    assert "no gain to explain" in none[-1]
    errors = {"T-S, equal steps": 0.002, "T-S without f1": 0.02}
    assert finding(example(**errors))[-1].startswith("Neither control explains the gain of T-S away")


def test_the_page_is_whole(tmp_path: Path) -> None:
    toy = example()
    write_toy(toy, tmp_path / "toy.html")
    page = Page(tmp_path / "toy.html")
    assert page.scripts == 0
    assert [name for name in page.ids if name in ("finding", "result", "drawing", "regimes")] == [
        *("finding", "result", "drawing", "regimes"),
    ]
    for words in ("T-S, equal steps", "T-S without f1", "0.0149 ± 0.0111", "one of training budget", "relu100"):
        assert words in page.text, words
    for words in ("f1, 640 labels", "f2, 160 labels", "labels of f2", "What was learned of f2"):
        assert f">{words}</text>" in page.source, words


def test_rows_say_what_is_shown() -> None:
    found = {row.name: row for row in rows(example())}
    assert (found["ST"].gain, found["ST"].paper) == ("", "0.0149 ± 0.0111")
    assert found["T-S"].word == "helps"
    assert found["T-S"].gain.startswith("+9")
    assert found["T-S, equal steps"].word == "hurts"
    assert {row.interval for row in rows(example(1))} == {""}
    console = Console(width=120)
    with console.capture() as shown:
        console.print(terminal_table(example()))
    assert "T-S without f1" in shown.get()


@pytest.mark.slow
def test_as_it_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(room.REGIMES, "short", Regime("tanh", 1))  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as end:
        main(["study", "toy", "--regime", "short", "--seeds", "1"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert "But T-S was trained for 20 steps and ST for 5" in told
    assert told.rstrip().endswith("page: toy.html")
    assert Page(tmp_path / "toy.html").ids["finding"] == 1


def test_an_unknown_regime_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["study", "toy", "--regime", "long"])
    assert end.value.code == 2
    assert "error: --regime long: no such regime" in capsys.readouterr().err
    assert not (tmp_path / "toy.html").exists()
