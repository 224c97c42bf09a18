"""The suite passes what is sound, and each kind of fault fails its check; the checks as tests of pytest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import SkipTest

import numpy as np
import pytest

import strategies
from strategies.base import Candidates, Pick, Score, Seen, Strategy, View
from strategies.boxmask import BoxMask
from strategies.conformance import CHECKS, Check, CheckResult, assert_conforms, check_strategy
from strategies.conformance_pytest import parametrize_with_checks
from strategies.conformance_watch import Lookouts
from strategies.equal import Equal
from strategies.guard import UndeclaredRead, guarded
from strategies.sample_pool import sample_seen
from strategies.uniform import Random
from strategies.views import BoxCrops, HFlip
from tests.strategies.broken_strategies import BROKEN, LABELS, BelievesNames, NanWhereEmpty, NeedsTwoClasses

pytest_plugins = ["pytester"]
Rng = np.random.Generator


@dataclass(frozen=True)
class Sound(Strategy):
    """Reads everything there is, draws, keeps a summary, asks for views and picks for itself."""

    @property
    def reads(self) -> tuple[str, ...]:
        return ("detection", "segmentation", "features", "predicted_loss", "detection.dense")

    @property
    def views(self) -> tuple[View, ...]:
        return (HFlip(), BoxCrops(32))

    @property
    def scores_labeled(self) -> bool:
        return True

    def score(self, seen: Seen, rng: Rng) -> Score:
        plain = seen.plain
        assert plain.features is not None
        assert plain.dense is not None
        crops = sum(float(p.log_probs.mean()) for p, _ in seen.views[BoxCrops(32)])
        value = float(plain.predicted_loss["detection"]) + float(plain.dense.max()) + crops + rng.random()
        return Score(value, {"boxes": len(plain.detections.scores)}, plain.features.numpy())

    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        return [Pick(id, ("segmentation",)) for id in candidates.k_center()]


# a fault that spoils every score or pick also fails the checks that compare them, or need any
ALSO = {
    "Unpicklable": {"holds no state"},
    "UnknownPreference": {"prefers what it says"},
    "AlwaysNan": {name for name in CHECKS if name.startswith(("answers a", "answers where", "answers with", "picks"))}
    - {"answers an empty batch", "picks nothing from an empty pool"}
    | {"holds no state", "touches no global generator", "peeks at no hidden label", "leaves candidates as they are"},
    "NanWhereEmpty": {"picks where nothing is detected"},
    "CountsCalls": {"touches no global generator", "peeks at no hidden label"}
    | {"ignores the batch size", "ignores the order", "ignores what others asked for"},
    "LooksAtPlace": {"ignores the batch size"},
    "PicksByMood": {"picks the same from any shards", "peeks at no hidden label"},
}
FAULTS = [(name, strategy) for name, faulty in BROKEN.items() for strategy in faulty]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [Sound()])
def test_sound_strategies_pass_every_check(strategy: Strategy) -> None:
    assert [result for result in check_strategy(strategy) if not result.ok] == []


def test_every_check_has_a_strategy_that_breaks_it() -> None:
    assert list(BROKEN) == list(CHECKS)
    assert all(BROKEN.values())


@pytest.mark.parametrize(("name", "strategy"), FAULTS, ids=[type(s).__name__ for _, s in FAULTS])
def test_a_broken_strategy_fails_the_check_it_is_made_for(name: str, strategy: Strategy) -> None:
    result = CHECKS[name].result(strategy)
    assert not result.ok
    assert result.why


@pytest.mark.slow
@pytest.mark.parametrize(("name", "strategy"), FAULTS, ids=[type(s).__name__ for _, s in FAULTS])
def test_a_broken_strategy_fails_no_other_check(name: str, strategy: Strategy) -> None:
    failed = {result.name for result in check_strategy(strategy) if not result.ok}
    assert failed == {name} | ALSO.get(type(strategy).__name__, set())


def test_every_check_says_in_a_sentence_what_it_demands() -> None:
    laws = [check.law for check in CHECKS.values()]
    assert all(law[0].isupper() and law.endswith(".") and len(law) < 80 for law in laws)
    assert len(set(laws)) == len(laws)


def test_failures_are_listed_with_reasons() -> None:
    with pytest.raises(AssertionError, match="answers where nothing is detected: value is nan"):
        assert_conforms(NanWhereEmpty())
    results = check_strategy(NeedsTwoClasses())
    assert [r.name for r in results] == list(CHECKS)
    bad = CheckResult("answers with a single class", False, "IndexError: tuple index out of range")
    assert bad in results
    with pytest.raises(AssertionError, match="fails 'answers with a single class': IndexError") as error:
        CHECKS["answers with a single class"](NeedsTwoClasses())
    assert isinstance(error.value.__cause__, IndexError)  # its traceback shows the line


def test_where_nothing_is_said_nothing_is_tried() -> None:
    result = CHECKS["prefers what it says"].result(Random())
    assert result.ok
    assert "nothing to try" in result.why
    with pytest.raises(SkipTest, match="nothing to try"):
        CHECKS["prefers what it says"](Random())
    expected = {"prefers what it says": "luck"}
    assert [r for r in check_strategy(Random(), expected) if not r.ok] == []


# ---- failures that are expected --------------------------------------------------------------------------------------

NAMES = {"peeks at no hidden label": "images of one scene are told by their names"}


@pytest.mark.slow
def test_a_failure_that_is_expected_is_ok_until_it_holds() -> None:
    assert_conforms(BelievesNames(), NAMES)
    result = next(r for r in check_strategy(BelievesNames(), NAMES) if r.name in NAMES)
    assert result.why == "fails as expected: images of one scene are told by their names"
    with pytest.raises(AssertionError, match=r"it holds, but was expected to fail \(images of one scene"):
        assert_conforms(Random(), NAMES)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"ignores order": "so"}, "no check 'ignores order'; did you mean 'ignores the order'"),
        ({"ignores the order": ""}, "'ignores the order' has the reason ''; say why"),
        ({"ignores the order": "  "}, "say why it cannot hold"),
        ({"ignores the order": None}, "say why it cannot hold"),
    ],
)
def test_an_expected_failure_needs_a_name_and_a_reason(expected: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_strategy(Random(), expected)
    with pytest.raises(ValueError, match=message):
        parametrize_with_checks([Random()], expected)


# ---- with pytest -----------------------------------------------------------------------------------------------------


@parametrize_with_checks([Equal(form="entropy")])
def test_each_check_is_a_test(strategy: Strategy, check: Check) -> None:
    check(strategy)
    assert strategy.prefers == "unsure"


def test_tests_are_named_after_strategy_and_check() -> None:
    mark = parametrize_with_checks([Equal(kl="js"), Random(), BoxMask(eps=0.1, tau=0.2)]).mark
    assert mark.args[0] == ("strategy", "check")
    ids = [row.id for row in mark.args[1]]
    assert len(ids) == 3 * len(CHECKS) == len(set(ids))
    assert ids[0] == "Equal(kl='js')-is a frozen dataclass"
    assert "Random()-holds no state" in ids
    assert "BoxMask(tau=0.2, eps=0.1)-holds no state" in ids


def test_what_is_no_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"strategies\[1\] is .*Equal.*; expected Strategy objects"):
        parametrize_with_checks([Equal(), Equal])  # type: ignore[list-item]


@pytest.mark.slow
def test_pytest_reports_what_fails_and_what_should(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from strategies.conformance_pytest import parametrize_with_checks
        from strategies.uniform import Random
        from tests.strategies.broken_strategies import BelievesNames, Overspends

        WHY = {"peeks at no hidden label": "scenes have names"}

        @parametrize_with_checks([BelievesNames(), Overspends()], lambda s: WHY if s == BelievesNames() else {})
        def test_laws(strategy, check):
            check(strategy)

        @parametrize_with_checks([Random()], WHY)
        def test_strict(strategy, check):
            check(strategy)
        """
    )
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-rxf")
    total = 3 * len(CHECKS)
    done.assert_outcomes(failed=2, xfailed=1, skipped=3, passed=total - 6)
    done.stdout.fnmatch_lines_random(
        ["*XFAIL*peeks at no hidden label* - scenes have names*", "*FAILED*test_laws*picks within the budget*",
         "*FAILED*test_strict*peeks at no hidden label*"]
    )  # fmt: skip


def test_only_one_module_needs_pytest() -> None:
    folder = Path(strategies.__file__).parent
    assert [path.name for path in folder.glob("*.py") if "import pytest" in path.read_text()] == [
        "conformance_pytest.py"
    ]


# ---- what guards them ------------------------------------------------------------------------------------------------


def test_only_files_that_are_no_code_and_no_system_are_noticed() -> None:
    with Lookouts() as lookouts:
        Path(__file__).read_text()
        Path(np.__file__).read_bytes()
        Path("/dev/null").read_bytes()
        assert lookouts.found == []
        LABELS.read_text()
        with pytest.raises(FileNotFoundError):
            (LABELS.parent / "labels.json").read_text()
    LABELS.read_text()
    assert lookouts.found == [f"open {str(path)!r}" for path in (LABELS, LABELS.parent / "labels.json")]


def test_a_guarded_view_answers_only_its_declared_heads() -> None:
    (seen,) = sample_seen(Sound(), 1, all_heads=True)
    equal = guarded(seen, Equal())
    assert equal.views[HFlip()][0][0].log_probs.shape == seen.plain.log_probs.shape
    for look in (
        lambda: equal.views[HFlip()][0][0].detections,
        lambda: equal.views[BoxCrops(32)],
        lambda: equal.plain.features,
        lambda: equal.plain.predicted_loss,
        lambda: equal.plain.dense,
        lambda: "detection" in equal.plain.outputs,
        lambda: list(equal.plain.outputs),
    ):
        with pytest.raises(UndeclaredRead):
            look()
    assert replace(equal, u=0.5).u == 0.5
