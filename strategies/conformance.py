"""The suite that every strategy passes.  @plugin-dev: call ``check_strategy(YourStrategy())`` and read what it says.

It runs a strategy on a small pool with a fixed network, in seconds. With pytest, ``parametrize_with_checks`` of
``strategies.conformance_pytest`` makes a test of each check. ``CHECKS`` names them all, with what each demands.
"""

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from math import inf, isnan
from typing import get_args
from unittest import SkipTest

import numpy as np
import torch
from torch import Tensor

from strategies.base import Direction, Pick, Score, Strategy, View
from strategies.conformance_cases import ScoredPool, scored_pool, scores_of
from strategies.conformance_picks import PICKS
from strategies.conformance_watch import Attempt, GlobalRngs, Lookouts, NothingToTry
from strategies.guard import guarded
from strategies.sample_pool import CLASSES, ONE_CLASS, SampleNetwork, sample_images, sample_seen, seen_of
from tasks.seeding import Rngs, rng_of


@dataclass(frozen=True)
class CheckResult:
    """One check of one strategy."""

    name: str
    ok: bool
    why: str = ""  # what was found, where it is not ok; or why there was nothing to try
    law: str = field(default="", compare=False)  # what the check demands, a sentence


@dataclass(frozen=True)
class Check:
    """A law by its name. Called with a strategy that breaks it, it raises AssertionError."""

    name: str
    find: Callable[[Strategy], str]  # what is wrong; empty = nothing; NothingToTry = it does not apply

    @property
    def law(self) -> str:
        """What it demands, a sentence."""
        return (self.find.__doc__ or "").strip().partition("\n")[0]

    def __call__(self, strategy: Strategy) -> None:
        """AssertionError that says what is wrong; unittest.SkipTest, which pytest knows, where nothing can be tried."""
        result, error = self._tried(strategy)
        if not result.ok:
            raise AssertionError(f"{strategy!r} fails {self.name!r}: {result.why}") from error
        if result.why:
            raise SkipTest(result.why)

    def result(self, strategy: Strategy) -> CheckResult:
        """What was found; an error that the strategy raises is no more than that."""
        return self._tried(strategy)[0]

    def _tried(self, strategy: Strategy) -> tuple[CheckResult, Exception | None]:
        attempt, why = Attempt(), ""
        with attempt:
            why = self.find(strategy)
        if isinstance(attempt.error, NothingToTry):
            return CheckResult(self.name, True, str(attempt.error), self.law), None
        if attempt.error is not None:
            why = f"{type(attempt.error).__name__}: {attempt.error}"
        return CheckResult(self.name, not why, why, self.law), attempt.error


def check_strategy(strategy: Strategy, expected_failures: Mapping[str, str] | None = None) -> list[CheckResult]:
    """The result of every check, in the order of ``CHECKS``; an error that the strategy raises is its result.

    ``expected_failures`` are {name of a check: the reason why it cannot hold}. Such a check is ok while it fails, and
    fails once it holds, so that the list stays true. ValueError for a name that there is not, and for no reason.
    """
    expected = checked_reasons(expected_failures or {})
    return [_as_expected(check.result(strategy), expected.get(check.name)) for check in CHECKS.values()]


def assert_conforms(strategy: Strategy, expected_failures: Mapping[str, str] | None = None) -> None:
    """AssertionError that lists the checks which fail; nothing where all pass, or fail as expected."""
    results = check_strategy(strategy, expected_failures)
    failed = [f"{result.name}: {result.why}" for result in results if not result.ok]
    if failed:
        raise AssertionError(f"{strategy!r} fails {len(failed)} of {len(CHECKS)} checks\n  " + "\n  ".join(failed))


def checked_reasons(expected_failures: Mapping[str, str]) -> Mapping[str, str]:
    """The same; ValueError where a check is unknown or a reason is missing."""
    for name, reason in expected_failures.items():
        if name not in CHECKS:
            near = "".join(f"; did you mean {guess!r}" for guess in get_close_matches(name, CHECKS, 1))
            raise ValueError(f"expected_failures: there is no check {name!r}{near}? CHECKS names them all")
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"expected_failures: {name!r} has the reason {reason!r}; say why it cannot hold")
    return expected_failures


def _as_expected(result: CheckResult, reason: str | None) -> CheckResult:
    if reason is None or (result.ok and result.why):  # nothing was tried
        return result
    if result.ok:
        return replace(result, ok=False, why=f"it holds, but was expected to fail ({reason}): expect it no more")
    return replace(result, ok=True, why=f"fails as expected: {reason}")


# ---- what it is ------------------------------------------------------------------------------------------------------


def _is_frozen(strategy: Strategy) -> str:
    """It is a frozen dataclass, whose fields are its keys in a YAML."""
    if not getattr(getattr(type(strategy), "__dataclass_params__", None), "frozen", False):
        return f"{type(strategy).__name__} is no frozen dataclass; decorate it with @dataclass(frozen=True)"
    hash(strategy)
    return ""


def _pickles(strategy: Strategy) -> str:
    """It can be sent to another process, and is the same there."""
    twin = pickle.loads(pickle.dumps(strategy))
    return "" if twin == strategy and type(twin) is type(strategy) else "it differs from itself after pickling"


def _declares(strategy: Strategy) -> str:
    """It says in known words what it looks at and what it prefers."""
    known = SampleNetwork().provides
    for cycle in range(3):
        if not isinstance(strategy.at(cycle), Strategy):
            return f"at({cycle}) is {strategy.at(cycle)!r}; expected a Strategy"
    if not isinstance(strategy.reads, tuple) or set(strategy.reads) - known:
        return f"reads is {strategy.reads!r}; expected a tuple of {', '.join(sorted(known))}"
    for view in strategy.views:
        if not isinstance(view, View) or hash(view) != hash(replace(view)) or view != replace(view):  # type: ignore[type-var]
            return f"view {view!r} is no View that equals its copies; make it a frozen dataclass with render()"
        if set(view.reads) - known:
            return f"view {view!r} reads {view.reads!r}; expected some of {', '.join(sorted(known))}"
    if strategy.prefers not in (None, *get_args(Direction)):
        return f"prefers is {strategy.prefers!r}; expected None or one of {', '.join(get_args(Direction))}"
    return "" if isinstance(strategy.scores_labeled, bool) else "scores_labeled is no bool"


def _holds_no_state(strategy: Strategy) -> str:
    """It is the same after it has scored and chosen."""
    twin = pickle.loads(pickle.dumps(strategy))
    before = dict(vars(strategy))
    strategy.select(scored_pool(strategy).offered(), rng_of(0))
    if dict(vars(strategy)) != before or vars(strategy) != vars(twin) or strategy != twin:
        return "scoring changed the strategy; keep nothing between calls"
    return ""


# ---- what it scores --------------------------------------------------------------------------------------------------


def _answers(strategy: Strategy) -> str:
    """Every image has a score, a number or -inf; summaries are of one length."""
    return _wrong_scores(scores_of(strategy, sample_seen(strategy)), 7)


def _answers_nothing_found(strategy: Strategy) -> str:
    """So has every image in which nothing is detected."""
    nothing = SampleNetwork(min_score=2.0)  # no detection at all
    return _wrong_scores(scores_of(strategy, sample_seen(strategy, network=nothing)), 7)


def _answers_one_class(strategy: Strategy) -> str:
    """So has every image where there is one class only."""
    return _wrong_scores(scores_of(strategy, sample_seen(strategy, network=SampleNetwork(ONE_CLASS))), 7)


def _answers_no_images(strategy: Strategy) -> str:
    """No images have no scores."""
    found = strategy.score_batch([], Rngs(("conformance",), []))
    return "" if list(found) == [] else f"an empty batch is answered with {len(found)} scores"


def _repeats(strategy: Strategy) -> str:
    """Scores are the same to the last bit when they are asked for again."""
    seen = sample_seen(strategy)
    return _difference(scores_of(strategy, seen), scores_of(strategy, seen), "the second time")


def _ignores_global_rng(strategy: Strategy) -> str:
    """The generators of random, numpy and torch neither matter nor move."""
    seen = sample_seen(strategy)
    with GlobalRngs() as rngs:
        first, before = scores_of(strategy, seen), rngs.states()
        strategy.select(scored_pool(strategy).offered(), rng_of(0))
        moved = rngs.states() != rngs.saved or before != rngs.saved
        rngs.poison()
        second = scores_of(strategy, seen)
    if moved:
        return "it draws from a global generator; draw from the rng that is given"
    return _difference(first, second, "when the global generators stand elsewhere")


def _ignores_batch_size(strategy: Strategy) -> str:
    """Scores are the same to the last bit in batches of any size."""
    seen = sample_seen(strategy)
    whole = scores_of(strategy, seen)
    for size in (1, 2, 3):
        parts = [scores_of(strategy, seen[low : low + size]) for low in range(0, len(seen), size)]
        if why := _difference(whole, [score for part in parts for score in part], f"in batches of {size}"):
            return why
    return ""


def _ignores_order(strategy: Strategy) -> str:
    """Scores are the same to the last bit when the images are permuted."""
    seen = sample_seen(strategy)
    order = [3, 0, 6, 2, 5, 1, 4]
    shuffled = scores_of(strategy, [seen[row] for row in order])
    return _difference([scores_of(strategy, seen)[row] for row in order], shuffled, "in another order")


def _ignores_company(strategy: Strategy) -> str:
    """What other strategies have asked of the model does not matter."""
    alone, shared = sample_seen(strategy), sample_seen(strategy, all_heads=True)
    return _difference(scores_of(strategy, alone), scores_of(strategy, shared), "when more heads were forwarded")


def _reads_what_it_declares(strategy: Strategy) -> str:
    """It looks at the heads and views that it declares, and at no others."""
    seen = [guarded(one, strategy) for one in sample_seen(strategy, all_heads=True)]
    scores_of(strategy, seen)
    strategy.explain(seen[0])
    return ""


def _peeks_at_no_label(strategy: Strategy) -> str:
    """It opens no file and goes by no name of an image: labels lie there."""
    seen, names = sample_seen(strategy), CLASSES.detection
    scores: list[list[Score]] = []
    picks: list[list[str]] = []
    for turn in (0, 1):  # folders are often called what their images show
        called = [replace(one, id=f"{names[(row + turn) % len(names)]}/{row}") for row, one in enumerate(seen)]
        with Lookouts() as lookouts:
            scores.append(scores_of(strategy, called))
            strategy.explain(called[0])
            pool = ScoredPool.of(called, scores[-1], [row == 0 for row in range(len(called))])
            chosen: Sequence[Pick] = strategy.select(pool.offered(2), rng_of(1))
        if lookouts.found:
            return f"{lookouts.found[0]}: answer from what is given alone"
        picks.append([pick.id.partition("/")[2] for pick in chosen])
    if why := _difference(scores[0], scores[1], "where the file is called otherwise"):
        return f"{why}; draw by u, key or rng instead of its id"
    return "" if picks[0] == picks[1] else "it picks other images where files are called otherwise; use their keys"


def _leaves_inputs_alone(strategy: Strategy) -> str:
    """Predictions and pixels are the same after it has looked at them."""
    pixels = sample_images(7)
    seen = seen_of(strategy, pixels, SampleNetwork())
    if not torch.equal(pixels, sample_images(7)):
        return "a view changed the pixels of the image in place; work on a copy"
    before = [tensor.clone() for tensor in _tensors(seen)]
    scores_of(strategy, seen)
    strategy.explain(seen[0])
    changed = sum(not torch.equal(old, new) for old, new in zip(before, _tensors(seen), strict=True))
    return f"{changed} tensors of the predictions were changed in place; work on copies" if changed else ""


def _explains(strategy: Strategy) -> str:
    """Its maps for the gallery are finite tensors [h, w]."""
    for caption, values in strategy.explain(sample_seen(strategy, 1)[0]).items():
        if not isinstance(values, Tensor) or values.ndim != 2 or not torch.isfinite(values.float()).all():
            return f"the map {caption!r} is no finite tensor [h, w]"
    return ""


CHECKS: dict[str, Check] = {
    name: Check(name, find)
    for name, find in {
        "is a frozen dataclass": _is_frozen,
        "is equal after pickling": _pickles,
        "declares heads and views": _declares,
        "holds no state": _holds_no_state,
        "answers a finite score an image": _answers,
        "answers where nothing is detected": _answers_nothing_found,
        "answers with a single class": _answers_one_class,
        "answers an empty batch": _answers_no_images,
        "gives the same scores again": _repeats,
        "touches no global generator": _ignores_global_rng,
        "ignores the batch size": _ignores_batch_size,
        "ignores the order": _ignores_order,
        "ignores what others asked for": _ignores_company,
        "reads only what it declares": _reads_what_it_declares,
        "peeks at no hidden label": _peeks_at_no_label,
        "leaves predictions as they are": _leaves_inputs_alone,
        "explains with maps": _explains,
        **PICKS,
    }.items()
}


# ---- how it is tried -------------------------------------------------------------------------------------------------


def _wrong_scores(scores: Sequence[Score], count: int) -> str:
    if len(scores) != count:
        return f"{len(scores)} scores for {count} images"
    for score in scores:
        for name, value in (("value", score.value), *score.parts.items()):
            if not isinstance(value, int | float) or isnan(value) or value == inf:
                return f"{name} is {value!r}; expected a finite number, or -inf"
    summaries = [score.summary for score in scores if score.summary is not None]
    if any(s.dtype != np.float32 or s.ndim != 1 or not np.isfinite(s).all() for s in summaries):
        return "a summary is no finite float32 vector"
    if summaries and (len({len(s) for s in summaries}) > 1 or len(summaries) < count):
        return "summaries differ in length, or some are missing"
    return ""


def _difference(first: Sequence[Score], second: Sequence[Score], when: str) -> str:
    for one, other in zip(first, second, strict=True):
        same = one.value == other.value and dict(one.parts) == dict(other.parts)
        summaries = (one.summary, other.summary)
        if not same or (one.summary is None) != (other.summary is None):
            return f"a score of {one.value!r} {dict(one.parts)} is {other.value!r} {dict(other.parts)} {when}"
        if one.summary is not None and not np.array_equal(*summaries):  # type: ignore[arg-type]
            return f"a summary is another one {when}"
    return ""


def _tensors(what: object) -> list[Tensor]:
    """Every tensor inside of dataclasses, mappings and sequences."""
    if isinstance(what, Tensor):
        return [what]
    if is_dataclass(what) and not isinstance(what, type):
        return [tensor for field in fields(what) for tensor in _tensors(getattr(what, field.name))]
    if isinstance(what, dict):
        return [tensor for value in what.values() for tensor in _tensors(value)]
    if isinstance(what, list | tuple):
        return [tensor for value in what for tensor in _tensors(value)]
    return []
