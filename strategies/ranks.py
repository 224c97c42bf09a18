"""Rank combination: several strategies rank the pool, and the sum of the ranks decides (Reichart et al. 2008)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from strategies.base import Candidates, Direction, Pick, Score, Seen, Strategy, View
from strategies.candidates import unlabeled
from strategies.selection import top_k
from tasks.seeding import rng_of


@dataclass(frozen=True)
class RankCombination(Strategy):
    """Images whose ranks under all members add up to the least come first, whatever the members' scales.

    Ranks are those of the whole pool of unlabeled images, so they are taken in ``select``, from the members' values,
    which are the parts of a score (``entropy_1``, ``equal_2``, ...). The value of a score is their plain sum, which
    decides nothing. A member's own ``select`` is not asked; members that rank only by what is labeled already
    (diversity strategies) have no value of a single image and are refused.
    In a YAML: ``{name: ranks, members: [{name: entropy, task: det}, {name: equal}]}``.
    """

    members: tuple[Strategy, ...] = field(metadata={"component": "strategy"})  # in a YAML: by name, with options

    def __post_init__(self) -> None:
        if not isinstance(self.members, tuple) or not all(isinstance(member, Strategy) for member in self.members):
            raise ValueError(f"RankCombination.members is {self.members!r}; expected a tuple of strategies: give such")
        if len(self.members) < 2:
            raise ValueError(f"RankCombination.members has {len(self.members)}; expected at least two to combine")
        for member in self.members:
            if member.scores_labeled:
                raise ValueError(
                    f"RankCombination.members holds {member!r}, which compares images with each other; expected "
                    "strategies that score an image by itself: take it out"
                )

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(head for member in self.members for head in member.reads))

    @property
    def views(self) -> tuple[View, ...]:
        """Every view once, with the heads that any member wants of it."""
        shared: dict[View, View] = {}
        for view in (view for member in self.members for view in member.views):
            shared[view] = _with_heads(shared.get(view, view), view.reads)
        return tuple(shared.values())

    @property
    def prefers(self) -> Direction | None:
        """What all members prefer, or None."""
        said = {member.prefers for member in self.members}
        return said.pop() if len(said) == 1 else None

    @property
    def names(self) -> tuple[str, ...]:
        """What the members' parts are called, in their order."""
        return tuple(f"{type(member).__name__.lower()}_{i}" for i, member in enumerate(self.members, 1))

    def at(self, cycle: int) -> Strategy:
        return replace(self, members=tuple(member.at(cycle) for member in self.members))

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        answers = [member.score_batch(seen, _OwnRngs(rngs, i)) for i, member in enumerate(self.members)]
        rows = zip(*([score.value for score in answer] for answer in answers), strict=True)
        return [Score(sum(row), dict(zip(self.names, row, strict=True))) for row in rows]

    def select(self, candidates: Candidates, rng: np.random.Generator) -> Sequence[Pick]:
        pool = unlabeled(candidates.table(["id", "key", "labeled", *(f"parts.{name}" for name in self.names)]))
        if not pool.num_rows:
            return []
        keys = pool["key"].to_numpy().astype(np.uint64)
        values = np.stack([pool[f"parts.{name}"].to_numpy().astype(np.float64) for name in self.names], axis=1)
        rows = rank_combination(values, keys, int(candidates.budget.amount))
        return [Pick(id, candidates.tasks) for id in pool["id"].take(pa.array(rows, pa.int64())).to_pylist()]

    def explain(self, seen: Seen) -> Mapping[str, Tensor]:
        return {
            f"{name}: {caption}": values
            for name, member in zip(self.names, self.members, strict=True)
            for caption, values in member.explain(seen).items()
        }


def rank_sums(values: NDArray[np.floating], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """``[N]``: the sum over the columns of ``values [N, T]`` of each row's rank, 0 = best.

    A rank is the place by (value descending, key ascending): no two rows share one. -inf ranks last. ValueError for NaN
    and +inf.
    """
    if np.isnan(values).any() or np.isposinf(values).any():
        raise ValueError("rank_sums: a value is NaN or +inf; expected finite values or -inf: mend what scored them")
    total = np.zeros(len(keys), dtype=np.int64)
    for column in values.T:  # one a member
        total[top_k(column, keys, len(keys))] += np.arange(len(keys))
    return total


def rank_combination(values: NDArray[np.floating], keys: NDArray[np.uint64], k: int) -> NDArray[np.int64]:
    """Rows of the k smallest rank sums of ``values [N, T]`` (higher = better in every column), ties by key."""
    return top_k(-rank_sums(values, keys).astype(np.float64), keys, k)


@dataclass(frozen=True)
class _OwnRngs(Sequence[np.random.Generator]):
    """The generators of one member, so that two members that draw do not draw the same; made when asked for."""

    given: Sequence[np.random.Generator]
    member: int

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return replace(self, given=self.given[index])
        return rng_of("member", self.member, *self.given[index].integers(2**63, size=2))


def _with_heads(view: View, heads: Sequence[str]) -> View:
    """The same view, which reads these heads too (where heads are a field; else equal views read the same)."""
    wanted = tuple(dict.fromkeys((*view.reads, *heads)))
    if wanted == view.reads or "reads" not in getattr(view, "__dataclass_fields__", ()):
        return view
    return replace(view, reads=wanted)  # type: ignore[type-var]
