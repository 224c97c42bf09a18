import csv
import json
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from orchestrator import report, tables
from orchestrator.curves import Results
from orchestrator.errors import RunError
from orchestrator.report import terminal_table, write_report
from tests.orchestrator.fake_run import write_fake_gallery, write_fake_run

SECTIONS = ["result", "curves", "cycles", "classes", "picked", "cost", "data", "settings"]
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """What a page holds: ids, headings, pictures, links, text; tags must close in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.ids: Counter[str] = Counter()
        self.levels: list[int] = []
        self.pictures: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.scripts = 0
        self._open: list[str] = []
        self._words: list[str] = []
        self.feed(self.source)
        assert not self._open, f"left open: {self._open}"
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self._open.append(tag)
        if found.get("id"):
            self.ids[str(found["id"])] += 1
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "img":
            self.pictures.append(found)
        self.scripts += tag == "script"
        self.links += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self._words.append(data)


def page_of(folder: Path) -> Page:
    page = Page(write_report(folder))
    assert [s for s in SECTIONS if page.ids[s] != 1] == []
    assert [i for i, n in page.ids.items() if n > 1] == [], "ids occur once"
    assert page.scripts == 0
    assert [a for a in page.links if not a.startswith(("#", "data:"))] == [], "the page asks for nothing outside itself"
    assert {a[1:] for a in page.links if a.startswith("#")} <= set(page.ids), "every link leads somewhere"
    assert page.levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(page.levels)), "no level of heading is skipped"
    return page


def table_text(folder: Path) -> str:
    console = Console(width=150, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_table(Results.load(folder)))
    console.file.close()
    return console.export_text()


@pytest.mark.slow
def test_a_report_of_a_whole_run(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "demo")
    page = page_of(folder)
    assert "4 arms, 2 seeds: which images of a pool of 400 to label next?" in page.text
    assert "start from the same 160 labeled images" in page.text
    assert "buy 40 more images in each of 3 cycles" in page.text
    assert "measured on the test split (240 images)" in page.text
    assert "mAP 20.0, mIoU 53.8 after 900 steps (mean over seeds 0, 1; split test)" in page.text
    assert "With 2 seeds no pattern of signs reaches p < 0.05 (that takes 6 seeds)" in page.text
    assert "favour uncertainty scores by construction" in page.text
    assert "0123456789abcdef" in page.text
    assert "no full curve" not in page.text
    assert "Dotted: no-new-labels buys no labels" in page.text
    assert not re.search(r"\bnan\b|\binf\b|undefined|None", page.text)
    assert len(page.pictures) == 3 * 2 * 2, "three arms buy, first and last purchase, two pictures"
    assert all(p["alt"] and str(p["src"]).startswith("data:image/jpeg;base64,") for p in page.pictures)
    assert sorted(p.name for p in folder.glob("curves*")) == [
        "curves.csv", "curves_detection.map.svg", "curves_mdsq.svg", "curves_segmentation.miou.svg",
    ]  # fmt: skip
    assert list(folder.glob(".*")) == [], "no temporary file is left"


@pytest.mark.slow
def test_a_report_is_the_same_bytes_twice(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "demo", pictures=1, cycles=1)
    names = ["report.html", "curves.csv", "curves_mdsq.svg"]
    first = [write_report(folder).parent.joinpath(n).read_bytes() for n in names]
    assert [write_report(folder).parent.joinpath(n).read_bytes() for n in names] == first


def test_figures_of_the_tables_are_those_of_the_run(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "demo", pictures=0)
    results = Results.load(folder)
    rows = pq.read_table(folder / "cycles.parquet").to_pylist()
    last = {(r["arm"], r["seed"]): r for r in rows if r["cycle"] == 3}
    equal, random = ([last[arm, s]["mdsq"] * 100 for s in (0, 1)] for arm in ("equal", "random"))
    mean = sum(equal) / 2
    row = tables.headline(results)[1]
    assert row.figures[0] == f"{mean:.1f} ± {abs(equal[0] - equal[1]) / 2**0.5:.1f}"
    assert (row.labeled, row.share, row.seeds) == ("280", "70 %", (0, 1))
    difference = tables.differences(results)[0]
    assert difference.mean == f"{mean - sum(random) / 2:+.1f}"
    full = tables.fully_trained(results)
    assert full is not None
    assert full.figures[0].startswith("100.0 ± ")
    text = table_text(folder)
    assert row.figures[0].replace(" ± ", "±") in text
    assert "900 steps" in text
    assert "seeds 0, 1; split test" in " ".join(text.split())


def test_the_tidy_file_holds_every_figure(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "demo", pictures=0, lost=[("equal", 1, 2)])
    write_report(folder)
    with (folder / "curves.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["arm", "seed", "cycle", "labeled", "metric", "value"]
    table = pq.read_table(folder / "cycles.parquet")
    assert sum(r["metric"] == "mdsq" for r in rows) == table.num_rows
    mine = [
        r for r in rows if (r["arm"], r["seed"], r["cycle"], r["metric"]) == ("equal", "1", "1", "segmentation.miou")
    ]
    row = table.filter((pc.field("arm") == "equal") & (pc.field("seed") == 1) & (pc.field("cycle") == 1)).to_pylist()[0]
    assert [(float(r["value"]), r["labeled"]) for r in mine] == [(row["segmentation.miou"], "200")]
    assert {r["value"] for r in rows if r["metric"] == "detection.ap/sign"} == {""}


@pytest.mark.slow
def test_missing_trials_stand_in_a_box(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "demo", pictures=1, lost=[("boxmask", 1, 2)])
    page = page_of(folder)
    assert page.ids["missing"] == 1
    assert "1 of 8 trials has no full curve" in page.text
    assert "boxmask, seed 1: the process was killed (out of memory)" in page.text
    assert "With 1 to 2 seeds" in page.text
    assert "boxmask seed 1" in table_text(folder)


@pytest.mark.slow
def test_every_string_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>&\"'$x_$"
    folder = write_fake_run(
        tmp_path / "demo",
        arms={"random": {"strategy": "random"}, evil: {"strategy": evil}},
        pictures=1,
        lost=[(evil, 1, 0)],
    )
    gallery = folder / "random" / "seed_0" / "cycle_0" / "gallery" / "gallery.json"
    rows = json.loads(gallery.read_text())
    gallery.write_text(json.dumps([{**rows[0], "id": evil, "parts": {evil: 1.0}}]))
    failures = [{"arm": evil, "seed": 1, "why": evil}]
    (folder / "failures.json").write_text(json.dumps(failures))
    page = page_of(folder)
    assert "<script" not in page.source
    assert page.text.count(evil) >= 6


ONE: dict[str, Any] = {"pictures": 0}
SMALL = [
    ({"seeds": (7,)}, "With 1 seed no pattern"),
    ({"seeds": (7,), "cycles": 0}, "the same first model, and buy no more."),
    ({"tasks": ("segmentation",)}, "mIoU"),
    ({"tasks": ("segmentation", "depth")}, "RMSE, m"),
    ({"evaluations": 4}, "checkpoints were chosen on the validation split"),
    ({"split": "val"}, "the split 'val' (240 images); of each cycle, the last checkpoint"),
    ({"split": "val", "evaluations": 4}, "they are optimistic"),
    ({"data": "camvid"}, "no pictures of its picks"),
    ({"arms": {"only": {"strategy": "equal"}}}, "1 arm, 2 seeds"),
    (
        {"lost": [(a, s, 1) for a in ("random", "equal", "boxmask", "no-new-labels") for s in (0, 1)]},
        "nothing to compare",
    ),
    ({"lost": [("random", s, 0) for s in (0, 1)]}, "2 of 8 trials have no full curve"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("options", "expected"), SMALL, ids=lambda v: v if isinstance(v, str) else "")
def test_small_odd_and_broken_runs_give_a_report(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    folder = write_fake_run(tmp_path / "demo", **{**ONE, **options})
    page = page_of(folder)
    assert expected in page.text
    assert ("Declared bias" in page.text) == (options.get("data", "streets") == "streets")
    assert "mDSQ" in table_text(folder)


def test_undefined_figures_are_dashes(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "demo", pictures=0)
    table = pq.read_table(folder / "cycles.parquet")
    for name in ("mdsq", "detection.map"):
        table = table.set_column(table.column_names.index(name), name, pa.nulls(table.num_rows, pa.float64()))
    pq.write_table(table, folder / "cycles.parquet")
    page = page_of(folder)
    assert "nan" not in page.text
    assert tables.headline(Results.load(folder))[0].figures[:2] == (tables.NOTHING, tables.NOTHING)


def test_a_run_with_nothing_but_rows(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "demo", pictures=0)
    for name in ("experiment.yaml", "environment.json", "reference.json", "failures.json"):
        (folder / name).unlink()
    page = page_of(folder)
    assert "has not recorded on which split" in page.text
    assert "no fully trained reference" in page.text
    pq.write_table(pq.read_table(folder / "cycles.parquet").slice(0, 0), folder / "cycles.parquet")
    assert "nothing to compare" in page_of(folder).text
    with pytest.raises(RunError, match=r"no cycles\.parquet"):
        write_report(tmp_path)


@pytest.mark.slow
def test_many_pictures_are_limited_and_the_limit_is_stated(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "demo", pictures=1, cycles=4, arms={"equal": {"strategy": "equal"}})
    write_fake_gallery(folder / "equal" / "seed_0" / "cycle_0" / "gallery", "equal", report.PICKS + 2)
    write_fake_gallery(folder / "equal" / "seed_1" / "cycle_0" / "gallery", "equal", 1)
    page = page_of(folder)
    assert len(page.pictures) == report.PICKS + 1
    assert "at most 6 pictures each" in page.text
    assert "6 of 8 pictures" in page.text
    assert "after cycle 0" in page.text
    assert "after cycle 3" in page.text
    assert "after cycle 1" not in page.text


@pytest.mark.slow
def test_damaged_pictures_do_not_stop_a_report(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "demo", pictures=2, cycles=2, arms={"equal": {"strategy": "equal"}})
    first, last = (folder / "equal" / "seed_0" / f"cycle_{k}" / "gallery" for k in (0, 1))
    (first / "00.png").write_bytes(b"no picture")
    (first / "01.png").unlink()
    (last / "gallery.json").write_text("[{")
    page = page_of(folder)
    assert page.text.count("the picture is missing or not readable") == 2
    assert "equal/seed_0/cycle_1/gallery/gallery.json is not readable" in page.text


def test_no_name_leads_out_of_the_run_folder(tmp_path: Path) -> None:
    write_fake_gallery(tmp_path / "outside" / "seed_0" / "cycle_0" / "gallery", "equal", 1)
    folder = write_fake_run(tmp_path / "demo", pictures=1, cycles=1, arms={"../outside": {"strategy": "equal"}})
    gallery = folder / "inside" / "seed_0" / "cycle_0" / "gallery"
    write_fake_gallery(gallery, "equal", 1)
    rows = json.loads((gallery / "gallery.json").read_text())
    (gallery / "gallery.json").write_text(json.dumps([{**rows[0], "panel": "../../../../../outside/x.png"}]))
    assert page_of(folder).pictures == []


@pytest.mark.slow
def test_a_run_of_many_arms_keeps_them_apart(tmp_path: Path) -> None:
    arms = {"random": {"strategy": "random"}, **{f"arm-{k}": {"strategy": "equal"} for k in range(11)}}
    folder = write_fake_run(tmp_path / "demo", pictures=0, cycles=10, arms=arms)
    page_of(folder)
    looks = report.styles(Results.load(folder).arms, "random")
    assert len({(look.color, look.dash, look.marker) for look in looks.values()}) == 12
    drawing = (folder / "curves_mdsq.svg").read_text()
    places = re.findall(r'y="([\d.]+)"[^>]*>. (?:arm-\d+|random)</text>', drawing)
    heights = sorted(float(y) for y in places)
    assert len(heights) == 12
    assert heights[0] > 5, "no name leaves the drawing"
    assert heights[-1] < 3.9 * 72
    assert min(b - a for a, b in pairwise(heights)) > 11, "names do not overlap"
