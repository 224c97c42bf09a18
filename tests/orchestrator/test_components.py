"""Names to components: the room's dict, module:Class, entry points; options are checked."""

import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from orchestrator import components
from orchestrator.components import Component, make, resolve, validate
from orchestrator.errors import ConfigError
from strategies.base import Strategy


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Outer:
    inner: Inner | None = None
    pair: tuple[int, int] = (1, 2)


def factory(first: str, *, width: int = 3, inner: Inner | None = None) -> tuple[str, int, Inner | None]:
    return first, width, inner


def test_options_become_fields_of_their_own_types() -> None:
    assert validate(Outer, {"inner": {"depth": 4}, "pair": [3, 4]}, "x") == Outer(Inner(4), (3, 4))
    with pytest.raises(ConfigError, match=r"x\.inner\.dept: no such key in Inner; did you mean 'depth'"):
        validate(Outer, {"inner": {"dept": 4}}, "x")
    with pytest.raises(ConfigError, match=r"x\.pair"):
        validate(Outer, {"pair": [1]}, "x")


def test_functions_are_checked_like_dataclasses() -> None:
    here = f"{__name__}:factory"
    assert make("model", Component(here, {"width": 5, "inner": {"depth": 2}}), "m", "a") == ("a", 5, Inner(2))
    assert make("model", Component(here), "m", "a") == ("a", 3, None)
    with pytest.raises(ConfigError, match=r"m\.widht: no such key in factory; did you mean 'width'"):
        make("model", Component(here, {"widht": 5}), "m", "a")
    with pytest.raises(ConfigError, match=r"m\.width: found 'x'; expected a valid integer"):
        make("model", Component(here, {"width": "x"}), "m", "a")


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(ConfigError, match="no strategy is called 'boxmsk'; did you mean 'boxmask'"):
        resolve("strategy", "boxmsk", "arms.a.strategy")
    with pytest.raises(ConfigError, match="no model is called 'zzz'; there is "):
        resolve("model", "zzz", "model")


def test_foreign_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_plugin.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match="importing 'broken_plugin' failed with ZeroDivisionError"):
        resolve("strategy", "broken_plugin:X", "s")
    with pytest.raises(ConfigError, match="needs the module 'absent_plugin', which is not installed"):
        resolve("strategy", "absent_plugin:X", "s")
    with pytest.raises(ConfigError, match="has no 'Nothing'"):
        resolve("strategy", f"{__name__}:Nothing", "s")
    sys.modules.pop("broken_plugin", None)


def test_a_value_that_the_component_refuses_names_the_place() -> None:
    with pytest.raises(ConfigError, match="data: "):
        make("data", Component("streets", {"size": [95, 160]}), "data")


class _Dist:
    def __init__(self, name: str) -> None:
        self.metadata = {"Name": name, "Version": "1"}


def test_entry_points_offer_strategies_and_clashes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def points(*rows: tuple[str, str, str]) -> None:
        found = []
        for name, value, dist in rows:
            point = EntryPoint(name, value, "mtal.strategies")
            object.__setattr__(point, "dist", _Dist(dist))
            found.append(point)
        monkeypatch.setattr(components, "entry_points", lambda group: found)

    points(("mine", "strategies.uniform:Random", "pack-a"))
    assert issubclass(resolve("strategy", "mine", "s"), Strategy)
    points(("mine", "a:B", "pack-a"), ("mine", "c:D", "pack-b"))
    with pytest.raises(ConfigError, match="offered by both pack-a and pack-b"):
        resolve("strategy", "mine", "s")
    points(("boxmask", "a:B", "pack-a"))
    with pytest.raises(ConfigError, match="both built in and offered by the plugin pack-a"):
        resolve("strategy", "boxmask", "s")
