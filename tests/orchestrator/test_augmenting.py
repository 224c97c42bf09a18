"""mtal augment: the same files for any workers and after any kill, nothing overwritten, each error a sentence."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from orchestrator.augmenting import Counts, Order, augment, recipe_of
from orchestrator.errors import ConfigError, RunError
from orchestrator.preparing import prepare
from tasks.data.coco import Coco
from tasks.data.manifest import Manifest
from tasks.geometry import rle_area, rle_of
from tasks.recipe import Recipe
from tests.data.joint import CATEGORIES, write_joint

HOME = Path(__file__).resolve().parents[2]
RECIPE = Recipe(rotate=25.0, scale=(0.8, 1.2), crop=(0.7, 1.0), photometric=({"name": "GaussNoise", "p": 0.5},))


def order(**changes: Any) -> Order:
    return Order(**{"recipe": RECIPE, "copies": 3, **changes})


def silent(*told: object) -> None:
    pass


def tree(folder: Path) -> dict[str, str]:
    """Every file that is there, and its content."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "annotations.json").read_text())
    return found


def test_originals_stay_and_copies_stand_beside_them(tmp_path: Path) -> None:
    source, made = write_joint(tmp_path / "from"), tmp_path / "to"
    counts = augment(source.parent, made, order(), silent)
    assert counts is not None
    assert (counts.originals, counts.copies) == (4, 9)  # the image of val is not copied
    before, after = json.loads(source.read_text()), content(made)
    assert (after["info"], after["categories"]) == (before["info"], CATEGORIES)
    assert len({one["id"] for one in after["images"]}) == 13
    assert len({one["id"] for one in after["annotations"]}) == len(after["annotations"])
    originals = [one for one in after["images"] if "augmentation" not in one]
    assert [{k: v for k, v in one.items() if k != "group"} for one in originals] == before["images"]
    assert [one for one in after["annotations"] if "augmented_from" not in one] == before["annotations"]
    for image in after["images"]:
        with Image.open(made / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
    for name in tree(source.parent):
        assert name == "annotations.json" or (made / name).read_bytes() == (source.parent / name).read_bytes()
    files = ["annotations.json", "augment.json", "classes.json", "depth", "images", "semantic"]
    assert sorted(p.name for p in made.iterdir()) == files
    objects = sum("augmented_from" in one for one in after["annotations"])
    assert counts.objects == objects
    assert counts.objects + counts.removed.total() == 9 * 4


def test_what_was_made_can_be_read_by_others(tmp_path: Path) -> None:
    augment(write_joint(tmp_path / "from"), tmp_path / "to", order(), silent)
    coco = COCO(str(tmp_path / "to" / "annotations.json"))
    for one in coco.loadAnns(coco.getAnnIds()):
        if one["segmentation"]:
            image = coco.loadImgs(one["image_id"])[0]
            drawn = rle_area(rle_of(one["segmentation"], (image["height"], image["width"])))
            assert abs(drawn - one["area"]) <= 2 * np.sqrt(one["area"]) + 4  # the rim
    report = prepare(Coco(str(tmp_path / "to"), group="group"), tmp_path / "manifest")
    assert report.counts.total() == 0
    assert len(Manifest.open(tmp_path / "manifest")) == 13


@pytest.mark.slow
def test_a_stopped_command_carries_on_to_the_same_files(tmp_path: Path) -> None:
    source, wanted = write_joint(tmp_path / "from"), order(copies=20, recipe=Recipe(rotate=25.0))
    augment(source, tmp_path / "whole", wanted, silent)

    class Stop(Exception):
        pass

    def stopping(unit: str, phase: str, done: int, total: int) -> None:
        if done >= 20:
            raise Stop

    for _ in range(2):
        with pytest.raises(Stop):
            augment(source, tmp_path / "cut", wanted, stopping)
        assert not (tmp_path / "cut" / "annotations.json").exists()
    told: list[tuple[int, int]] = []
    augment(source, tmp_path / "cut", wanted, lambda unit, phase, done, total: told.append((done, total)))
    assert told[-1] == (64, 64)
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")
    assert augment(source, tmp_path / "cut", wanted, silent) is None  # all was there


def test_seeds_differ_and_more_copies_begin_with_the_same(tmp_path: Path) -> None:
    source = write_joint(tmp_path / "from")
    for name, changes in (("a", {}), ("b", {"copies": 5}), ("c", {"seed": 1})):
        augment(source, tmp_path / name, order(**changes), silent)
    images = {
        name: {k: v for k, v in tree(tmp_path / name).items() if "aug" in k and k.endswith("png")} for name in "abc"
    }
    assert images["a"].items() <= images["b"].items()
    assert not set(images["a"].values()) & set(images["c"].values())


@pytest.mark.slow
def test_copies_stay_with_their_original(tmp_path: Path) -> None:
    """Splits are drawn before anything is copied: by scenes, and the copies are of the same."""
    source = write_joint(tmp_path / "from", splits=(None,) * 40)
    augment(source, tmp_path / "to", order(copies=1, group="scene", validation=0.3, test=0.2), silent)
    after = content(tmp_path / "to")["images"]
    by_scene: dict[str, set[str]] = {}
    for one in after:
        by_scene.setdefault(one["scene"], set()).add(one["split"])
    assert all(len(splits) == 1 for splits in by_scene.values())
    assert {one["split"] for one in after} == {"train", "val", "test"}
    assert {one["split"] for one in after if "augmentation" in one} == {"train"}
    augment(source, tmp_path / "own", order(copies=1), silent)  # no scenes: each original is one, with its copies
    groups = [one["group"] for one in content(tmp_path / "own")["images"]]
    assert sorted(groups) == sorted(2 * [f"images/{i:03d}.png" for i in range(1, 41)])


def test_folders_are_those_of_the_data_section(tmp_path: Path) -> None:
    """COCO's own layout: lists in one folder, images in another, semantic maps named as the images."""
    path = write_joint(tmp_path / "from")
    tree_of = json.loads(path.read_text())
    for image in tree_of["images"]:
        image["file_name"] = Path(image["file_name"]).name
        del image["sem_file_name"], image["depth_file"]
    (path.parent / "lists").mkdir()
    moved = path.rename(path.parent / "lists" / "train.json")
    moved.write_text(json.dumps(tree_of))
    wanted = order(images="images", semantic="semantic", recipe=Recipe(flip=1.0))
    augment(moved, tmp_path / "to", wanted, silent, root=path.parent)
    names = {one["file_name"] for one in content(tmp_path / "to")["images"]}
    assert {"001.png", "001_aug0000.png", "004.png"} <= names
    for folder in ("images", "semantic"):
        before = np.asarray(Image.open(path.parent / folder / "002.png"))
        assert np.array_equal(np.asarray(Image.open(tmp_path / "to" / folder / "002_aug0001.png")), before[:, ::-1])
    adapter = Coco(str(tmp_path / "to"), images="images", semantic="semantic", group="group")
    assert prepare(adapter, tmp_path / "manifest").counts.total() == 0


def test_other_splits_may_be_copied(tmp_path: Path) -> None:
    counts = augment(write_joint(tmp_path / "from"), tmp_path / "to", order(splits=("val",)), silent)
    assert counts is not None
    assert (counts.originals, counts.copies) == (4, 3)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    source = write_joint(tmp_path / "from")
    with pytest.raises(RunError, match="from: holds files that mtal augment has not made; expected a new folder"):
        augment(source, tmp_path / "from", order(), silent)
    augment(source, tmp_path / "to", order(), silent)
    with pytest.raises(
        RunError, match=r"to: was made from something else \(copies: 3 -> 4; recipe.rotate: 25.0 -> 5.0\)"
    ):
        augment(source, tmp_path / "to", order(copies=4, recipe=Recipe(**{**vars(RECIPE), "rotate": 5.0})), silent)
    source.write_text(source.read_text().replace('"version": "1"', '"version": "2"'))
    with pytest.raises(RunError, match="was made from something else"):
        augment(source, tmp_path / "to", order(), silent)
    with pytest.raises(RunError, match=r"lists images/001_aug0000.png, which is the name of a copy"):
        augment(tmp_path / "to", tmp_path / "more", order(), silent)


def without_an_id(root: Path) -> None:
    content = json.loads((root / "annotations.json").read_text())
    del content["annotations"][0]["id"]
    (root / "annotations.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (lambda root: (root / "images/002.png").unlink(), r"images/002.png: no such file"),
        (lambda root: (root / "images/002.png").write_bytes(b"no"), r"images/002.png: cannot be decoded"),
        (lambda root: (root / "annotations.json").write_text("{"), "annotations.json: is not JSON"),
        (lambda root: (root / "annotations.json").write_text("{}"), "has the keys .none.; expected 'images'"),
        (lambda root: (root / "annotations.json").unlink(), "no such file; expected the combined COCO file"),
        (lambda root: np.save(root / "depth/002.npy", np.zeros(3)), r"depth/002.npy: holds float64 \(3,\)"),
    ],
)
def test_bad_input_is_a_sentence_and_can_be_mended(tmp_path: Path, breaks: Any, message: str) -> None:
    root = write_joint(tmp_path / "from").parent
    breaks(root)
    with pytest.raises(RunError, match=message):
        augment(root, tmp_path / "to", order(), silent)
    assert not (tmp_path / "to" / "annotations.json").exists()


def test_recipes_are_read_and_told(tmp_path: Path) -> None:
    path = tmp_path / "augment.yaml"
    path.write_text("rotate: 10\nphotometric:\n- {name: GaussNoise, p: 0.5}\n")
    recipe = recipe_of(path, ["scale=[0.5, 2]", "flip=0"])
    assert (recipe.rotate, recipe.scale, recipe.flip) == (10, (0.5, 2), 0)
    assert recipe.photometric == ({"name": "GaussNoise", "p": 0.5},)
    assert recipe_of(None, []) == Recipe()
    for sets, message in (
        (["rotat=1"], "--set: rotat: no such key in Recipe; did you mean 'rotate'?"),
        (["rotate=far"], "--set: rotate: found 'far'; expected a valid number"),
        (["rotate"], "--set rotate: found no '='"),
        (["rotate=["], "--set: is no YAML"),
        (["photometric=[{name: Rotate}]"], "Rotate is not a change of light alone"),
        (["perspective=0.5"], "perspective is 0.5; expected 0 to 0.2"),
    ):
        with pytest.raises(ConfigError) as told:
            recipe_of(None, sets)
        assert message in str(told.value)
    path.write_text("- 1")
    with pytest.raises(ConfigError, match=r"augment.yaml: found list; expected keys"):
        recipe_of(path, [])
    with pytest.raises(ConfigError, match="is no YAML that can be read"):
        recipe_of(tmp_path / "none.yaml", [])


def test_orders_are_checked_and_counts_are_told() -> None:
    with pytest.raises(ConfigError, match="--copies 0: expected 1 or more"):
        order(copies=0)
    with pytest.raises(ConfigError, match=r"--validation 0.7 --test 0.4: expected shares"):
        order(validation=0.7, test=0.4)
    counts = Counts(originals=2)
    counts.add({"augmentation": {"removed": [{"reason": "outside"}]}}, [{}, {}])
    assert str(counts) == "2 originals, 1 copies with 2 objects; objects that copies lost: 1 outside"


@pytest.mark.soak
def test_a_killed_command_carries_on_to_the_same_files(tmp_path: Path) -> None:
    """The whole command with two worker processes, killed at several moments, against one process."""
    source = write_joint(tmp_path / "from", splits=("train",) * 6)
    words = [sys.executable, "-W", "ignore", "-m", "orchestrator", "augment", str(source)]
    options = ["--copies", "48", "--set", "rotate=30", "--set", "photometric=[{name: GaussNoise, p: 0.5}]"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*words, str(tmp_path / "whole"), *options], cwd=HOME, env=env, check=True, capture_output=True)
    kills = 0
    while not (tmp_path / "killed" / "annotations.json").exists():
        command = subprocess.Popen(
            [*words, str(tmp_path / "killed"), *options, "--workers", "2"], cwd=HOME, env=env, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        parts = len(list((tmp_path / "killed").glob(".augment/*.json")))
        while command.poll() is None and kills < 2:
            if len(list((tmp_path / "killed").glob(".augment/*.json"))) > parts + 2:
                os.killpg(command.pid, signal.SIGKILL)
                kills += 1
            time.sleep(0.02)
        command.wait()
    assert kills >= 1
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
