"""The table of heads: relations by hand, what is kept is what was measured, and the report shows it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.errors import RunError
from orchestrator.studies.heads import (
    FILE,
    MULTI,
    PAIR,
    SYSTEMS,
    Costs,
    Setting,
    Taken,
    keep,
    kept,
    notes,
    terminal_table,
)
from orchestrator.studies.heads import rows as rows_of
from tests.orchestrator.fake_run import write_fake_run
from tests.orchestrator.test_report import page_of

SETTING = Setting("1 thread of an old machine", 0.0, (288, 512), 10, 3, "resnet50", "2.0")
SECONDS = {"Faster": 0.5, "Mask": 0.625, "Keypoint": 1.0, MULTI: 1.0, PAIR: 1.6}
WEIGHTS = {"Faster": 158, "Mask": 168, "Keypoint": 225, MULTI: 235, PAIR: 393}


def costs(setting: Setting = SETTING, **seconds: float) -> Costs:
    """Three rounds, of which the first is twice as slow for all."""
    taken = {
        name: Taken(
            tuple(2 * turn * one for turn in (2, 1, 1)),
            tuple(turn * one for turn in (2, 1, 1)),
            10**6,
            WEIGHTS[name] * 2**20,
            2 * WEIGHTS[name] * 2**20,
        )
        for name, one in (SECONDS | seconds).items()
    }
    return Costs(setting, taken)


def test_relations_by_hand() -> None:
    found = costs()
    assert found.speedup == pytest.approx(1.6)
    assert found.weights_share == pytest.approx(235 / 393)
    assert [holds for _, holds in found.relations()] == [True] * 4
    assert found.taken["Faster"].fps == 1.0  # wall time
    assert "less than Mask's 625 and Keypoint's 1000 ms" in found.relations()[0][0]
    slow = costs(**{MULTI: 1.7})
    assert [holds for _, holds in slow.relations()] == [False, False, True, True]
    assert sum("NOT AS WANTED" in line for line in notes(slow)) == 2
    assert "paper 1.81" in notes(slow)[2]
    unknown = {name: replace(one, peak=None) for name, one in found.taken.items()}
    assert len(replace(found, taken=unknown).relations()) == 3
    assert rows_of(replace(found, taken=unknown))[0][6] == "\N{EN DASH}"


def test_on_a_gpu_the_clock_on_the_wall_counts() -> None:
    gpu = costs(replace(SETTING, device="one NVIDIA thing", load=9.0))
    assert gpu.clock(MULTI) == gpu.taken[MULTI].seconds != gpu.taken[MULTI].cpu
    assert not [line for line in notes(gpu) if "busy" in line]
    assert [line for line in notes(costs(replace(SETTING, load=9.0))) if "busy" in line]


def test_the_table_has_the_papers_figures() -> None:
    console = Console(width=160)
    with console.capture() as shown:
        console.print(terminal_table(costs()))
    told = shown.get()
    for name, system in SYSTEMS.items():
        assert re.search(rf"^ *{name} .* {system.fps:.1f} +~{system.megabytes:.0f} *$", told, re.M), name
    assert "288 x 512 px, 10 detections, on 1 thread of an old machine" in told


@pytest.mark.slow
def test_a_report_shows_what_is_kept(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run")
    before = page_of(folder).text
    assert kept(folder) == []
    assert "heads of an R-CNN" not in before
    two = [costs(), costs(replace(SETTING, device="one NVIDIA thing"))]
    assert keep(two, folder) == folder / FILE
    assert kept(folder) == two
    text = page_of(folder).text
    assert "What the heads of an R-CNN cost" in text
    assert "Mask and Keypoint 0.31 3200" in text
    assert text.count("on one NVIDIA thing") == 1
    assert "(paper 1.81; wanted at least 1.35)" in text


def test_a_file_of_something_else_is_a_sentence(tmp_path: Path) -> None:
    for text in ('[{"setting": 1}]', "7", '[{"setting": {"size": [1, 2]}, "taken": {}}]'):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(RunError, match=r"heads.json: not what 'mtal study heads' writes"):
            kept(tmp_path)


def test_what_is_kept_is_what_was_measured(tmp_path: Path) -> None:
    assert kept(tmp_path) == []
    keep([costs()], tmp_path)
    assert kept(tmp_path) == [costs()]
