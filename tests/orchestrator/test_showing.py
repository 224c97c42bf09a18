"""mtal show: the page and the folder hold each image that was asked for, whatever is wrong with its files."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator import showing
from orchestrator.errors import ConfigError
from orchestrator.label_sources import Bought, opened
from orchestrator.showing import Shown, Wish, show
from tasks.classes import ClassMap
from tasks.data.manifest import ObjectRecord, Record, write_manifest

CLASSES = ClassMap(("car", "<b>"), ("road", "car"), (1, -1))
LUT = (0, 1, *[-1] * 253, 255)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Five images: with all labels, with a broken map, gone, without labels, with none there."""
    folder = tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    for name in ("a", "b", "d", "sub/e"):
        Image.new("RGB", (40, 20), (9, 9, 9)).save(folder / f"{name}.png")
    Image.fromarray(np.eye(20, 40, dtype=np.uint8)).save(folder / "map.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    one = (ObjectRecord((4, 4, 20, 16), 0), ObjectRecord((1, 1, 5, 5), 1))
    records = [
        Record("a", "a.png", (20, 40), "train", "", one, "map.png"),
        Record("b", "b.png", (20, 40), "train", "", one[:1], "broken.png"),
        Record("c", "c.png", (20, 40), "val", "", one[:1]),
        Record("<i>d", "d.png", (20, 40), "val"),
        Record("sub/e", "sub/e.png", (20, 40), "test", "", ()),
    ]
    write_manifest(folder / "manifest.parquet", records, CLASSES, LUT)
    return folder


def written(prepared: Path, out: Path, **wish: object) -> Shown:
    told: list[tuple[object, ...]] = []
    with opened(str(prepared), "set") as source:
        done = show(source, Wish(**wish), out, lambda *one: told.append(one))  # type: ignore[arg-type]
    assert [one[2] for one in told] == list(range(1, done.images + 1))
    return done


class Page(HTMLParser):
    """What a page shows: its texts by element, and the sources of its pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text: dict[str, list[str]] = {}
        self.sources: list[str | None] = []
        self.inside = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.text.setdefault(tag, []).append("")
        if tag == "img":
            self.sources.append(dict(attrs)["src"])

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.text[self.inside][-1] += data


def test_the_page_holds_each_image_its_labels_and_its_faults(prepared: Path, tmp_path: Path) -> None:
    done = written(prepared, tmp_path / "page.html")
    assert (done.images, done.faulty, done.smaller) == (5, 2, "")
    assert done.size == (tmp_path / "page.html").stat().st_size
    page = Page(tmp_path / "page.html")
    assert [one for one in page.text["code"] if one][:5] == ["a", "b", "<i>d", "c", "sub/e"]
    assert len(page.sources) == 5
    assert all(one.startswith("data:image/jpeg;base64,") for one in page.sources)
    text = (tmp_path / "page.html").read_text()
    assert "<i>d" not in text, "what comes from outside is escaped"
    assert "c.png: no such file" in text
    assert "broken.png: cannot be decoded" in text
    assert "no label of objects · no label of pixels" in text
    assert "labeled: no object is there" in text
    assert not re.search(r'(src|href)="(?!data:|#)', text), "nothing is loaded from elsewhere"
    assert "97.5 %" in text, "the share of road in the one map that can be read"


def test_only_what_is_asked_for(prepared: Path, tmp_path: Path) -> None:
    done = written(prepared, tmp_path / "page.html", ids=("sub/e", "a"), tasks=("segmentation",))
    assert (done.images, done.faulty) == (2, 0)
    assert [one for one in Page(tmp_path / "page.html").text["code"] if one][:2] == ["a", "sub/e"]
    assert written(prepared, tmp_path / "page.html", count=2).images == 2


def test_a_folder_holds_a_png_of_each_and_a_list(prepared: Path, tmp_path: Path) -> None:
    done = written(prepared, tmp_path / "out" / "pictures")
    with (tmp_path / "out" / "pictures" / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["a", "b", "<i>d", "c", "sub/e"]
    assert [bool(row["fault"]) for row in rows] == [False, True, False, True, False]
    assert rows[4]["file"] == "00005_sub_e.png"
    sizes = []
    for row in rows:
        with Image.open(tmp_path / "out" / "pictures" / row["file"]) as picture:
            picture.load()
            sizes.append((tmp_path / "out" / "pictures" / row["file"]).stat().st_size)
    assert sum(sizes) == done.size
    with pytest.raises(ConfigError, match="is there already, and not empty"):
        written(prepared, tmp_path / "out" / "pictures")


def test_many_images_are_small_and_the_page_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showing, "PAGE_BYTES", 6 << 20)
    Image.new("RGB", (64, 48), (200, 30, 30)).save(tmp_path / "a.png")
    records = (Record(f"image {i}", "a.png", (48, 64), "train", objects=()) for i in range(300))
    write_manifest(tmp_path / "manifest.parquet", records, ClassMap(("car",), (), (-1,)), LUT)
    done = written(tmp_path, tmp_path / "page.html", count=300)
    assert done.images == 300
    assert done.width == 240
    assert "300 images are many for one page: they are drawn 240 px wide" in done.smaller
    assert (tmp_path / "page.html").stat().st_size < showing.PAGE_BYTES
    monkeypatch.setattr(showing, "MOST_ON_PAGE", 299)
    with pytest.raises(ConfigError, match="expected at most 299 on one page"):
        written(tmp_path, tmp_path / "other.html", count=300)
    assert not (tmp_path / "other.html").exists()


@pytest.mark.parametrize(
    ("out", "wish", "words"),
    [
        ("page.html", {"tasks": ("boxes",)}, "--task boxes: no such task; expected one of detection, "),
        ("page.html", {"ids": ("nothing",)}, "--ids nothing: set shows no such image"),
        ("a.png", {}, "is neither a page nor a folder"),
        ("folder.html", {}, "is a folder; expected the name of a page"),
        ("file", {}, "is there already"),
    ],
)
def test_bad_wishes_are_one_sentence_and_leave_nothing(
    prepared: Path, tmp_path: Path, out: str, wish: dict[str, object], words: str
) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=words) as error:
        written(prepared, tmp_path / out, **wish)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.html", "set"]


def test_predictions_of_a_checkpoint_stand_beside_what_an_arm_has_bought(tiny_run: Path, tmp_path: Path) -> None:
    run = str(tiny_run / "runs" / "tiny")
    wish = Wish(2, checkpoint=next((tiny_run / "runs" / "tiny" / "reference").rglob("model.pt")))
    with opened(run, run, arm=Bought("boxmask", 0, 1)) as source:
        assert show(source, wish, tmp_path / "page.html", lambda *told: None).images == 2
    text = (tmp_path / "page.html").read_text()
    assert (
        text.count('<p class="caption">predicted detection') == text.count('<p class="caption">classes of pixels') == 2
    )
    assert text.count('<p class="caption">predicted segmentation') == 2
    assert text.count('<p class="caption">depth') == 0, "no depth was bought"
