"""What goes to people who label and what comes back: whole commands, from what was typed to what is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import ConfigError
from orchestrator.labeling import (
    Pulled,
    Pushed,
    address_of,
    answers_of,
    pick_task,
    project_of,
    push,
    server_faults,
    write_labels,
)
from orchestrator.picks import (
    Bid,
    Images,
    Picks,
    images_of_run,
    picks_of_run,
    picks_of_scores,
    strategy_of,
    title_of,
    title_of_scores,
    trial_of,
)
from orchestrator.preannotating import categories_of, predicted
from orchestrator.store import RunFolder
from tasks.data.files import Place, place
from tasks.data.label_config import config_of
from tasks.data.label_server import LabelServer

Told = Callable[[str, str, int, int], None]  # unit, phase, done, total


@dataclass(frozen=True)
class Choice:
    """What has chosen images: a run folder, or a list that ``mtal score`` wrote; and which part of it."""

    source: str
    bid: Bid = field(default_factory=Bid)  # of a run
    data: str = ""  # of a list: its pool
    strategy: str = ""  # of a list; "" = the only one

    @property
    def is_run(self) -> bool:
        """Whether it is a run folder. ConfigError where it is no list either."""
        path = place(self.source)
        if path.is_dir() and (path / "experiment.yaml").is_file():
            return True
        if path.suffix == ".parquet" and path.is_file():
            return False
        raise ConfigError(
            f"{self.source}: is neither a run folder nor a .parquet file; expected what has chosen images: correct the "
            f"path"
        )

    def picks(self, top: int | None) -> Picks:
        if self.is_run:
            return picks_of_run(place(self.source), self.bid, top)
        return picks_of_scores(place(self.source), self.data, self.strategy, top)

    def project(self) -> tuple[str, Images]:
        """The title of its project, and the images that may be in there."""
        if self.is_run:
            run = RunFolder(place(self.source))
            return title_of(run, *trial_of(run, self.bid)), images_of_run(run)
        if not self.data:
            raise ConfigError(f"{self.source}: does not tell where its images are; expected that, too: add --data")
        return title_of_scores(self.data, strategy_of(place(self.source), self.strategy)), Images.of(self.data)


@dataclass(frozen=True)
class There:
    """Which project of which server, and how it finds the images."""

    url: str = ""  # "" = as the environment says
    project: str = ""  # number or title; "" = named after what has chosen
    prefix: str = ""
    root: str = ""  # "" = where the data are


@dataclass(frozen=True)
class Drawn:
    """Boxes to start from."""

    checkpoint: str = ""  # "" = the run's; of a list none
    min_score: float | None = 0.3  # None = no boxes


def send(choice: Choice, top: int | None, there: There, drawn: Drawn, told: Told) -> tuple[Pushed, str]:
    """Make tasks of chosen images; what was done, and where people find them. ConfigError or RunError else."""
    with server_faults():
        server = LabelServer.of_environment(there.url)
        picks = choice.picks(top)
    used = (drawn.checkpoint or picks.checkpoint) if drawn.min_score is not None else ""
    known = picks.images.categories
    categories = known or (categories_of(place(used)) if used else [])
    base = place(there.root) if there.root else picks.images.base
    addresses = [address_of(one.path, there.prefix, base) for one in picks.chosen]
    with server_faults():
        server.check()
        project = project_of(server, there.project, picks.title, config_of(categories) if categories else "")
    boxes: list[Any] = [None] * len(picks.chosen)
    if used and drawn.min_score is not None:
        total = len(picks.chosen)
        seen = predicted(place(used), picks.chosen, categories, drawn.min_score)
        for number, found in enumerate(seen):
            boxes[number] = found
            told(picks.title, "predict", number + 1, total)
    model = place(used).parent.name if used else ""
    tasks = [
        pick_task(one, address, categories, seen, model)
        for one, address, seen in zip(picks.chosen, addresses, boxes, strict=True)
    ]
    with server_faults():
        done = push(server, project, tasks, lambda count, total: told(picks.title, "push", count, total))
    return done, f"{server.url}/projects/{project.id}"


def fetch(choice: Choice, there: There, out: Place, is_strict: bool, told: Told) -> Pulled:
    """Write what people have labeled in the project of a choice as a combined COCO file. Like ``send`` else."""
    with server_faults():
        server = LabelServer.of_environment(there.url)
        title, images = choice.project()
        server.check()
        project = project_of(server, there.project, title, "")
        told(project.title, "pull", 0, 0)
        answers = answers_of(server, project)
        paths = paths_of(images, [one["data"] for one in answers.finished])
        return write_labels(project, answers, out, lambda data: paths[str(data["image_id"])], is_strict)


def paths_of(images: Images, data: list[Mapping[str, Any]]) -> dict[str, Place]:
    """Where the images of tasks are, by their ids."""
    return {one.id: images.path(one) for one in images.records([str(d["image_id"]) for d in data], with_sizes=False)}
