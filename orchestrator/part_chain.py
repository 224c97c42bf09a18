"""mtal parts: from what people labeled to a network that says how parts lie, one step after the other.

Export of Label Studio -> combined COCO file -> copies of the training images -> data and network -> placement on the
test images -> a page. Every step is one that has a verb of its own; what is there is not made again.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator import __version__, running
from orchestrator.augmenting import NAME, Order, augment
from orchestrator.config import load
from orchestrator.errors import ConfigError, RunError
from orchestrator.exporting import Wanted, export_tasks, faults, labels_of
from orchestrator.pages import template
from orchestrator.placement_page import MARKER, PAGE, Where, place_parts, sentences
from orchestrator.placing import Rules
from orchestrator.store import RunFolder, canonical, differences, read_json, write_json, write_text
from tasks.data.combined import CombinedFile, writing_combined
from tasks.data.files import remove_tree
from tasks.data.manifest import NAME as MANIFEST
from tasks.recipe import Recipe

EMBEDDED = "engine_parts"  # the source that needs no files
RECORD, COMBINED, EXPORT = "chain.json", "combined.json", "export.json"
SHARES = (0.1, 0.2)  # of the scenes for validation and test, where the labels name no splits
MIXED = Recipe(flip=0.0, rotate=20.0, scale=(0.9, 1.1), shift=0.05)  # mirrored, a part would be another one
Told = Callable[[str, str, int, int], None]
Shown = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Chain:
    """What is asked for."""

    source: str  # a JSON of Label Studio, or "engine_parts"
    config: str = EMBEDDED
    sets: tuple[str, ...] = ()
    recipe: Recipe = MIXED
    copies: int = 2  # of each training image
    validation: float | None = None  # None: SHARES, where the labels name no splits
    test: float | None = None
    seed: int = 0  # of the copies
    reference: float | None = None  # degrees; None: the data's own, else -90
    score: float = 0.5

    @property
    def is_embedded(self) -> bool:
        return self.source == EMBEDDED


def carry_out(chain: Chain, out: Path, told: Told, shown: Shown, execute: running.Executor, workers: int = 1) -> Path:
    """The page of the finished chain; steps that are done are not done again. ConfigError or RunError else."""
    export, size, reference = _checked(chain, out)
    _refuse_other(chain, out)
    out.mkdir(parents=True, exist_ok=True)
    with RunFolder(out).locked():
        write_json(out / RECORD, _made_from(chain))
        if chain.is_embedded:
            with shown("drawing and exporting scenes"):
                _draw(chain, export, told)
        with shown("one combined COCO file"):
            splits = _combine(export, out / COMBINED, told)
        with shown(f"{chain.copies} copies of each training image"):
            augment(out / COMBINED, out / "augmented", _order(chain, splits), told, workers, export.parent)
        checkpoint, data, figures = _train(chain, out, size, told, shown, execute)
        with shown("placing the parts of the test images"):
            found = _place(checkpoint, data, Rules(reference, chain.score), out / "placed", told)
        page = out / PAGE
        write_text(page, _page(chain, out, found, figures))
    return page


def _checked(chain: Chain, out: Path) -> tuple[Path, Any, float]:
    """The export, the size of images, the reference direction: what can be wrong is told before anything is made."""
    experiment = load(chain.config, chain.sets)
    options = experiment.data.options
    if chain.is_embedded and experiment.data.name != EMBEDDED:
        raise ConfigError(
            f"{chain.config}: its data set is {experiment.data.name!r}; expected {EMBEDDED!r}, whose scenes are "
            "drawn: give another --config, or an export of Label Studio"
        )
    if "size" not in options:
        raise ConfigError(
            f"{chain.config}: has no data.size; expected [height, width] of the images that the network sees: set it"
        )
    export = out / "drawn" / EXPORT if chain.is_embedded else Path(chain.source)
    if not chain.is_embedded and not export.is_file():
        raise ConfigError(
            f"{chain.source}: no such file; expected the JSON export of a Label Studio project, or {EMBEDDED}, whose "
            "scenes are drawn: correct the path"
        )
    reference = chain.reference
    if reference is None:
        reference = float(options.get("reference", -90.0)) if chain.is_embedded else -90.0
    Rules(reference, chain.score)
    _order(chain, Counter({"train": 1}))
    return export, options["size"], reference


def _made_from(chain: Chain) -> dict[str, Any]:
    digest = "" if chain.is_embedded else hashlib.sha256(Path(chain.source).read_bytes()).hexdigest()[:16]
    made: dict[str, Any] = json.loads(canonical({**asdict(chain), "digest": digest}))
    return made


def _refuse_other(chain: Chain, out: Path) -> None:
    """RunError where the folder was made from something else. Before labels were read there is nothing to lose."""
    record = out / RECORD
    if record.is_file():
        lines = differences(read_json(record), _made_from(chain))
        if lines and (out / COMBINED).is_file():
            raise RunError(
                f"{out}: was made from something else ({'; '.join(lines[:5])}); expected the same: choose another "
                "--out, or delete this one"
            )
        if lines and (out / "drawn").is_dir():
            remove_tree(out / "drawn")
    elif out.is_file() or (out.is_dir() and any(not one.name.startswith(".") for one in out.iterdir())):
        raise RunError(f"{out}: holds files that mtal parts has not made; expected a new folder: choose another --out")


# ---- the steps ------------------------------------------------------------------------------------------------------


def _draw(chain: Chain, export: Path, told: Told) -> None:
    """Scenes as people would have labeled them: images, and an export of Label Studio."""
    if export.is_file():
        return
    if not (export.parent / MANIFEST).is_file():
        running.prepare_data(load(chain.config, chain.sets), told, folder=export.parent)
    export_tasks(str(export.parent), str(export), Wanted(), told, is_finished=True)


def _combine(export: Path, combined: Path, told: Told) -> Counter[str]:
    """Write the combined COCO file, names relative to the folder of the export; how many images each split has."""
    with faults():
        if not combined.is_file():
            labels = labels_of(str(export), export.parent.absolute(), Wanted())
            if not any(len(one.get("keypoints") or ()) == 3 for one in labels.head["categories"]):
                raise ConfigError(
                    f"{export}: no class has three keypoints; expected one at least, whose placement they tell: label "
                    "them, or use mtal export and mtal run"
                )
            with writing_combined(combined) as writer:
                for done, (image, annotations) in enumerate(labels.entries, start=1):
                    writer.add(image, annotations)
                    told(export.name, "export", done, labels.total)
                writer.head = labels.head
        return Counter(str(image.get("split", "train")) for image, _ in CombinedFile(combined))


def _order(chain: Chain, splits: Mapping[str, int]) -> Order:
    """What copies are made: the split is drawn before, and only where the labels name none."""
    shares = SHARES if set(splits) <= {"train"} else (0.0, 0.0)
    validation, test = (
        one if asked is None else asked for one, asked in zip(shares, (chain.validation, chain.test), strict=True)
    )
    return Order(chain.recipe, chain.copies, chain.seed, validation=validation, test=test)


def _train(
    chain: Chain, out: Path, size: Sequence[int], told: Told, shown: Shown, execute: running.Executor
) -> tuple[Path, Path, Mapping[str, float]]:
    """The checkpoint, the prepared data, and the figures on the test images."""
    folder = (out / "augmented").absolute()
    data = {
        "name": "coco",
        "root": str(folder),
        "annotations": NAME,
        "images": "",
        "group": "group",
        "size": list(size),
    }
    ours = [f"data={json.dumps(data)}", f"output={json.dumps(str(out.absolute() / 'runs'))}"]
    experiment = load(chain.config, [*chain.sets, *ours])
    with shown(f"{experiment.name}: reading the data"):
        plan = running.planned(experiment, told)
    checkpoint, figures = running.fully_trained(plan, execute)
    return Path(str(checkpoint)), Path(plan.manifest), figures


def _place(checkpoint: Path, data: Path, rules: Rules, folder: Path, told: Told) -> Mapping[str, Any]:
    """The summary of the placement by this network; one by another network, or a part of one, gives way."""
    marker = folder / MARKER
    if not marker.is_file() or read_json(marker)["checkpoint"] != str(checkpoint):
        if folder.is_dir():
            remove_tree(folder)
        place_parts(Where(checkpoint, data), rules, folder, told)
    found: Mapping[str, Any] = read_json(marker)
    return found


def result(out: Path) -> list[str]:
    """What the placement of a finished chain came to, in words."""
    return sentences(read_json(out / "placed" / MARKER))


# ---- the page -------------------------------------------------------------------------------------------------------


def _page(chain: Chain, out: Path, found: Mapping[str, Any], figures: Mapping[str, float]) -> str:
    augmented = CombinedFile(out / "augmented" / NAME)
    images: Counter[str] = Counter()
    copies: Counter[str] = Counter()
    for image, _ in augmented:
        (copies if "augmentation" in image else images)[str(image.get("split", "train"))] += 1
    export = "drawn/export.json" if chain.is_embedded else Path(chain.source).absolute().as_uri()
    steps = [
        {"name": "labels", "link": export, "text": "an export of Label Studio"},
        {"name": "combined", "link": COMBINED, "text": "boxes, outlines and keypoints in one COCO file"},
        {"name": "copies", "link": f"augmented/{NAME}", "text": f"{copies.total()} copies of training images"},
        {"name": "training", "link": _below(found["checkpoint"], out), "text": f"a network of {found['step']} steps"},
        {"name": "placement", "link": f"placed/{PAGE}", "text": f"{found['parts']} parts in {found['images']} images"},
    ]
    splits = [{"name": name, "images": images[name], "copies": copies[name]} for name in ("train", "val", "test")]
    measured = [(name, value) for name, value in sorted(figures.items()) if "/" not in name]
    return template("parts.html").render(
        steps=steps, splits=splits, figures=measured, found=found, said=sentences(found), version=__version__
    )


def _below(path: str, out: Path) -> str:
    """A path as a link on the page, which can be moved with its folder."""
    return Path(path).relative_to(out.absolute()).as_posix()
