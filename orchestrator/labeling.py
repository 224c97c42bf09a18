"""People's labels: what was chosen goes to a Label Studio server as tasks, and finished ones come back as labels."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestrator.errors import ConfigError, RunError
from orchestrator.picks import Pick
from tasks.data.combined import writing_combined
from tasks.data.files import Place, leads_below, relative_uri
from tasks.data.label_config import schema_of_config
from tasks.data.label_server import LabelServer, LabelServerError, Project, UnclearAnswer
from tasks.data.label_studio import LabelStudio, combined_entries
from tasks.data.label_tasks import task_of
from tasks.data.objects import S3Path
from tasks.seeding import key_of

AT_ONCE = 50  # tasks of one request: either all of them are there afterwards, or none
TRIES = 20  # unclear answers in a row after which a push gives up
_SETTLE = 1.0  # seconds between two looks at what an unclear request came to
Told = Callable[[int, int], None]  # tasks done, of how many


@dataclass(frozen=True)
class Pushed:
    """What a push came to."""

    project: Project
    new: int
    known: int  # tasks that were there before

    def __str__(self) -> str:
        there = f"; {self.known} were there already" if self.known else ""
        return f"{self.new} new tasks{there}"


@dataclass(frozen=True)
class Pulled:
    """What a pull came to: tasks by their state, and annotations that were written."""

    finished: int
    unfinished: int
    skipped: int
    foreign: int  # tasks that mtal has not made
    annotations: int
    left_out: int  # regions that cannot be used

    def __str__(self) -> str:
        told = f"{self.finished} images, {self.annotations} annotations; {self.unfinished} tasks are not finished"
        more = {"were skipped": self.skipped, "are not mtal's": self.foreign, "regions were left out": self.left_out}
        return told + "".join(f", {count} {words}" for words, count in more.items() if count)


@contextmanager
def server_faults() -> Iterator[None]:
    """What a server, or what it holds, has wrong, as an error that people can mend."""
    try:
        yield
    except (LabelServerError, ValueError) as error:
        raise RunError(str(error)) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise RunError(str(error)) from None


# ---- there ----------------------------------------------------------------------------------------------------------


def address_of(path: Place, prefix: str, root: Place) -> str:
    """Where the server finds an image: ``prefix`` and its name below ``root``; an object as it is. ConfigError else."""
    if isinstance(path, S3Path) and not prefix:
        return str(path)
    if not prefix:
        raise ConfigError(
            f"{path}: is a local file, which the server cannot reach; expected a way to it: add --prefix, such as "
            f"'/data/local-files/?d=' with --root, the folder that the server was told in LOCAL_FILES_DOCUMENT_ROOT"
        )
    if not leads_below(path, root):
        raise ConfigError(f"{path}: lies outside of {root}; expected it below: correct --root")
    return prefix + quote(relative_uri(path, root))


def pick_task(
    pick: Pick,
    address: str,
    categories: Sequence[Mapping[str, Any]],
    predictions: Sequence[Mapping[str, Any]] | None,
    model: str,
) -> dict[str, Any]:
    """The task of a pick: its image, why it was chosen, and what a network sees in it (None: no network looked)."""
    image = {"id": pick.id, "file_name": address, "height": pick.size[0], "width": pick.size[1], "record": pick.id}
    task = task_of({**image, "has": {"detection": predictions is not None}}, predictions or (), categories, model=model)
    task["data"] |= {"key": f"{key_of(pick.id):016x}", **pick.reasons}
    return task


def project_of(server: LabelServer, asked: str, title: str, config: str) -> Project:
    """The project of that number or title; a new one where no other has that title. RunError where it cannot be used.

    ``config``: the labelling configuration of a new one, "" = not known.
    """
    if asked.isdigit():
        return _configured(server, server.project(int(asked)), config)
    name = asked or title
    for _ in range(TRIES):
        found = server.projects(name)
        if len(found) > 1:
            numbers = ", ".join(str(one.id) for one in found)
            raise RunError(
                f"{server.url}: has {len(found)} projects called {name!r} ({numbers}); expected one: choose it by its "
                f"number with --project"
            )
        if found:
            return _configured(server, found[0], config)
        if not config:
            raise RunError(
                f"{server.url}: has no project called {name!r}, and nothing says which classes a new one has; expected "
                f"prepared data or --checkpoint: add one"
            )
        try:
            return server.new_project(name, config)
        except UnclearAnswer:
            time.sleep(_SETTLE)
    raise RunError(_gives_up(server))


def _configured(server: LabelServer, project: Project, config: str) -> Project:
    """A project whose labelling configuration offers all that ``config`` does."""
    if not config:
        return project
    where = f"{server.url}: project {project.id} ({project.title})"
    offered = schema_of_config(project.config or "<View/>", where)
    if not offered.classes and not offered.keypoints:
        return server.set_config(project, config)
    wanted = schema_of_config(config, "the labelling configuration")
    names = (*offered.classes, *(one.label for one in offered.keypoints))
    lacks = [n for n in (*wanted.classes, *(one.label for one in wanted.keypoints)) if n not in names]
    if lacks:
        raise RunError(
            f"{where}: offers the labels {', '.join(names[:8])}; expected {', '.join(lacks[:8])}, too: add them in its "
            f"settings, or choose another --project"
        )
    return project


def push(server: LabelServer, project: Project, tasks: Sequence[Mapping[str, Any]], told: Told) -> Pushed:
    """Add the tasks whose images the project has not, in their order; whatever happens, each is there once."""
    there = _known(server, project)
    missing = [one for one in tasks if one["data"]["image_id"] not in there]
    new, unclear = len(missing), 0
    while missing:
        told(len(tasks) - len(missing), len(tasks))
        try:
            server.add_tasks(project, missing[:AT_ONCE])
        except UnclearAnswer:
            unclear += 1
            if unclear > TRIES:
                raise RunError(_gives_up(server)) from None
            there = _settled(server, project)
            missing = [one for one in missing if one["data"]["image_id"] not in there]
        else:
            unclear, missing = 0, missing[AT_ONCE:]
    told(len(tasks), len(tasks))
    _known(server, project)
    return Pushed(project, new, len(tasks) - new)


def _known(server: LabelServer, project: Project) -> dict[str, int]:
    """The images that a project has tasks for. RunError where it has two for one."""
    found: dict[str, int] = {}
    for one in server.tasks(project):
        id = (one.get("data") or {}).get("image_id")
        if not isinstance(id, str):
            continue
        if id in found:
            raise RunError(
                f"{server.url}: project {project.id} ({project.title}): has the image {id!r} in the tasks {found[id]} "
                f"and {one['id']}; expected one: delete one of them there"
            )
        found[id] = int(one["id"])
    return found


def _settled(server: LabelServer, project: Project) -> dict[str, int]:
    """The same after an unclear answer: looked at until two looks agree, as the server may still be at work."""
    found = _known(server, project)
    while True:
        time.sleep(_SETTLE)
        again = _known(server, project)
        if again == found:
            return found
        found = again


def _gives_up(server: LabelServer) -> str:
    return (
        f"{server.url}: breaks off again and again; expected it to stay up: look at its log, then type the same "
        f"command again, which goes on where this one was"
    )


# ---- and back -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """The tasks of a project, by what people have done with them."""

    finished: list[dict[str, Any]]
    unfinished: list[dict[str, Any]]
    skipped: list[dict[str, Any]]
    foreign: list[dict[str, Any]]


def answers_of(server: LabelServer, project: Project) -> Answers:
    """All tasks of a project: finished (somebody submitted labels), skipped, not yet labeled, and not mtal's."""
    found = Answers([], [], [], [])
    for one in server.tasks(project, with_annotations=True):
        given = one.get("annotations") or []
        if not {"image_id", "key"} <= set(one.get("data") or ()):
            found.foreign.append(one)
        elif any(not (isinstance(answer, dict) and answer.get("was_cancelled")) for answer in given):
            found.finished.append(one)
        else:
            (found.skipped if given else found.unfinished).append(one)
    return found


def write_labels(
    project: Project,
    answers: Answers,
    out: Place,
    path_of: Callable[[Mapping[str, Any]], Place],
    is_strict: bool = True,
) -> Pulled:
    """Write what people have labeled as a combined COCO file, the same bytes for the same labels.

    ``path_of`` tells where the image of a task's data is. ValueError where labels cannot be used.
    """
    left_out = 0
    by_id = {str(one["id"]): one for one in answers.finished}
    with tempfile.TemporaryDirectory(prefix="mtal-") as scratch, writing_combined(out) as writer:
        folder = Path(scratch)
        (folder / "export.json").write_text(json.dumps(answers.finished), encoding="utf-8")
        (folder / "label_config.xml").write_text(project.config, encoding="utf-8")
        source = LabelStudio(scratch, strict=is_strict)
        writer.head = {"categories": source.categories}
        for image, annotations, rest in combined_entries(source):
            data = by_id[image["ls_task_id"]]["data"]
            name = relative_uri(path_of(data), out.parent)
            writer.add({**image, "file_name": name, "record": data["image_id"]}, annotations)
            left_out += len(rest)
        counts = writer.counts
    others = (len(answers.unfinished), len(answers.skipped), len(answers.foreign))
    return Pulled(counts["images"], *others, counts["annotations"], left_out)
