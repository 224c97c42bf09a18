"""Prepare a COCO set by a cluster of this machine, whose first worker may die: run as a program, since Ray reads its
environment when it is imported.

    python -m tests.ray.looking ROOT OUT [MARK]
"""

import os
import signal
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from orchestrator.execution import file_lookers
from orchestrator.preparing import Site, prepare
from tasks.data.coco import Coco

FIELDS: dict[str, Any] = {"annotations": "annotations/instances_{split}2017.json", "images": "{split}2017"}


@dataclass(frozen=True)
class Deadly:
    """A site whose first worker dies."""

    site: Site
    mark: Path
    driver: int  # the process that must not

    def files(self, record: Any) -> Any:
        if os.getpid() != self.driver and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.site.files(record)


def main(root: str, out: str, mark: str = "") -> None:
    with file_lookers("local") as elsewhere:
        module = import_module("orchestrator.preparing_on_ray")
        module.BATCH, module.WINDOW = 2, 4  # type: ignore[attr-defined]
        if mark:
            plain = module._on_workers
            deadly = lambda rows, site: plain(rows, Deadly(site, Path(mark), os.getpid()))  # noqa: E731
            module._on_workers = deadly  # type: ignore[attr-defined]
        print(prepare(Coco(root, **FIELDS), Path(out), "skip", elsewhere=elsewhere))


if __name__ == "__main__":
    main(*sys.argv[1:])
