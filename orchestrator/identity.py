"""What artefacts are made from: the sources, the machine, and the parts of a configuration that determine a result."""

import dataclasses
import hashlib
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from orchestrator import __version__
from orchestrator.components import Component, locate, plugin_strategies
from orchestrator.config import Experiment
from orchestrator.errors import RunError

ROOMS = ("orchestrator", "tasks", "strategies", "configs")
HOME = Path(__file__).resolve().parents[1]
# what decides a number; the rest (report, command line, Ray) may change without making results stale
DECISIVE = (
    "tasks",
    "strategies",
    *(f"orchestrator/{m}.py" for m in ("cycle", "fitting", "evaluation", "scoring", "worker", "pool", "checkpoints")),
    *(f"orchestrator/{m}.py" for m in ("effective_batch", "training_group", "validation")),
    *(f"orchestrator/{m}.py" for m in ("teaching", "pseudo_labels", "active")),
)


@cache
def code_fingerprint(parts: tuple[str, ...] = ROOMS) -> str:
    """sha256 over the sources of these rooms or files, as they lay beside this one when it was first asked for."""
    digest = hashlib.sha256()
    for part in parts:
        place = HOME / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(path.relative_to(HOME).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def require_same_sources(code: str, home: str) -> None:
    """RunError where this process runs other sources than the command, whose lie in ``home``."""
    here = code_fingerprint()
    if here != code:
        raise RunError(
            f"cluster: a worker runs other sources ({here}, in {HOME}) than the command ({code}, in {home}); install "
            "the same version on every node, or start 'python -m orchestrator' where the tree is the job's working "
            "directory; if the sources were edited just now, type the same command again"
        )


def plugin_fingerprint(kind: str, component: Component) -> str:
    """sha256 of the module, or of the whole package around it, that a ``module:Class`` or an entry point names.

    "" for what is built in.
    """
    module = locate(kind, component.name, kind).partition(":")[0]  # type: ignore[arg-type]
    top = module.partition(".")[0]
    if top in ROOMS:
        return ""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # a module that was not imported from a file
        spec = None
    if spec is None:
        return module
    if spec.submodule_search_locations is not None:
        sources = [path for folder in spec.submodule_search_locations for path in sorted(Path(folder).rglob("*.py"))]
    else:
        sources = [path for path in (Path(spec.origin or ""),) if path.is_file()]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources))
    return digest.hexdigest()[:16] if sources else module


def base_inputs(experiment: Experiment, data: str) -> dict[str, Any]:
    """What every fit depends on; ``data`` is the manifest's fingerprint."""
    train = {k: v for k, v in vars(experiment.train).items() if k not in ("checkpoint_steps", "steps", "first_steps")}
    recipe = train.pop("augment")
    if recipe is not None:  # experiments without one keep the fingerprint that they had before there were recipes
        train["augment"] = dataclasses.asdict(recipe)
    if train["validate_every"] is None:  # likewise
        del train["validate_every"]
    return {
        "data": {"manifest": data, **experiment.data.options},
        "tasks": dict(experiment.tasks),
        "model": _component("model", experiment.model),
        "weighting": _component("weighting", experiment.weighting),
        "train": train,
        "cluster": {
            "score_batch": experiment.cluster.score_batch,
            "cpus_per_worker": experiment.cluster.cpus_per_worker,
            "gpu": experiment.cluster.gpus_per_worker > 0,
        },
        "code": code_fingerprint(DECISIVE),
    }


def reference_inputs(experiment: Experiment, data: str) -> dict[str, Any]:
    return {**base_inputs(experiment, data), "reference": {"steps": experiment.reference.steps}}


def initial_inputs(experiment: Experiment, data: str, reference: Mapping[str, float] | None) -> dict[str, Any]:
    """What cycle 0 depends on: arms that agree here share it. The reference matters where it chooses the checkpoint."""
    base = base_inputs(experiment, data)
    steps = experiment.train.first_steps or experiment.train.steps
    assert reference is not None or not experiment.train.chooses
    return {
        **base,
        "train": {**base["train"], "first_steps": steps},
        "active": {"initial": experiment.active.initial},
        "reference": dict(reference) if reference is not None and experiment.train.chooses else {},
        **({"teacher": dataclasses.asdict(experiment.teacher)} if experiment.teacher is not None else {}),
    }


def arm_inputs(experiment: Experiment, data: str, reference: Mapping[str, float]) -> dict[str, Any]:
    """What the cycles of an arm depend on. The number of cycles is not in here: more can be added."""
    active, first = experiment.active, initial_inputs(experiment, data, reference)
    silent = ("cycles", *(("oracle",) if active.oracle == "known" else ()))  # the latter as before there were oracles
    return {
        **first,
        "train": {**first["train"], "steps": experiment.train.steps},
        "active": {k: v for k, v in {**vars(active), "budget": vars(active.budget)}.items() if k not in silent},
        "reference": dict(reference),
        "strategy": _component("strategy", experiment.strategy),
        "gallery": vars(experiment.gallery),
    }


def _component(kind: str, component: Component) -> dict[str, Any]:
    offered = {offer.name for offer in plugin_strategies()}
    named = [text for text in _texts(component.options) if ":" in text or text in offered]
    inside = {text: plugin_fingerprint(kind, Component(text)) for text in named}
    return {
        "name": component.name,
        **component.options,
        "plugin": plugin_fingerprint(kind, component),
        **({"plugins": inside} if inside else {}),
    }


def _texts(options: Any) -> Iterator[str]:
    """Every text in options, however deep: a component may hold others by name."""
    if isinstance(options, str):
        yield options
    elif isinstance(options, Mapping):
        for value in options.values():
            yield from _texts(value)
    elif isinstance(options, list | tuple):
        for value in options:
            yield from _texts(value)


def environment(manifest_images: Mapping[str, int], data: Component, gpu: str | None) -> dict[str, Any]:
    """Versions, hardware and data: what a reader needs to judge the figures."""
    versions: dict[str, str | None] = {}
    for name in ("torch", "torchvision", "ray", "numpy", "pyarrow", "timm", "faster-coco-eval"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {
        "mtal": __version__,
        "python": platform.python_version(),
        **versions,
        "platform": platform.platform(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "code": code_fingerprint(),
        "data": {"images": dict(manifest_images), "adapter": {"name": data.name, **data.options}},
        "command": " ".join(["mtal", *sys.argv[1:]]),
    }


def processor() -> str:
    """The name of this machine's processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
