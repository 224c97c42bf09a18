"""Every configuration that ships: it loads, can be built, and runs two steps on toy data of the right shape."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from orchestrator import here, running
from orchestrator.config import Experiment, experiment_of, load, plain, read_yaml
from orchestrator.display import Display

HOME = Path(__file__).resolve().parents[1]
CONFIGS = sorted((HOME / "configs").glob("*.yaml"))
EMBEDDED = {"streets", "workbench", "engine_parts"}  # data sets that need no files
IN_SHARED = {  # where the reference material has a data set, or a few images in its form
    "camvid": "data/camvid11",
    "coco": "data/coco_panoptic70",
    "nuimages": "data/fixtures/nuimages",
    "a9": "data/fixtures/tum_a9",
    "cityscapes": "data/fixtures/cityscapes",
    "nyuv2": "data/nyuv2_rgbd13",
}
every_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
TAUGHT = ("streets_teacher", "nyuv2_teacher", "cityscapes_teacher")
FEW = {  # of many arms, those that are trained here; all are built
    "streets_teacher": ("umst-s", "mmmt-s", "ummt-ps"),
    "nyuv2_teacher": ("ummt-pd",),
    "cityscapes_teacher": ("ummt-ps",),
    "pickup_auxnet": ("cross-entropy", "kgc"),
    "pickup": ("iou", "auxnet"),
    "pickup_scales": ("sum-large", "auxnet-small"),
    "weightings": ("kendall", "gradnorm"),
    "depth": ("kendall", "stem"),
    "nuimages": ("cald", "equal", "ll4al"),
    "a9": ("alternation", "cdal"),
    "nyuv2": ("boxmask",),
    "cityscapes": ("boxmask",),
    "camvid": ("boxmask",),
}
SLOW = ("a9", "pickup_auxnet", *TAUGHT)  # networks that are large or many, or those of another one
every_network = pytest.mark.parametrize(
    "path", [pytest.param(p, marks=pytest.mark.slow) if p.stem in SLOW else p for p in CONFIGS], ids=lambda p: p.stem
)


def on_streets(path: Path, **changes: Any) -> dict[str, Any]:
    """The tree of a configuration with a few street scenes (where it needs keypoints, parts) in place of its data."""
    tree = read_yaml(path)
    size = (64, 128) if tree["model"]["name"] == "hourglass" else (64, 96)
    name = "engine_parts" if "keypoints" in tree["tasks"] else "streets"
    data = {"name": name, "images": 12, "validation": 3, "test": 4, "size": list(size)}
    return {**tree, "data": data, **changes}


@every_config
def test_it_loads_and_reads_back_equal(path: Path) -> None:
    experiment = load(path.stem)
    assert experiment.name == path.stem
    assert experiment_of(plain(experiment), path.name) == experiment


@every_config
def test_it_is_written_to_be_read(path: Path) -> None:
    """A comment says what it is for; its keys come in the order of the fields that they fill."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    keys = list(yaml.safe_load(text))
    order = ["name", "data", "tasks", "model", "weighting", "strategy", "teacher", "train", "active", "reference"]
    order += ["arms", "seeds", "cluster", "gallery", "loggers", "output"]
    assert set(order) == set(Experiment.__dataclass_fields__)
    assert keys == sorted(keys, key=order.index)


@pytest.mark.slow
@every_network
def test_all_its_parts_can_be_built(path: Path) -> None:
    running.check(experiment_of(on_streets(path), path.name))
    data = load(path).data
    assert data.name in EMBEDDED or data.options.get("root"), "data that lies somewhere says where"


@pytest.mark.slow
@every_network
def test_it_fits_its_own_data(path: Path, shared: Path) -> None:
    """With the classes and the size of its data, where these are at hand."""
    name = load(path).data.name
    if name not in EMBEDDED | set(IN_SHARED):
        pytest.skip(f"the data set {name!r} is nowhere here; its adapter is tested on a tiny one of the same form")
    sets = [f"data.root={shared / IN_SHARED[name]}"] if name in IN_SHARED else []
    experiment = load(path, sets)
    running.check(experiment)
    assert experiment.data.options["size"][0] % 16 == 0


@pytest.mark.slow
@pytest.mark.parametrize(  # two steps of engine_parts find no keypoint; test_part_chain trains it
    "path", [p for p in CONFIGS if not p.stem.startswith("engine_parts")], ids=lambda p: p.stem
)
def test_it_runs_two_steps(path: Path, tmp_path: Path) -> None:
    """One purchase. The reference takes a few steps more: mDSQ divides by what it finds."""
    steps = 100 if "detection" in read_yaml(path)["tasks"] else 8
    tree = on_streets(path, output=str(tmp_path), seeds=[0], reference={"steps": steps, "seeds": [0]})
    tree["train"] |= {"steps": 2, "first_steps": 2, "batch": 4}
    tree["active"] |= {"cycles": 1}
    if path.stem in FEW:
        tree["arms"] = {name: tree["arms"][name] for name in FEW[path.stem]}
    if path.stem in TAUGHT:
        tree["active"]["initial"] = {task: 4 for task in tree["tasks"]}
    if "gpus_per_worker" in tree["cluster"]:  # made for a cluster: here is one process without a GPU
        tree["train"] |= {"processes": 1}
        tree["cluster"] = {"score_batch": 4}
        tree["model"] |= {"backbone": "pyramid"} if tree["model"]["name"] == "mtinet" else {"name": "small"}
    quiet = Display(Console(quiet=True))
    plan = running.planned(experiment_of(tree, path.name), lambda *told: None)
    report, failures = running.run(plan, lambda plan, units: here.run_units(plan, units, quiet))
    assert failures == []
    assert report.stat().st_size > 10_000
    rows = pq.read_table(report.parent / "cycles.parquet").to_pylist()
    assert [(r["arm"], r["cycle"]) for r in rows] == [(arm, cycle) for arm in tree["arms"] for cycle in (0, 1)]
    assert all(r["mdsq"] >= 0 for r in rows)
