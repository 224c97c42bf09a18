"""One YAML is one experiment: what is read, what is refused, and what the refusal says."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.components import Component
from orchestrator.config import Experiment, arm, experiment_of, load, plain
from orchestrator.errors import ConfigError

TREE: dict[str, Any] = {
    "name": "small",
    "data": {"name": "streets", "images": 40, "size": [64, 96]},
    "tasks": {"detection": {}, "segmentation": None},
    "model": "small",
    "train": {"steps": 5},
    "active": {"initial": 0.4, "budget": {"amount": 2}, "cycles": 1},
    "reference": {"steps": 7},
    "arms": {"random": {"strategy": "random"}, "longer": {"train.steps": 9, "train": {"rate": 0.01}}},
    "seeds": [0, 1],
}


def changed(**changes: Any) -> dict[str, Any]:
    return {**TREE, **changes}


def test_reads_a_tree_and_fills_in_defaults() -> None:
    experiment = experiment_of(TREE, "small.yaml")
    assert experiment.data == Component("streets", {"images": 40, "size": [64, 96]})
    assert experiment.tasks == {"detection": {}, "segmentation": {}}
    assert experiment.train.batch == 8
    assert experiment.seeds == (0, 1)


def test_the_resolved_tree_reads_back_equal() -> None:
    experiment = experiment_of(TREE, "small.yaml")
    again = experiment_of(yaml.safe_load(yaml.safe_dump(plain(experiment))), "again.yaml")
    assert again == experiment


def test_an_arm_overrides_by_dotted_and_nested_keys() -> None:
    own = arm(experiment_of(TREE, "small.yaml"), "longer")
    assert (own.train.steps, own.train.rate, own.train.batch) == (9, 0.01, 8)
    assert own.arms == {}


def test_an_arm_that_names_another_component_drops_the_old_options() -> None:
    arms = {"a": {"strategy": {"name": "boxmask", "tau": 0.4}}, "b": {"strategy.tau": 0.2}}
    experiment = experiment_of(changed(strategy={"name": "boxmask", "eps": 0.01}, arms=arms), "x.yaml")
    assert arm(experiment, "a").strategy.options == {"eps": 0.01, "tau": 0.4}
    assert arm(experiment, "b").strategy.options == {"eps": 0.01, "tau": 0.2}
    other = experiment_of(changed(strategy={"name": "equal", "form": "kl"}, arms={"a": arms["a"]}), "x.yaml")
    assert arm(other, "a").strategy == Component("boxmask", {"tau": 0.4})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trian": {}}, "x.yaml: trian: no such key in Experiment; did you mean 'train'?"),
        ({"train": {"step": 5}}, "x.yaml: train.step: no such key in Train; did you mean 'steps'?"),
        ({"train": {"steps": "many"}}, "x.yaml: train.steps: found 'many'; expected a valid integer"),
        ({"train": {"steps": 5.5}}, "x.yaml: train.steps: found 5.5; expected a valid integer"),
        ({"train": {"steps": 0}}, "steps is 0; expected more than 0"),
        ({"train": {}}, "x.yaml: train.steps: this key is missing; add it"),
        ({"train": {"steps": 5, "schedule": "cosine"}}, "expected 'onecycle', 'poly' or 'constant'"),
        ({"train": {"steps": 5, "flip": 2.0}}, "flip is 2.0; expected 0 to 1"),
        ({"train": {"steps": 5, "augment": {"rotat": 5}}}, "train.augment.rotat: no such key in Recipe; did you mean"),
        ({"train": {"steps": 5, "augment": {"rotate": 500}}}, "rotate is 500.0; expected 0 to 180"),
        ({"train": {"steps": 5, "augment": {"size": [8, 8]}}}, "augment.size is [8, 8]; expected none in training"),
        ({"train": {"steps": 5, "zoom": 0.5, "augment": {}}}, "augment is set beside flip, zoom or colour"),
        ({"active": {"initial": 0.4, "budget": {"amount": -1}, "cycles": 1}}, "amount is -1"),
        ({"active": {"initial": 0.4, "budget": {"amount": 1, "unit": "boxes"}, "cycles": 1}}, "expected 'images'"),
        (
            {"active": {"initial": 2, "budget": {"amount": 9}, "cycles": 1, "pool_subset": 8}},
            "at least the budget of 9",
        ),
        ({"active": {"initial": 2.5, "budget": {"amount": 1}, "cycles": 1}}, "initial is 2.5; expected a share"),
        ({"seeds": []}, "seeds is []; expected at least one number"),
        ({"seeds": [1, 1]}, "seeds is [1, 1]; expected at least one number, each once"),
        ({"tasks": {}}, "tasks is empty"),
        ({"model": 3}, "x.yaml: model: found 3; expected a name"),
        ({"data": {"images": 3}}, "expected a name, or a mapping with 'name'"),
        ({"arms": {"reference": {}}}, "'reference' cannot name an arm"),
        ({"arms": {"a/b": {}}}, "'a/b' cannot name an arm"),
        ({"arms": {"a": {"data.images": 4}}}, "an arm cannot change that"),
        ({"arms": {"a": {"train.stps": 4}}}, "x.yaml: arms.a: train.stps: no such key in Train; did you mean 'steps'?"),
        ({"arms": 3}, "arms: found 3; expected a mapping"),
        ({"name": "a b"}, "expected a word that can name a folder"),
        ({"cluster": {"shard": 0}}, "shard is 0"),
        ({"gallery": {"picks": -1}}, "picks is -1"),
        ({"train": {"steps": 5, "accumulate": 0}}, "accumulate is 0; expected more than 0"),
        ({"train": {"steps": 5, "accumulate": 3}}, "batch is 8; expected a multiple of processes x accumulate = 1 x 3"),
        ({"train": {"steps": 5, "processes": 2}}, "train.processes is 2; expected at most cluster.workers_per_trial"),
        ({"arms": {"a": {"train.processes": 2}}}, "x.yaml: arms.a: train.processes is 2; expected at most"),
        (
            {"train": {"steps": 5, "processes": 2}, "cluster": {"workers_per_trial": 2, "gpus_per_worker": 0.5}},
            "expected a whole GPU for each process",
        ),
    ],
)
def test_refuses_with_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        experiment_of(changed(**changes), "x.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_set_changes_keys_and_is_checked_alike(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(TREE))
    experiment = load(path, ["train.steps=3", "data.size=[96, 160]", "seeds=[4]"])
    assert (experiment.train.steps, experiment.data.options["size"], experiment.seeds) == (3, [96, 160], (4,))
    for text, message in (
        ("train.steps", "found no '='"),
        ("train.stps=4", "did you mean 'steps'?"),
        ("name.x=4", "which has no keys"),
        ("train.steps=[", "not YAML"),
    ):
        with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
            load(path, [text])


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("a: [1\nb: 2\n")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    for name, message in (
        ("list.yaml", "found list; expected a mapping"),
        ("broken.yaml", "is not YAML"),
        ("binary.yaml", "not a text file"),
        ("absent.yaml", "no such file"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(tmp_path / name)


def test_shipped_configurations_are_found_by_name() -> None:
    assert isinstance(load("demo"), Experiment)
    with pytest.raises(ConfigError, match=r"shipped are .*demo"):
        load("dmo")
