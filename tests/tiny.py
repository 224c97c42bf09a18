"""A whole experiment that takes seconds: sixteen small scenes and a small network. For tests of any room."""

from pathlib import Path
from typing import Any

import yaml

from orchestrator.store import read_table
from tasks.data.files import Place


def tiny(output: Place | str, **changes: Any) -> dict[str, Any]:
    """The tree of a tiny experiment; keyword arguments replace whole keys."""
    tree: dict[str, Any] = {
        "name": "tiny",
        "data": {"name": "streets", "images": 16, "validation": 4, "test": 6, "size": [64, 96]},
        "tasks": {"detection": {}, "segmentation": {}},
        "model": {"name": "small", "width": 16},
        "train": {"steps": 3, "first_steps": 5, "batch": 4, "checkpoint_steps": 2},
        "active": {"initial": 0.4, "budget": {"amount": 2}, "cycles": 2},
        "reference": {"steps": 6, "seeds": [0]},
        "arms": {
            "random": {"strategy": "random"},
            "boxmask": {"strategy": {"name": "boxmask", "crop_size": 32, "min_score": 0.05}},
        },
        "seeds": [0],
        "cluster": {"shard": 5, "score_batch": 4},
        "gallery": {"picks": 1},
        "output": str(output),
    }
    return {**tree, **changes}


def write_tiny(path: Path, output: Place | str, **changes: Any) -> Path:
    """The same as a YAML file."""
    path.write_text(yaml.safe_dump(tiny(output, **changes), sort_keys=False))
    return path


def results(folder: Place) -> dict[str, Any]:
    """All that two runs must agree on: what was bought and every figure (clocks apart)."""
    table = read_table(folder / "cycles.parquet")
    kept: dict[str, Any] = {
        n: [repr(v) for v in table[n].to_pylist()] for n in table.column_names if not n.startswith("seconds.")
    }
    for path in sorted(folder.glob("*/seed_*/cycle_*/bought.parquet"), key=str):
        kept[str(path)[len(str(folder)) + 1 :]] = read_table(path).to_pylist()
    return kept
