"""The page, the sentences and the table of affinities, from run folders on disk."""

from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli import main
from orchestrator.studies.affinity_page import matrix, sentence, terminal_table, verdicts, write_affinity
from orchestrator.studies.affinity_runs import affinity_of
from tests.orchestrator.studies.fake_affinity import ARMS, FACTORS, write_fake_affinity
from tests.orchestrator.test_report import Page


def test_the_page_is_whole(tmp_path: Path) -> None:
    few = {"plain": {}, "ps": ARMS["ps"]}
    folders = [write_fake_affinity(tmp_path / "a"), write_fake_affinity(tmp_path / "b", arms=few)]
    runs = [affinity_of(folder) for folder in folders]
    write_affinity(runs, tmp_path / "affinity.html")
    page = Page(tmp_path / "affinity.html")
    assert page.scripts == 0
    assert max(page.ids.values()) == 1
    assert page.source.count("<svg") == 4 + 3 + 1
    assert not [link for link in page.links if not link.startswith(("#", "data:"))]
    for words in (
        "segmentation and depth help each other (Condition 1).",
        "depth helps segmentation; whether segmentation helps depth is not known (Condition 1 or 2).",
        "What was not tried",
        "ps over ps-blind",
    ):
        assert words in page.text, words


def test_sentences_say_what_is_shown(tmp_path: Path) -> None:
    affinity = affinity_of(write_fake_affinity(tmp_path / "tasks"))
    first, second = (sentence(one) for one in affinity.effects)
    assert first.startswith("depth to segmentation: ps gains +")
    assert "in mIoU over plain. Over ps-blind, whose teacher was shown the image alone, it gains +" in first
    assert "A network that is shown depth itself (mm, beside plain) gains +" in first
    assert "But over pd-blind" in second
    assert second.endswith("what helped may be pseudo-labels as such, and not segmentation.")
    alone = affinity_of(write_fake_affinity(tmp_path / "one", arms={"plain": {}, "ps": ARMS["ps"]}, seeds=[0]))
    (only,) = (sentence(one) for one in alone.effects)
    assert "(1 seed, hence no interval: not shown)" in only
    assert "There is no control, so this may be the work of pseudo-labels as such, and not of depth." in only


def test_the_matrix_and_the_table(tmp_path: Path) -> None:
    tasks = ("segmentation", "depth", "detection")
    factors = {name: (*own, 1.0) for name, own in FACTORS.items()}
    affinity = affinity_of(write_fake_affinity(tmp_path / "tasks", factors=factors, tasks=tasks))
    table = dict(matrix(affinity))
    assert [word for _, word in table["depth"]] == ["helps", "", "not known"]
    assert [word for _, word in table["detection"]] == ["not known", "not known", ""]
    assert verdicts(affinity) == ["segmentation and depth help each other (Condition 1)."]
    console = Console(width=120)
    with console.capture() as shown:
        console.print(terminal_table(affinity))
    assert "depth to segmentation" in shown.get()
    assert "helps" in shown.get()


def test_names_from_outside_are_escaped(tmp_path: Path) -> None:
    arms = {"plain": {}, "<script>x</script>": ARMS["ps"]}
    factors = {"plain": (1.0, 1.0), "<script>x</script>": (1.1, 1.0)}
    write_affinity([affinity_of(write_fake_affinity(tmp_path / "t", arms=arms, factors=factors))], tmp_path / "a.html")
    assert Page(tmp_path / "a.html").scripts == 0


def test_as_it_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_fake_affinity(tmp_path / "tasks", arms={name: own for name, own in ARMS.items() if name != "pd-blind"})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["study", "affinity", "tasks", "tasks"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert told.count("(Condition 1).") == 1
    assert "no finished arm with teacher: {task: depth, inputs: [rgb]} has the same labels" in told
    assert told.rstrip().endswith("page: affinity.html")
    with pytest.raises(SystemExit) as end:
        main(["study", "affinity", "nothing", "--out", "other.html"])
    assert end.value.code == 2
    assert "error: nothing: no cycles.parquet" in capsys.readouterr().err
    assert not (tmp_path / "other.html").exists()
