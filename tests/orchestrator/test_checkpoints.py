"""A checkpoint holds its network and says which one it is; anything else is refused."""

import json
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.checkpoints import Card, build, classes_of, load, load_model, load_state, save, save_model
from orchestrator.components import Component
from orchestrator.errors import ConfigError, MtalError, RunError
from tasks.classes import ClassMap

CLASSES = ClassMap(("car", "person"), ("road", "car"), (1, -1), ("left", "right"), ((0, 1),))
TASKS = ("detection", "segmentation")
SMALL = Component("small", {"width": 8})


def saved(folder: Path, size: tuple[int, int] | None = (64, 96)) -> tuple[Path, torch.nn.Module]:
    model = build(SMALL, CLASSES, TASKS)
    path = folder / "model.pt"
    save_model(path, model, Card(SMALL, TASKS, CLASSES, size, 7))
    return path, model


def spoiled(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = torch.load(path, weights_only=True)
    torch.save(change(content), path)
    return path


@pytest.mark.parametrize("size", [(64, 96), None])
def test_a_model_and_its_card_come_back(tmp_path: Path, size: tuple[int, int] | None) -> None:
    path, model = saved(tmp_path, size)
    again, card = load_model(path)
    assert card == Card(SMALL, TASKS, CLASSES, size, 7)
    assert not again.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    first, second = model.eval().predict(image)[0], again.predict(image)[0]
    assert torch.equal(first["segmentation"].log_probs, second["segmentation"].log_probs)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    """What unpickles into a call is refused, and is not called."""
    mark = tmp_path / "called"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (mark,))

    torch.save({"model": Trap()}, tmp_path / "model.pt")
    with pytest.raises(RunError, match="not a readable checkpoint"):
        load(tmp_path / "model.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(RunError, match="not a readable checkpoint"):
        load(tmp_path / "raw.pt")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: [1], "holds a list"),
        (lambda c: {"model": c["model"]}, "no card"),
        (lambda c: {**c, "card": "[]"}, "no card"),
        (lambda c: {**c, "card": "{"}, "no card"),
        (lambda c: {**c, "card": json.dumps({**json.loads(c["card"]), "classes": {}})}, "no card"),
        (lambda c: {**c, "card": json.dumps({**json.loads(c["card"]), "model": 3})}, "no card"),
        (lambda c: {"card": c["card"]}, "no card"),
        (lambda c: {**c, "model": [1]}, "holds no weights"),
        (lambda c: {**c, "model": {"a": 1}}, "holds no weights"),
        (lambda c: {**c, "model": {"a": torch.zeros(1)}}, "does not fit"),
    ],
)
def test_foreign_content_is_refused(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    path = spoiled(saved(tmp_path)[0], change)
    with pytest.raises(RunError, match=message) as error:
        load_model(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_and_change_nothing(tmp_path: Path, value: float) -> None:
    model = build(SMALL, CLASSES, TASKS)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    name = next(name for name, tensor in before.items() if tensor.is_floating_point())
    state = {**before, name: torch.full_like(before[name], value)}
    with pytest.raises(RunError, match=f"'{name}' holds NaN or infinity"):
        load_state(model, state, tmp_path / "model.pt")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_integers_are_no_reason_to_refuse(tmp_path: Path) -> None:
    model = build(SMALL, CLASSES, TASKS)
    state = model.state_dict()
    assert any(not value.is_floating_point() for value in state.values())
    load_state(model, state, tmp_path / "model.pt")


def test_a_network_that_cannot_be_built_names_the_checkpoint(tmp_path: Path) -> None:
    path = spoiled(saved(tmp_path)[0], lambda c: {**c, "card": c["card"].replace('"small"', '"tall"')})
    with pytest.raises(ConfigError, match=r"model\.pt: model: no model is called 'tall'"):
        load_model(path)


class Bare:
    """Neither a network nor a model."""

    def __init__(self, classes: ClassMap, tasks: tuple[str, ...]) -> None:
        self.provides = frozenset(tasks)


class Callable_(Bare):
    def predict(self) -> None: ...


@pytest.mark.parametrize(
    ("name", "message"), [("Bare", "has no 'predict'"), ("Callable_", "expected a torch.nn.Module")]
)
def test_what_is_no_network_is_refused(name: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        build(Component(f"{__name__}:{name}"), CLASSES, TASKS)


@pytest.mark.parametrize("limit", [100, 20_000])
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, limit: int) -> None:
    path, _ = saved(tmp_path)
    before = path.read_bytes()
    assert len(before) > limit
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(RunError, match=r"model\.pt: could not be written: .*; make room"):
            save(path, {"a": torch.zeros(30_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_no_damage_ends_in_anything_but_a_sentence(tmp_path: Path) -> None:
    """Cut, overwritten anywhere, overwritten where the names are: refused, or (other numbers in a weight) loaded."""
    path, rng = saved(tmp_path)[0], np.random.default_rng(0)
    whole, refused = path.read_bytes(), list[str]()
    for kind in range(60):
        data, at = bytearray(whole), int(rng.integers(0, 3000))
        if kind % 3 == 0:
            data = data[: int(rng.integers(0, len(data)))]
        else:
            at = at if kind % 3 == 1 else len(data) - 1 - at
            data[at : at + 8] = rng.integers(0, 256, len(data[at : at + 8]), dtype=np.uint8).tobytes()
        path.write_bytes(bytes(data))
        try:
            load_model(path)
        except MtalError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert [text for text in refused if not text.startswith(f"{path}: ") or "\n" in text] == []


def test_classes_come_back_from_json() -> None:
    raw = json.loads(json.dumps(vars(CLASSES)))
    assert classes_of(raw) == CLASSES
