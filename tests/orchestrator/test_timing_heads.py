"""The race of heads: the same boxes for all, turns, memory, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from orchestrator.cli import main
from orchestrator.errors import ConfigError, RunError
from orchestrator.studies.heads import ALL, MULTI, PAIR, SYSTEMS
from orchestrator.timing_heads import Asked, devices, measured, network_of, noise
from tests.orchestrator.fake_run import write_fake_run

TINY = Asked((64, 64), detections=3, rounds=2, backbone="small", width=8)
CPU = torch.device("cpu")


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match="--size 32,64: expected a height and a width of 64"):
        Asked((32, 64))
    if not torch.cuda.is_available():
        assert devices("auto") == ([CPU], "no GPU here, so none is measured")
        with pytest.raises(ConfigError, match="--device cuda: torch finds no GPU"):
            devices("cuda")
    with pytest.raises(ConfigError, match="--device tpu: there is none"):
        devices("tpu")
    assert devices("cpu") == ([CPU], "")


def test_a_network_answers_as_many_boxes_as_were_asked_for() -> None:
    model = network_of(TINY, ALL, CPU)
    found = model.predict(noise(TINY, CPU))[0].detections
    assert len(found.boxes) == 3
    assert found.masks is not None
    assert found.keypoints is not None
    again = network_of(TINY, ALL, CPU).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    assert torch.isfinite(found.boxes).all()


@pytest.mark.slow
def test_all_systems_are_measured_on_this_cpu() -> None:
    threads, ticks = torch.get_num_threads(), []
    found = measured(TINY, CPU, lambda *done: ticks.append(done))
    assert torch.get_num_threads() == threads
    assert list(found.taken) == list(SYSTEMS)
    for one in found.taken.values():
        assert len(one.seconds) == len(one.cpu) == 2
        assert min(one.seconds) > 0
        assert one.weights == 4 * one.parameters
        assert one.peak is None or one.peak > one.weights
    parts = {name: one.parameters for name, one in found.taken.items()}
    assert parts[PAIR] == parts["Mask"] + parts["Keypoint"]
    assert parts["Faster"] + parts[MULTI] == parts["Mask"] + parts["Keypoint"]
    assert ticks[-1][1:] == ("cpu", 5, 5)
    with pytest.raises(RunError, match=r"--detections 5000: the networks find \d+ boxes"):
        measured(Asked((64, 64), 5000, 1, backbone="small", width=8), CPU, lambda *done: None)


@pytest.mark.slow
def test_as_it_is_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_fake_run(tmp_path / "run")
    words = ["study", "heads", "--size", "64,96", "--rounds", "1", "--backbone", "small", "--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--detections", "3", "--into", str(folder)])
    told = capsys.readouterr()
    assert end.value.code == 0, told.err
    assert "Mask and Keypoint" in told.out
    assert [setting["setting"]["size"] for setting in json.loads((folder / "heads.json").read_text())] == [[64, 96]]
    assert "What the heads of an R-CNN cost" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--size", "64"], "--size 64: expected a height and a width in px"),
        (["--size", "20,64"], "--size 20,64: expected a height and a width of 64 px"),
        (["--backbone", "large"], "--backbone large: there is none; expected one of resnet50, small"),
        (["--device", "tpu"], "--device tpu: there is none; expected auto, cpu or cuda"),
        (["--into", "nowhere"], "nowhere"),
    ],
)
def test_what_is_typed_wrong_is_a_sentence(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["study", "heads", *words])
    assert end.value.code == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
