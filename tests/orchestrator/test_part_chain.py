"""mtal parts: the whole way on a few scenes, carried on after a stop, and what it refuses."""

import json
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.exporting import Wanted, export_tasks
from orchestrator.part_chain import COMBINED, Chain
from orchestrator.preparing import prepare
from tasks.data.engine_parts import EngineParts

FEW = (
    "data.images=12", "data.validation=2", "data.test=4", "data.size=[64,96]", "data.objects=[1,2]", "model.width=16",
    "model.samples=16", "model.proposals=40", "train.batch=4", "reference.steps=6",
)  # fmt: skip
SETS = [word for one in FEW for word in ("--set", one)]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["parts", *words])
    return int(end.value.code or 0)


def test_bad_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    (tmp_path / "broken.json").write_text("{oh")
    tasks = [{"id": 1, "data": {"image": "a.png"}, "annotations": []}]
    (tmp_path / "bare.json").write_text(json.dumps(tasks))
    out = tmp_path / "out"
    cases = [
        (["gone.json"], "gone.json: no such file; expected the JSON export"),
        (["engine_parts", "--config", "demo"], "demo: its data set is 'streets'; expected 'engine_parts'"),
        (["engine_parts", "--out", str(tmp_path / "full")], "holds files that mtal parts has not made"),
        (["engine_parts", "--validation", "0.8", "--test", "0.3"], "--validation 0.8 --test 0.3: expected shares"),
        (["engine_parts", "--score", "2"], "--score 2.0: expected a share"),
        (["engine_parts", "--address", "nowhere"], "--address nowhere: expected local"),
    ]
    for words, sentence in cases:
        assert run(*words, *([] if "--out" in words else ["--out", str(out)])) == 2, words
        assert sentence in " ".join(capsys.readouterr().err.split())
        assert not out.exists()
    for name, sentence in (("broken", "is not JSON"), ("bare", "no class has three keypoints")):
        assert run(str(tmp_path / f"{name}.json"), "--out", str(out), "--address", "none") == 2
        assert sentence in " ".join(capsys.readouterr().err.split())
        assert not (out / COMBINED).exists()
    assert (tmp_path / "full" / "x").read_text() == "mine"


@pytest.mark.slow
def test_from_labels_to_placement_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An export without splits: they are drawn before copies are made. The same command makes nothing anew."""
    site = tmp_path / "site"
    prepare(EngineParts(images=16, validation=1, test=1, size=(64, 96), objects=(1, 2)), site)
    export_tasks(str(site), str(site / "export.json"), Wanted(splits=("train",)), lambda *told: None, "", True)
    tasks = json.loads((site / "export.json").read_text())
    for one in tasks:
        del one["data"]["split"]
    (site / "export.json").write_text(json.dumps(tasks))
    words = [str(site / "export.json"), "--out", str(tmp_path / "out"), "--address", "none", "--copies", "1"]
    words += ["--validation", "0.15", "--test", "0.3", *SETS]
    assert run(*words) == 0, capsys.readouterr().out
    out = tmp_path / "out"
    images = json.loads((out / "augmented" / "annotations.json").read_text())["images"]
    copies = [one for one in images if "augmentation" in one]
    assert {one["split"] for one in copies} == {"train"}
    assert {one["split"] for one in images} == {"train", "val", "test"}
    assert len(images) - len(copies) == 16
    found = json.loads((out / "placed" / "placement.json").read_text())
    assert found["images"] == sum(one["split"] == "test" for one in images)
    assert found["labeled"] > 0
    page = (out / "index.html").read_text()
    assert 'href="placed/index.html"' in page
    assert 'href="runs/engine_parts/reference/' in page
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.suffix in (".pt", ".png", ".parquet", ".json")}
    (out / "index.html").unlink()
    assert run(*words) == 0
    assert {p.name for p in kept if p.stat().st_mtime_ns != kept[p]} == {"chain.json"}
    assert (out / "index.html").is_file()
    assert run(*words, "--set", "reference.steps=7") == 2
    assert "was made from something else (sets" in " ".join(capsys.readouterr().err.split())


def test_what_is_asked_for_by_default() -> None:
    assert Chain("engine_parts").is_embedded
    assert not Chain("export.json").is_embedded
    assert Chain("x").recipe.flip == 0
