"""What goes to people who label and what comes back: whole commands, from what was typed to what is told."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.cycle import waiting
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
from orchestrator.store import CHOSEN, LABELS, RunFolder, commit, read_json, read_table, write_table
from tasks.data.coco import object_of
from tasks.data.combined import CombinedFile
from tasks.data.files import Place, place
from tasks.data.label_config import config_of
from tasks.data.label_server import LabelServer
from tasks.data.manifest import Manifest, Record, write_manifest
from tasks.seeding import key_of

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
        project = project_of(server, there.project, picks.title, config_of(categories) if categories else "")
        done = push(server, project, tasks, lambda count, total: told(picks.title, "push", count, total))
    return done, f"{server.url}/projects/{project.id}"


def accept(choice: Choice, labels: Place, skipped: Sequence[str], is_partial: bool) -> str:
    """Hand the pulled labels of a waiting cycle to its run, which can go on then; what was done, "" where none waits.

    Images without a finished or skipped task hold it back, but where ``is_partial``: they go back to the pool, as
    skipped ones do. Semantic maps and depth stay those of the data set: people were not asked for them.
    """
    run = RunFolder(place(choice.source))
    arm, seed = trial_of(run, choice.bid)
    waits = waiting(run, arm, seed)
    if waits is None:
        return ""
    folder = run.cycle(arm, seed, waits[0])
    chosen = read_table(folder / "chosen.parquet")
    images = images_of_run(run)
    assert images.manifest is not None
    with server_faults():
        given = labels_by_people(CombinedFile(labels), images.manifest, set(chosen["id"].to_pylist()))
    left = [id for id in chosen["id"].to_pylist() if id not in given and id not in skipped]
    who = f"cycle {waits[0]} of {arm}, seed {seed}"
    if left and not is_partial:
        return f"{who}: {len(left)} of {len(chosen)} images are not labeled yet; label them, or add --partial"
    with run.locked():
        manifest = images.manifest
        write_manifest(folder / LABELS, given.values(), manifest.classes, manifest.lut, manifest.size)
        known = pa.array(list(given), pa.string())
        write_table(folder / "bought.parquet", chosen.filter(pc.is_in(chosen["id"], value_set=known)))
        made = read_json(folder / CHOSEN)
        commit(folder / "purchase.json", {**made, "images": len(given), "chosen": len(chosen)})
    return f"{who}: {len(given)} of {len(chosen)} images are bought; type the same mtal run again, which goes on"


def labels_by_people(file: CombinedFile, manifest: Manifest, wanted: Set[str]) -> dict[str, Record]:
    """The wanted images of a combined COCO file with its objects, as records of a manifest; by their ids."""
    names, points = manifest.classes.detection, manifest.classes.keypoints
    labels: dict[int, int] = {}
    slots: dict[int, list[int]] = {}
    for one in file.categories:
        if one["name"] not in names:
            raise ValueError(
                f"{file.path}: has the class {one['name']!r}; expected those of the run, {', '.join(names)}: take it "
                f"out of the project's settings"
            )
        labels[one["id"]] = names.index(one["name"])
        told = [n if n in points else f"{one['name']}.{n}" for n in one.get("keypoints") or ()]
        slots[one["id"]] = [points.index(n) if n in points else -1 for n in told]
    found: dict[str, Record] = {}
    for image, annotations in file:
        if image["record"] not in wanted:
            continue
        record = manifest.record(int(manifest.rows_of(np.array([key_of(image["record"])], np.uint64))[0]))
        if (image["height"], image["width"]) != record.size:
            raise ValueError(
                f"{file.path}: image {record.id!r} was labeled at {image['width']} x {image['height']} px; expected "
                f"{record.size[1]} x {record.size[0]}: has the file been replaced since?"
            )
        objects = [
            object_of({**one, "keypoints": _placed(one, slots[one["category_id"]], len(points))}, labels, record.size)
            for one in annotations
        ]
        found[record.id] = replace(record, objects=tuple(objects))
    return found


def _placed(annotation: Mapping[str, Any], slots: Sequence[int], count: int) -> tuple[float, ...]:
    """The keypoints of an annotation among all ``count`` of a data set; () where it has none."""
    given = annotation.get("keypoints") or ()
    if not given:
        return ()
    found = [0.0] * (3 * count)
    for number, slot in enumerate(slots):
        if slot >= 0:
            found[3 * slot : 3 * slot + 3] = given[3 * number : 3 * number + 3]
    return tuple(found)


def fetch(
    choice: Choice, there: There, out: Place, is_strict: bool, told: Told, is_partial: bool = False
) -> tuple[Pulled, str]:
    """Write what people have labeled in the project of a choice as a combined COCO file; a run that waits takes it.

    What was pulled, and what the run did with it. ConfigError or RunError else.
    """
    with server_faults():
        server = LabelServer.of_environment(there.url)
        title, images = choice.project()
        server.check()
        project = project_of(server, there.project, title, "")
        told(project.title, "pull", 0, 0)
        answers = answers_of(server, project)
        paths = paths_of(images, [one["data"] for one in answers.finished])
        found = write_labels(project, answers, out, lambda data: paths[str(data["image_id"])], is_strict)
    skipped = [str(one["data"]["image_id"]) for one in answers.skipped]
    return found, accept(choice, out, skipped, is_partial) if choice.is_run else ""


def paths_of(images: Images, data: list[Mapping[str, Any]]) -> dict[str, Place]:
    """Where the images of tasks are, by their ids."""
    return {one.id: images.path(one) for one in images.records([str(d["image_id"]) for d in data], with_sizes=False)}
