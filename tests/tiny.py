"""A whole experiment that takes seconds: sixteen small scenes and a small network. For tests of any room."""

from pathlib import Path
from typing import Any

import yaml


def tiny(output: Path, **changes: Any) -> dict[str, Any]:
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


def write_tiny(path: Path, output: Path, **changes: Any) -> Path:
    """The same as a YAML file."""
    path.write_text(yaml.safe_dump(tiny(output, **changes), sort_keys=False))
    return path
