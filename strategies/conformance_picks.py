"""The laws of a strategy's choice: one half of the conformance suite."""

from collections.abc import Callable
from dataclasses import replace

from strategies.base import Pick, Strategy
from strategies.conformance_cases import CASES, TASKS, ScoredPool, first_pick, scored_pool
from strategies.conformance_watch import NothingToTry
from strategies.sample_pool import SampleNetwork
from tasks.seeding import rng_of


def _prefers(strategy: Strategy) -> str:
    """The images that it says it prefers come first in a pool made for it."""
    if strategy.prefers is None:
        raise NothingToTry("it says nothing of what it prefers, so there is nothing to try")
    for first, last, labeled in CASES[strategy.prefers]:
        if (found := first_pick(strategy, first, last, labeled)) != first:
            known = f" where {labeled[0]} ones are labeled" if strategy.prefers == "novel" else ""
            return (
                f"it says that it prefers {strategy.prefers!r} images, but of {first} and {last} ones{known} it first "
                f"picks {'none' if found is None else f'one that is {found}'}; turn its sign, or what it says"
            )
    return ""


def _within_budget(strategy: Strategy) -> str:
    """It picks what the budget pays for, and no more."""
    pool = scored_pool(strategy)
    for amount in (0, 1, 5):
        picks = strategy.select(pool.offered(amount), rng_of(1))
        if len(picks) > amount or (amount and not picks):
            return f"{len(picks) or 'no'} picks for a budget of {amount} images of {_unlabeled(pool)}"
    return ""


def _beyond_the_pool(strategy: Strategy) -> str:
    """It picks where the budget pays for all the pool, and for more."""
    pool = scored_pool(strategy)
    for amount in (_unlabeled(pool), 1000):
        picks = strategy.select(pool.offered(amount), rng_of(1))
        if not 0 < len(picks) <= _unlabeled(pool):
            return f"{len(picks) or 'no'} picks for a budget of {amount} images of {_unlabeled(pool)}"
    return ""


def _once(strategy: Strategy) -> str:
    """It picks no image twice."""
    ids = [pick.id for pick in strategy.select(scored_pool(strategy).offered(), rng_of(1))]
    twice = sorted({id for id in ids if ids.count(id) > 1})
    return f"{twice[0]!r} is picked {ids.count(twice[0])} times" if twice else ""


def _of_the_pool(strategy: Strategy) -> str:
    """It picks images that were scored and are not labeled, for known tasks."""
    pool = scored_pool(strategy)
    labeled = dict(zip(pool.rows["id"].to_pylist(), pool.rows["labeled"].to_pylist(), strict=True))
    for pick in strategy.select(pool.offered(), rng_of(1)):
        if pick.id not in labeled:
            return f"{pick.id!r} is picked but was never scored"
        if labeled[pick.id]:
            return f"{pick.id!r} is picked but is labeled"
        if not pick.tasks or set(pick.tasks) - set(TASKS):
            return f"a pick buys labels of {pick.tasks}; expected some of {TASKS}"
    return ""


def _nothing_of_an_empty_pool(strategy: Strategy) -> str:
    """It picks nothing where there is no image, and where all are labeled."""
    pool = scored_pool(strategy)
    for name, rows in (
        ("an empty pool", pool.rows.slice(0, 0)),
        ("a pool that is labeled", pool.rows.filter(pool.rows["labeled"])),
    ):
        if picks := strategy.select(replace(pool, rows=rows).offered(), rng_of(1)):
            return f"{len(picks)} picks from {name}"
    return ""


def _where_nothing_is_labeled(strategy: Strategy) -> str:
    """It picks where no image is labeled yet."""
    pool = scored_pool(strategy)
    rows = pool.rows.filter([not known for known in pool.rows["labeled"].to_pylist()])
    fresh = ScoredPool(rows, pool.label_counts * 0)
    return "" if strategy.select(fresh.offered(), rng_of(1)) else "no pick for a budget of 5 images"


def _where_nothing_is_found(strategy: Strategy) -> str:
    """It picks where no image of the pool holds a detection."""
    pool = scored_pool(strategy, SampleNetwork(min_score=2.0))
    return "" if strategy.select(pool.offered(), rng_of(1)) else "no pick for a budget of 5 images"


def _again_the_same(strategy: Strategy) -> str:
    """The same candidates and rng give the same picks in the same order."""
    pool = scored_pool(strategy)
    first, again = (list(strategy.select(pool.offered(), rng_of(2))) for _ in range(2))
    return "" if first == again else _other_picks(first, again, "the second time")


def _the_same_from_any_shards(strategy: Strategy) -> str:
    """Picks depend neither on the cut into shards nor on the order of rows."""
    pool = scored_pool(strategy)
    for amount in (1, 5):
        whole, *others = (list(strategy.select(pool.offered(amount, n), rng_of(2))) for n in (1, 2, 5))
        for other in others:
            if other != whole:
                return _other_picks(whole, other, "from other shards")
    return ""


def _leaves_candidates_alone(strategy: Strategy) -> str:
    """What it chooses from is the same afterwards."""
    pool = scored_pool(strategy)
    offered = pool.offered()
    strategy.select(offered, rng_of(1))
    if offered.label_counts.tolist() != pool.label_counts.tolist():
        return "select changed the label counts in place; work on a copy"
    return "" if offered.table().equals(pool.rows) else "select changed the scored rows in place; work on a copy"


PICKS: dict[str, Callable[[Strategy], str]] = {
    "prefers what it says": _prefers,
    "picks within the budget": _within_budget,
    "picks from a pool below the budget": _beyond_the_pool,
    "picks an image once": _once,
    "picks only of the unlabeled pool": _of_the_pool,
    "picks nothing from an empty pool": _nothing_of_an_empty_pool,
    "picks where nothing is labeled": _where_nothing_is_labeled,
    "picks where nothing is detected": _where_nothing_is_found,
    "picks the same again": _again_the_same,
    "picks the same from any shards": _the_same_from_any_shards,
    "leaves candidates as they are": _leaves_candidates_alone,
}


def _unlabeled(pool: ScoredPool) -> int:
    labeled: int = sum(pool.rows["labeled"].to_pylist())
    return int(pool.rows.num_rows) - labeled


def _other_picks(first: list[Pick], second: list[Pick], when: str) -> str:
    return f"{[pick.id for pick in first]} is picked, and {[pick.id for pick in second]} {when}"
