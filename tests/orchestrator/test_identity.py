"""What a result is made from: what changes the fingerprint, and what does not."""

import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator import identity
from orchestrator.components import Component, Offer
from orchestrator.config import Experiment, arm, experiment_of
from orchestrator.store import canonical
from tests.tiny import tiny


def experiment(**changes: Any) -> Experiment:
    return experiment_of({**tiny(Path("runs")), **changes}, "x.yaml")


def inputs(one: Experiment, name: str = "random", data: str = "d") -> dict[str, str]:
    """The three fingerprints of an arm, as text."""
    own, full = arm(one, name), {"detection.map": 0.5}
    return {
        "reference": canonical(identity.reference_inputs(one, data)),
        "initial": canonical(identity.initial_inputs(own, data, full)),
        "arm": canonical(identity.arm_inputs(own, data, full)),
    }


TRAIN = {"steps": 3, "first_steps": 5, "batch": 4, "checkpoint_steps": 2}
ACTIVE = {"initial": 0.4, "budget": {"amount": 2}, "cycles": 2}
ALL = {"reference", "initial", "arm"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({"train": {**TRAIN, "rate": 0.1}}, ALL),
        ({"train": {**TRAIN, "checkpoint_steps": 1}}, set()),
        ({"train": {**TRAIN, "accumulate": 2}}, ALL),
        ({"train": {**TRAIN, "augment": {"rotate": 15}}}, ALL),
        ({"train": {**TRAIN, "augment": None}}, set()),
        ({"train": {**TRAIN, "validate_every": 2}}, ALL),
        ({"train": {**TRAIN, "validate_every": None}}, set()),
        ({"train": {**TRAIN, "processes": 2}, "cluster": {"shard": 5, "score_batch": 4, "workers_per_trial": 2}}, ALL),
        ({"cluster": {"shard": 5, "score_batch": 4, "workers_per_trial": 2}}, set()),
        ({"model": {"name": "small", "width": 20}}, ALL),
        ({"weighting": "fixed"}, ALL),
        ({"tasks": {"detection": {}}}, ALL),
        ({"active": {**ACTIVE, "initial": 0.5}}, {"initial", "arm"}),
        ({"active": {**ACTIVE, "budget": {"amount": 3}}}, {"arm"}),
        ({"active": {**ACTIVE, "warm_start": False}}, {"arm"}),
        ({"active": {**ACTIVE, "cycles": 5}}, set()),
        ({"active": {**ACTIVE, "pool_subset": 9}}, {"arm"}),
        ({"active": {**ACTIVE, "oracle": "known"}}, set()),
        ({"active": {**ACTIVE, "oracle": "label_studio"}}, {"arm"}),
        ({"reference": {"steps": 7, "seeds": [0]}}, {"reference"}),
        ({"arms": {"random": {"strategy": "equal"}}}, {"arm"}),
        ({"arms": {"random": {"strategy": "random"}, "new": {"strategy": "equal"}}}, set()),
        ({"seeds": [0, 1, 2]}, set()),
        ({"output": "elsewhere"}, set()),
        ({"cluster": {"shard": 7, "score_batch": 4}}, set()),
        ({"cluster": {"shard": 5, "score_batch": 8}}, ALL),
    ],
)
def test_what_makes_which_results_stale(changes: dict[str, Any], stale: set[str]) -> None:
    before, after = inputs(experiment()), inputs(experiment(**changes))
    assert {name for name in before if before[name] != after[name]} == stale


def test_other_data_make_everything_stale() -> None:
    before, after = inputs(experiment()), inputs(experiment(), data="e")
    assert {name for name in before if before[name] != after[name]} == ALL


def test_the_reference_matters_to_cycle_0_where_it_chooses_the_checkpoint() -> None:
    for evaluations, same in ((1, True), (3, False)):
        one = experiment(train={**TRAIN, "evaluations": evaluations})
        firsts = [identity.initial_inputs(one, "d", {"detection.map": full}) for full in (0.5, 0.6)]
        assert (firsts[0] == firsts[1]) is same


@pytest.mark.slow
def test_two_arms_share_cycle_0_unless_they_train_otherwise() -> None:
    both = {"random": {}, "equal": {"strategy": "equal"}, "slow": {"train.rate": 1.0e-4}}
    one = experiment(arms=both)
    assert inputs(one, "random")["initial"] == inputs(one, "equal")["initial"]
    assert inputs(one, "random")["arm"] != inputs(one, "equal")["arm"]
    assert inputs(one, "random")["initial"] != inputs(one, "slow")["initial"]


def test_the_fingerprint_of_sources_follows_their_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "HOME", tmp_path)
    of = identity.code_fingerprint.__wrapped__  # a process asks once and keeps to the answer
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "a.py").write_text("a = 1\n")
    first = of(("room",))
    assert first == of(("room",))
    (tmp_path / "room" / "a.txt").write_text("no source\n")
    assert first == of(("room",))
    (tmp_path / "room" / "a.py").write_text("a = 2\n")
    assert first != of(("room",))


def test_what_decides_a_number_exists() -> None:
    """A file that was renamed would silently leave the fingerprint."""
    assert [part for part in identity.DECISIVE if not (identity.HOME / part).exists()] == []


def test_a_plugin_is_known_by_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "fingerprinted_plugin.py"
    path.write_text("class Mine: pass\n")
    one = Component("fingerprinted_plugin:Mine")
    first = identity.plugin_fingerprint("strategy", one)
    path.write_text("class Mine: x = 1\n")
    assert first != identity.plugin_fingerprint("strategy", one)
    assert len(first) == 16
    assert identity.plugin_fingerprint("strategy", Component("boxmask")) == ""


def test_a_plugin_inside_another_strategy_is_known_by_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "inner_plugin.py"
    path.write_text("class Mine: pass\n")
    members = ["random", {"name": "inner_plugin:Mine", "x": 1}]
    one = experiment(arms={"random": {"strategy": {"name": "alternation", "members": members}}})
    first = inputs(one)
    path.write_text("class Mine: x = 1\n")
    second = inputs(one)
    assert {name for name in first if first[name] != second[name]} == {"arm"}


def test_a_plugin_that_is_offered_by_name_and_lies_in_a_package_is_known_by_all_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "offered").mkdir()
    for name in ("__init__", "inside", "arithmetic"):
        (tmp_path / "offered" / f"{name}.py").write_text("class Mine: pass\n")
    offers = [Offer("from-a-package", "offered.inside:Mine", "offered", "1")]
    for module in ("identity", "components"):
        monkeypatch.setattr(f"orchestrator.{module}.plugin_strategies", lambda: offers)
    members = {"name": "alternation", "members": ["random", "from-a-package"]}
    for strategy in ("from-a-package", members):
        one = experiment(arms={"random": {"strategy": strategy}})
        first = inputs(one)
        with (tmp_path / "offered" / "arithmetic.py").open("a") as source:
            source.write("x = 1\n")
        second = inputs(one)
        assert {name for name in first if first[name] != second[name]} == {"arm"}


@pytest.mark.parametrize("name", ["no_such_plugin:Mine", "no_such_package.inside:Mine", "__main__:Mine"])
def test_a_plugin_without_a_file_is_known_by_its_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None, raising=False)
    assert identity.plugin_fingerprint("strategy", Component(name)) == name.partition(":")[0]


def test_the_environment_names_versions_hardware_and_data() -> None:
    found = identity.environment({"train": 16}, Component("streets", {"images": 16}), "H200")
    assert found["data"] == {"images": {"train": 16}, "adapter": {"name": "streets", "images": 16}}
    assert found["torch"]
    assert found["gpu"] == "H200"
    assert found["cores"] >= 1
    assert found["cpu"]


def test_without_a_recipe_the_fingerprint_is_what_it_was_before_there_were_recipes() -> None:
    plain = identity.base_inputs(experiment(), "d")["train"]
    assert "augment" not in plain
    told = identity.base_inputs(experiment(train={**TRAIN, "augment": {"rotate": 15}}), "d")["train"]
    assert told["augment"]["rotate"] == 15


def test_with_known_labels_the_fingerprint_is_what_it_was_before_there_were_oracles() -> None:
    assert '"oracle"' not in inputs(experiment())["arm"]
    assert '"oracle":"label_studio"' in inputs(experiment(active={**ACTIVE, "oracle": "label_studio"}))["arm"]
