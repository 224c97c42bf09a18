"""A strategy is found by name and checked against every law."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.checking import check_named_strategy, check_table
from orchestrator.errors import ConfigError
from strategies.conformance import CHECKS, CheckResult


def text_of(table: object) -> str:
    file = StringIO()
    Console(file=file, width=160).print(table)
    return file.getvalue()


@pytest.mark.parametrize("name", ["random", "strategies.uniform:Random", "{name: equal, form: entropy}"])
def test_a_strategy_of_ours_holds_every_check(name: str) -> None:
    results = check_named_strategy(name)
    assert [result.name for result in results] == list(CHECKS)
    assert all(result.ok for result in results)
    assert f"{name}: {len(CHECKS)} of {len(CHECKS)} checks hold" in text_of(check_table(name, results))


def test_a_check_says_what_it_demands_or_what_was_found() -> None:
    results = [
        CheckResult("explains with maps", False, "the map 'a' is no finite tensor [h, w]"),
        CheckResult("b", True, law="It does what it says."),
        CheckResult("c", True, "there is nothing to try", "It does what it says not."),
    ]
    text = text_of(check_table("mine[/x]:Mine", results))
    assert "mine[/x]:Mine: 2 of 3 checks hold" in text
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert rows == [
        ["explains with maps", "FAILED", "the map 'a' is no finite tensor [h, w]"],
        ["b", "ok", "It does what it says."],
        ["c", "ok", "there is nothing to try"],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("boxmsk", "no strategy is called 'boxmsk'; did you mean 'boxmask'"),
        ("{name: equal", "^{name: equal: is not YAML"),
        ("[1]", r"^\[1\]: has no name"),
        ("{name: equal, form: x}", "form: found 'x'; expected 'kl' or 'entropy'"),
        ("pathlib:Path", "lacks reads, views"),
    ],
)
def test_what_is_no_strategy_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_named_strategy(text)


def test_looks_alike_but_is_no_subclass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("reads", "views", "scores_labeled", "score_batch", "select", "explain", "at")
    (tmp_path / "lookalike_plugin.py").write_text("class Alike:\n" + "".join(f"    {n} = ()\n" for n in names))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"makes a Alike; expected a subclass of strategies.base.Strategy"):
        check_named_strategy("lookalike_plugin:Alike")
