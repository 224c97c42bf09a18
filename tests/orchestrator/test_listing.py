"""The list of strategies: all that have a name, what they cost, and a sentence for each that cannot be used."""

import json
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator import __version__
from orchestrator.cli import main
from orchestrator.components import Component, make
from orchestrator.errors import ConfigError
from orchestrator.listing import Cost, Crops, Listed, list_strategies, skipped, strategies_json, strategies_table
from strategies import STRATEGIES

Install = Callable[..., None]
PLUGIN = '''
from dataclasses import dataclass, field

import torch

from strategies.base import Rendered, Score, Strategy
from strategies.uniform import Random
from strategies.views import BoxCrops, HFlip

print("a line that a plugin prints when it is imported")


@dataclass(frozen=True)
class Half:
    """The image at half of its height and width, or one such image for each detection."""

    after: bool = False
    broken: bool = False
    reads: tuple[str, ...] = ("segmentation",)

    def render(self, images, inputs, plain, rngs, fill):
        assert (plain is None) != self.after
        if self.broken:
            raise ZeroDivisionError("of\\nthe view")
        index = torch.arange(len(plain[0].detections.scores) if self.after else 1) * 0
        return Rendered(images[index][:, :, ::2, ::2], index, torch.zeros(len(index), 2, 3))


@dataclass(frozen=True)
class Mine(Strategy):
    seen: tuple = ()
    read: tuple = ("detection",)

    @property
    def reads(self):
        return self.read

    @property
    def views(self):
        return self.seen


@dataclass(frozen=True)
class Turns(Strategy):
    def at(self, cycle):
        return Mine((HFlip(),)) if cycle % 2 else Random()


@dataclass(frozen=True)
class Needs(Strategy):
    alpha: float
    beta: float = 1.0
    gamma: str = field(kw_only=True)


@dataclass(frozen=True)
class Refuses(Strategy):
    def __post_init__(self):
        raise ValueError("no such day")


@dataclass(frozen=True)
class Divides(Strategy):
    def __post_init__(self):
        1 / 0


@dataclass(frozen=True)
class Ends(Strategy):
    def __post_init__(self):
        raise SystemExit(3)


@dataclass(frozen=True)
class Diversity(Strategy):
    scores_labeled = True


class NoStrategy:
    reads = views = ()
    scores_labeled = False
    score_batch = select = explain = at = print


def views():
    return Mine((HFlip(), Half(), Half(after=True), BoxCrops(96, limit=7)))


def two_views():
    return Mine((Half(reads=("segmentation",)), Half(reads=("detection",))), ())


def broken_view():
    return Mine((Half(broken=True),))


def reads_a_text():
    return Mine((), "detection")


def makes_none():
    return None


NUMBER = 3
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs packages with entry points, as installers do: a folder on the path with their metadata."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "listed_plugin.py").write_text(PLUGIN)
    (site / "listed_zero.py").write_text("1 / 0\n")
    (site / "listed_ends.py").write_text("import sys\nsys.exit('no licence')\n")
    (site / "listed_wants.py").write_text("import surely_not_installed\n")
    monkeypatch.syspath_prepend(site)

    def write(package: str, version: str = "1.2", text: str = "", **points: str) -> None:
        info = site / f"{package.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        rows = "\n".join(f"{name} = {target}" for name, target in points.items())
        (info / "entry_points.txt").write_text(text or f"[mtal.strategies]\n{rows}\n")

    yield write
    for name in ("listed_plugin", "listed_zero", "listed_ends", "listed_wants"):
        sys.modules.pop(name, None)


def row_of(name: str, rows: list[Listed] | None = None) -> Listed:
    [row] = [row for row in (list_strategies() if rows is None else rows) if row.offer.name == name]
    return row


def table_of(rows: list[Listed], width: int = 160) -> str:
    file = StringIO()
    Console(file=file, width=width).print(strategies_table(rows))
    return file.getvalue()


def line_of(name: str, text: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(f"│ {name} ")]
    return [cell.strip() for cell in line.strip("│").split("│")]


# ---- what is built in ------------------------------------------------------------------------------------------------


def test_every_built_in_strategy_is_listed_in_its_order() -> None:
    rows = [row for row in list_strategies() if row.offer.package == "mtal"]
    assert [row.offer.name for row in rows] == list(STRATEGIES)
    assert [row.why for row in rows] == [""] * len(rows)
    assert {row.offer.version for row in rows} == {__version__}


def test_what_strategies_look_at_and_cost() -> None:
    rows = list_strategies()
    assert row_of("random", rows).reads == ()
    assert row_of("random", rows).costs == (Cost(0.0),)
    assert row_of("equal", rows).costs == (Cost(2.0),)
    assert row_of("boxmask", rows).reads == ("detection", "segmentation")
    assert row_of("boxmask", rows).costs == (Cost(1.0, (Crops(50, 128, 128),)),)
    text = table_of(rows)
    assert line_of("random", text) == ["random", "built in", __version__, "nothing", "none", "0"]
    assert line_of("equal", text) == ["equal", "built in", __version__, "segmentation", "HFlip", "2"]
    assert line_of("boxmask", text)[-2:] == ["BoxCrops", "1 + up to 50 crops of 128 x 128"]


# ---- what packages offer ---------------------------------------------------------------------------------------------


def test_views_are_counted_by_their_pixels(install: Install) -> None:
    """A plain pass, a mirrored one, a quarter; and what depends on the detections: halves of the image, and crops."""
    install("pack-a", views="listed_plugin:views")
    row = row_of("views")
    assert (row.offer.package, row.offer.version, row.why) == ("pack-a", "1.2", "")
    assert row.costs == (Cost(2.25, (Crops(100, 240, 320), Crops(7, 96, 96))),)
    cells = line_of("views", table_of([row], 200))
    assert cells[-2:] == ["HFlip, 2 x Half, BoxCrops", "2.25 + up to 100 crops of 240 x 320 + up to 7 crops of 96 x 96"]


def test_views_without_a_plain_pass(install: Install) -> None:
    install("pack-a", two="listed_plugin:two_views")
    assert row_of("two").costs == (Cost(0.5),)
    assert len(row_of("two").views) == 2  # other heads are another view here: its equality is its author's


def test_a_strategy_that_takes_turns_has_several_costs(install: Install) -> None:
    install("pack-a", turns="listed_plugin:Turns")
    row = row_of("turns")
    assert row.reads == ("detection",)
    assert row.costs == (Cost(0.0), Cost(2.0))
    assert line_of("turns", table_of([row]))[-1] == "0 or 2"


def test_options_without_a_default_are_named(install: Install) -> None:
    install("pack-a", needs="listed_plugin:Needs")
    row = row_of("needs")
    assert (row.why, row.needs) == ("", ("alpha", "gamma"))
    assert line_of("needs", table_of([row]))[-3:] == ["?", "?", "it needs alpha, gamma"]
    assert make("strategy", Component("needs", {"alpha": 1.0, "gamma": "x"}), "s").alpha == 1.0


def test_labeled_images_and_targets_with_extras(install: Install) -> None:
    install("pack-a", diverse="listed_plugin:Diversity [gpu]")
    row = row_of("diverse")
    assert row.scores_labeled
    assert row.offer.target == "listed_plugin:Diversity"
    assert make("strategy", Component("diverse"), "s").scores_labeled


def test_a_package_without_metadata_is_listed_all_the_same(install: Install, tmp_path: Path) -> None:
    install("pack-a", bare="strategies.uniform:Random")
    (tmp_path / "site" / "pack_a-1.2.dist-info" / "METADATA").unlink()
    assert row_of("bare").why == ""
    assert row_of("bare").offer.package == "an unknown package"


def test_names_are_no_markup(install: Install) -> None:
    install("pack-a", **{"[red]x[/red]": "strategies.uniform:Random"})
    assert "[red]x[/red]" in table_of(list_strategies())


# ---- what is broken --------------------------------------------------------------------------------------------------

BROKEN = {
    "zero": ("listed_zero:Any", "importing 'listed_zero' failed with ZeroDivisionError: division by zero; mend"),
    "ends": ("listed_ends:Any", "importing 'listed_ends' failed with SystemExit: no licence; mend"),
    "wants": ("listed_wants:Any", "needs the module 'surely_not_installed', which is not installed"),
    "absent": ("listed_absent:Any", "needs the module 'listed_absent', which is not installed"),
    "typo": ("listed_plugin:Mein", "'listed_plugin' has no 'Mein'; did you mean 'Mine'?"),
    "number": ("listed_plugin:NUMBER", "is of type int; expected a class or a function"),
    "other": ("listed_plugin:NoStrategy", "is no subclass of strategies.base.Strategy; derive it"),
    "none": ("listed_plugin:makes_none", "'listed_plugin:makes_none' lacks reads, views"),
    "refuses": ("listed_plugin:Refuses", "no such day"),
    "divides": ("listed_plugin:Divides", "making 'listed_plugin:Divides' failed with ZeroDivisionError"),
    "quits": ("listed_plugin:Ends", "making 'listed_plugin:Ends' failed with SystemExit: 3"),
    "words": ("listed_plugin:reads_a_text", "TypeError: reads is 'detection'; expected a tuple of texts"),
    "view": ("listed_plugin:broken_view", "ZeroDivisionError: of the view; mend it until 'mtal check view' holds"),
    "module": ("listed_plugin", "is the entry point 'listed_plugin'; expected module:Class"),
    "colon": ("listed_plugin:", "is the entry point 'listed_plugin:'; expected module:Class"),
}


@pytest.mark.slow
def test_a_broken_strategy_is_told_and_hides_no_other(install: Install) -> None:
    install("pack-b", "0.3", **{name: target for name, (target, _) in BROKEN.items()})
    install("pack-c", fine="listed_plugin:Mine")
    rows = list_strategies()
    assert {row.offer.name for row in rows if not row.why} >= {*STRATEGIES, "fine"}
    sentences = skipped(rows)
    assert len(sentences) == len(BROKEN)
    for name, (_, expected) in BROKEN.items():
        why = row_of(name, rows).why
        assert expected in why
        assert f"the strategy {name!r} of pack-b" in why
        assert "\n" not in why
        assert why in sentences
        assert f"\n│ {name} " not in table_of(rows)


@pytest.mark.parametrize("name", ["zero", "ends", "wants", "typo", "none", "quits", "divides", "module"])
def test_asking_for_a_broken_one_is_an_error(install: Install, name: str) -> None:
    install("pack-b", **{name: BROKEN[name][0]}, fine="listed_plugin:Mine")
    with pytest.raises(ConfigError, match=r"^arms\.a\.strategy: "):
        make("strategy", Component(name), "arms.a.strategy")
    assert make("strategy", Component("fine"), "arms.a.strategy").reads == ("detection",)


def test_a_name_with_a_colon_is_told(install: Install) -> None:
    install("pack-b", text="[mtal.strategies]\nmy:mine = listed_plugin:Mine\n")
    assert "has a colon in its name" in row_of("my:mine").why


def test_equal_names_are_refused_and_listed(install: Install) -> None:
    install("pack-a", twice="listed_plugin:Mine", equal="listed_plugin:Mine", fine="listed_plugin:Mine")
    install("pack-b", twice="strategies.uniform:Random", thrice="a:B")
    install("pack-c", thrice="a:B")
    install("pack-d", thrice="a:B")
    rows = list_strategies()
    both = "the strategy 'twice' is offered by both pack-a and pack-b; uninstall all but one"
    three = "the strategy 'thrice' is offered by pack-b and pack-c and pack-d; uninstall all but one"
    ours = "the strategy 'equal' is both built in and offered by the plugin pack-a; rename the plugin's entry point"
    assert skipped(rows) == [ours, three, both]
    assert [(row.offer.package, row.why) for row in rows if row.offer.name == "twice"] == [
        ("pack-a", both),
        ("pack-b", both),
    ]
    assert [(row.offer.package, row.why) for row in rows if row.offer.name == "equal"] == [
        ("mtal", ours),
        ("pack-a", ours),
    ]
    for name, why in (("twice", both), ("thrice", three), ("equal", ours)):
        with pytest.raises(ConfigError) as error:
            make("strategy", Component(name), "here")
        assert str(error.value) == f"here: {why}"
    assert make("strategy", Component("fine"), "here").reads == ("detection",)
    assert make("strategy", Component("random"), "here").reads == ()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["[mtal.strategies]\nno sign of equality\n", b"\xff\xfe[mtal"])
def test_a_damaged_package_takes_no_other_along(install: Install, tmp_path: Path, damage: str | bytes) -> None:
    install("pack-a", fine="listed_plugin:Mine")
    install("pack-b", hidden="listed_plugin:Mine")
    place = tmp_path / "site" / "pack_b-1.2.dist-info" / "entry_points.txt"
    place.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    rows = list_strategies()
    assert skipped(rows) == ["the package pack-b has a damaged entry_points.txt; install it again"]
    assert row_of("fine", rows).why == ""
    assert make("strategy", Component("fine"), "here").reads == ("detection",)
    assert make("strategy", Component("random"), "here").reads == ()
    with pytest.raises(ConfigError, match="no strategy is called 'hidden'"):
        make("strategy", Component("hidden"), "here")


# ---- the verb --------------------------------------------------------------------------------------------------------


def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as end:
        main(words)
    printed = capsys.readouterr()
    return int(end.value.code or 0), printed.out, printed.err


def test_the_verb_lists_and_ends_well(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("pack-b", zero="listed_zero:Any", fine="listed_plugin:Mine")
    code, out, err = typed(capsys, monkeypatch, "strategies")
    assert code == 0
    assert line_of("fine", out) == ["fine", "pack-b", "1.2", "detection", "none", "1"]
    [told] = [line for line in out.splitlines() if line.startswith("skipped: ")]
    assert told.startswith("skipped: the strategy 'zero' of pack-b 1.2: importing 'listed_zero' failed")
    assert err == "a line that a plugin prints when it is imported\n"
    code, _, err = typed(capsys, monkeypatch, "check", "zero")
    assert code == 2
    assert err.startswith("error: zero: importing 'listed_zero' failed with ZeroDivisionError")


@pytest.mark.slow
def test_the_list_for_machines(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("pack-b", zero="listed_zero:Any", crops="listed_plugin:views", needs="listed_plugin:Needs")
    code, out, _ = typed(capsys, monkeypatch, "strategies", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)}
    assert set(rows) >= {*STRATEGIES, "zero", "crops", "needs"}
    assert rows["equal"] == {
        "name": "equal", "target": STRATEGIES["equal"], "package": "mtal", "version": __version__, "built_in": True,
        "usable": True, "why_not": "", "needs": [], "reads": ["segmentation"], "views": ["HFlip()"],
        "scores_labeled": False, "costs": [{"passes": 2.0, "crops": []}],
    }  # fmt: skip
    assert rows["crops"]["costs"][0]["crops"][1] == {"most": 7, "height": 96, "width": 96}
    assert (rows["zero"]["usable"], rows["zero"]["built_in"], rows["zero"]["package"]) == (False, False, "pack-b")
    assert "ZeroDivisionError" in rows["zero"]["why_not"]
    assert (rows["needs"]["usable"], rows["needs"]["needs"]) == (True, ["alpha", "gamma"])


def test_json_holds_every_row_once() -> None:
    rows = list_strategies()
    assert [row["name"] for row in json.loads(strategies_json(rows))] == [row.offer.name for row in rows]
