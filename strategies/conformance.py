"""The suite that every strategy passes.  @plugin-dev: call ``check_strategy(YourStrategy())`` and read what it says.

It runs a strategy on a small pool with a fixed network. Labels are in nothing that a strategy is given, so that it
cannot depend on hidden ones needs no check.
"""

import pickle
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from math import inf, isnan
from types import TracebackType

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from strategies.base import Budget, Score, Seen, Strategy, View
from strategies.candidates import ShardCandidates
from strategies.guard import guarded
from strategies.sample_pool import ONE_CLASS, SampleNetwork, sample_seen
from tasks.seeding import Rngs, rng_of

TASKS = ("detection", "segmentation")
Check = Callable[[Strategy], str]  # what is wrong; empty = nothing


@dataclass(frozen=True)
class CheckResult:
    """One check of one strategy."""

    name: str
    ok: bool
    why: str = ""  # what was found, where it is not ok


def check_strategy(strategy: Strategy) -> list[CheckResult]:
    """The result of every check, in the order of ``CHECKS``; an error that the strategy raises is its result."""
    results = []
    for name, check in CHECKS.items():
        attempt = _Attempt()
        why = ""
        with attempt:
            why = check(strategy)
        why = attempt.error or why
        results.append(CheckResult(name, not why, why))
    return results


def assert_conforms(strategy: Strategy) -> None:
    """AssertionError that lists the checks which fail; nothing where all pass."""
    failed = [f"{result.name}: {result.why}" for result in check_strategy(strategy) if not result.ok]
    if failed:
        raise AssertionError(f"{strategy!r} fails {len(failed)} of {len(CHECKS)} checks\n  " + "\n  ".join(failed))


# ---- what it is ------------------------------------------------------------------------------------------------------


def _is_frozen(strategy: Strategy) -> str:
    if not getattr(getattr(type(strategy), "__dataclass_params__", None), "frozen", False):
        return f"{type(strategy).__name__} is no frozen dataclass; decorate it with @dataclass(frozen=True)"
    hash(strategy)
    return ""


def _pickles(strategy: Strategy) -> str:
    twin = pickle.loads(pickle.dumps(strategy))
    return "" if twin == strategy and type(twin) is type(strategy) else "it differs from itself after pickling"


def _declares(strategy: Strategy) -> str:
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
    return "" if isinstance(strategy.scores_labeled, bool) else "scores_labeled is no bool"


def _holds_no_state(strategy: Strategy) -> str:
    twin = pickle.loads(pickle.dumps(strategy))
    before = dict(vars(strategy))
    _scores(strategy, sample_seen(strategy))
    strategy.select(_candidates(strategy), rng_of(0))
    if dict(vars(strategy)) != before or strategy != twin:
        return "scoring changed the strategy; keep nothing between calls"
    return ""


# ---- what it scores --------------------------------------------------------------------------------------------------


def _answers(strategy: Strategy) -> str:
    return _wrong_scores(_scores(strategy, sample_seen(strategy)), 7)


def _answers_nothing_found(strategy: Strategy) -> str:
    nothing = SampleNetwork(min_score=2.0)  # no detection at all
    return _wrong_scores(_scores(strategy, sample_seen(strategy, network=nothing)), 7)


def _answers_one_class(strategy: Strategy) -> str:
    return _wrong_scores(_scores(strategy, sample_seen(strategy, network=SampleNetwork(ONE_CLASS))), 7)


def _answers_no_images(strategy: Strategy) -> str:
    found = strategy.score_batch([], Rngs(("conformance",), []))
    return "" if list(found) == [] else f"an empty batch is answered with {len(found)} scores"


def _repeats(strategy: Strategy) -> str:
    seen = sample_seen(strategy)
    return _difference(_scores(strategy, seen), _scores(strategy, seen), "the second time")


def _ignores_global_rng(strategy: Strategy) -> str:
    """The global generators neither matter nor move."""
    seen = sample_seen(strategy)
    with _GlobalRngs() as rngs:
        first, before = _scores(strategy, seen), rngs.states()
        strategy.select(_candidates(strategy), rng_of(0))
        moved = rngs.states() != rngs.saved or before != rngs.saved
        rngs.poison()
        second = _scores(strategy, seen)
    if moved:
        return "it draws from a global generator; draw from the rng that is given"
    return _difference(first, second, "when the global generators stand elsewhere")


def _ignores_batch_size(strategy: Strategy) -> str:
    seen = sample_seen(strategy)
    whole = _scores(strategy, seen)
    for size in (1, 2, 3):
        parts = [_scores(strategy, seen[low : low + size]) for low in range(0, len(seen), size)]
        if why := _difference(whole, [score for part in parts for score in part], f"in batches of {size}"):
            return why
    return ""


def _ignores_order(strategy: Strategy) -> str:
    seen = sample_seen(strategy)
    order = [3, 0, 6, 2, 5, 1, 4]
    shuffled = _scores(strategy, [seen[row] for row in order])
    return _difference([_scores(strategy, seen)[row] for row in order], shuffled, "in another order")


def _ignores_company(strategy: Strategy) -> str:
    """What other strategies have asked of the model does not matter."""
    alone, shared = sample_seen(strategy), sample_seen(strategy, all_heads=True)
    return _difference(_scores(strategy, alone), _scores(strategy, shared), "when more heads were forwarded")


def _reads_what_it_declares(strategy: Strategy) -> str:
    seen = [guarded(one, strategy) for one in sample_seen(strategy, all_heads=True)]
    _scores(strategy, seen)
    strategy.explain(seen[0])
    return ""


def _leaves_inputs_alone(strategy: Strategy) -> str:
    seen = sample_seen(strategy)
    before = [tensor.clone() for tensor in _tensors(seen)]
    _scores(strategy, seen)
    strategy.explain(seen[0])
    changed = sum(not torch.equal(old, new) for old, new in zip(before, _tensors(seen), strict=True))
    return f"{changed} tensors of the predictions were changed in place" if changed else ""


def _explains(strategy: Strategy) -> str:
    for caption, values in strategy.explain(sample_seen(strategy, 1)[0]).items():
        if not isinstance(values, Tensor) or values.ndim != 2 or not torch.isfinite(values.float()).all():
            return f"the map {caption!r} is no finite tensor [h, w]"
    return ""


# ---- what it picks ---------------------------------------------------------------------------------------------------


def _picks_within_budget(strategy: Strategy) -> str:
    for amount in (0, 1, 5, 1000):
        candidates = _candidates(strategy, amount=amount)
        picks = strategy.select(candidates, rng_of(1))
        ids = [pick.id for pick in picks]
        rows = candidates.table(["id", "labeled"])
        labeled = dict(zip(rows["id"].to_pylist(), rows["labeled"].to_pylist(), strict=True))
        if len(ids) > amount:
            return f"{len(ids)} picks for a budget of {amount} images"
        if len(set(ids)) < len(ids):
            return "an image is picked twice"
        if set(ids) - set(labeled):
            return f"{sorted(set(ids) - set(labeled))[0]!r} is picked but was never scored"
        if any(labeled[id] for id in ids):
            return "a labeled image is picked"
        if any(set(pick.tasks) - set(TASKS) or not pick.tasks for pick in picks):
            return f"a pick buys other labels than {TASKS}"
        if amount and not ids:
            return f"no pick for a budget of {amount} images"
    return ""


def _picks_of_an_empty_pool(strategy: Strategy) -> str:
    candidates = _candidates(strategy)
    rows = candidates.table()
    for name, table in (
        ("an empty pool", rows.slice(0, 0)),
        ("a pool that is labeled", rows.filter(rows["labeled"])),
    ):
        if picks := strategy.select(replace(candidates, shards=(table,)), rng_of(1)):
            return f"{len(picks)} picks from {name}"
    return ""


def _picks_again_the_same(strategy: Strategy) -> str:
    candidates = _candidates(strategy)
    first, again = (strategy.select(candidates, rng_of(2)) for _ in range(2))
    return "" if list(first) == list(again) else "the same candidates and rng give other picks"


def _picks_in_any_row_order(strategy: Strategy) -> str:
    candidates = _candidates(strategy)
    turned = candidates.table().take(pa.array(list(reversed(range(candidates.table().num_rows)))))
    cuts = [(0, 1), (1, 1), (1, 8), (8, turned.num_rows)]  # the second is empty
    several = replace(candidates, shards=tuple(turned.slice(a, b - a) for a, b in cuts))
    first, second = (strategy.select(one, rng_of(2)) for one in (candidates, several))
    return "" if list(first) == list(second) else "picks depend on the order of the rows, hence on shards and workers"


CHECKS: dict[str, Check] = {
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
    "leaves predictions as they are": _leaves_inputs_alone,
    "explains with maps": _explains,
    "picks within the budget": _picks_within_budget,
    "picks nothing from an empty pool": _picks_of_an_empty_pool,
    "picks the same again": _picks_again_the_same,
    "picks the same in any row order": _picks_in_any_row_order,
}


# ---- how it is tried -------------------------------------------------------------------------------------------------


class _Attempt:
    """Keeps the error of its block: a broken strategy is reported, and ends nothing."""

    error = ""

    def __enter__(self) -> "_Attempt":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if kind is None or not issubclass(kind, Exception):
            return False
        self.error = f"{kind.__name__}: {error}"
        return True


class _GlobalRngs:
    """The global generators of random, numpy and torch, put back at the end."""

    def __enter__(self) -> "_GlobalRngs":
        self._numpy = np.random.get_state(legacy=False)  # noqa: NPY002 - the guard against it must look at it
        self._random, self._torch = random.getstate(), torch.get_rng_state()
        self.saved = self.states()
        return self

    def __exit__(self, *_: object) -> None:
        np.random.set_state(self._numpy)  # noqa: NPY002
        random.setstate(self._random)
        torch.set_rng_state(self._torch)

    def states(self) -> bytes:
        numpy = np.random.get_state(legacy=False)  # noqa: NPY002
        return pickle.dumps((numpy, random.getstate(), torch.get_rng_state().numpy().tobytes()))

    def poison(self) -> None:
        random.random()
        torch.rand(1)
        np.random.random()  # noqa: NPY002


def _scores(strategy: Strategy, seen: Sequence[Seen]) -> list[Score]:
    with torch.inference_mode():
        return list(strategy.score_batch(seen, Rngs(("conformance",), [one.key for one in seen])))


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


def _candidates(strategy: Strategy, amount: float = 5) -> ShardCandidates:
    """21 scored images, 3 in a row with equal scores, every third labeled."""
    seen = sample_seen(strategy)
    scores = _scores(strategy, seen)
    columns: dict[str, list[object]] = {"id": [], "key": [], "labeled": [], "value": [], "summary": []}
    parts: dict[str, list[float | None]] = {part: [] for score in scores for part in score.parts}
    for copy in range(3):
        for one, score in zip(seen, scores, strict=True):
            columns["id"].append(f"{one.id}/{copy}")
            columns["key"].append((one.key + copy * 0x9E3779B97F4A7C15) % 2**64)
            columns["labeled"].append((len(columns["id"])) % 3 == 0)
            columns["value"].append(score.value)
            columns["summary"].append(score.summary)
            for part, values in parts.items():
                values.append(score.parts.get(part))
    kinds = {"id": pa.string(), "key": pa.uint64(), "labeled": pa.bool_(), "value": pa.float64()}
    table = {name: pa.array(columns[name], kind) for name, kind in kinds.items()}
    table |= {f"parts.{part}": pa.array(values, pa.float64()) for part, values in parts.items()}
    if scores[0].summary is not None:
        table["summary"] = pa.array(columns["summary"], pa.list_(pa.float32()))
    counts = np.arange(1, 1 + len(seen[0].classes.detection), dtype=np.int64)
    return ShardCandidates((pa.table(table),), Budget(amount), TASKS, counts, sum(map(bool, columns["labeled"])))


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
