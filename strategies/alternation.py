"""Alternation: the tasks take turns, a cycle each (Reichart et al. 2008; for detection and segmentation Hekimoglu et
al. 2023)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from strategies.base import Candidates, Direction, Pick, Score, Seen, Strategy, View


@dataclass(frozen=True)
class Alternation(Strategy):
    """Every cycle belongs to one member, in their order; the first member has cycle 0.

    ``at(cycle)`` answers with that member, so only its heads and views are forwarded and its own ``select`` decides.
    ``period`` is how many cycles a turn lasts: one number for all members, or one for each. Neither paper says who
    starts; put the member that shall first. Asked without a cycle, it answers as its member of cycle 0.
    In a YAML: ``{name: alternation, members: [{name: ll4al, tasks: det}, {name: ll4al, tasks: seg}]}``.
    """

    members: tuple[Strategy, ...] = field(metadata={"component": "strategy"})  # in a YAML: by name, with options
    period: int | tuple[int, ...] = 1

    def __post_init__(self) -> None:
        if not isinstance(self.members, tuple) or not all(isinstance(member, Strategy) for member in self.members):
            raise ValueError(f"Alternation.members is {self.members!r}; expected a tuple of strategies: give such")
        if len(self.members) < 2:
            raise ValueError(f"Alternation.members has {len(self.members)}; expected at least two that take turns")
        if isinstance(self.period, tuple) and len(self.period) != len(self.members):
            raise ValueError(
                f"Alternation.period has {len(self.period)} entries for {len(self.members)} members; give one for each"
            )
        if min(self._periods) < 1:
            raise ValueError(f"Alternation.period is {self.period}; expected 1 cycle or more for each member")

    @property
    def _periods(self) -> tuple[int, ...]:
        return self.period if isinstance(self.period, tuple) else (self.period,) * len(self.members)

    def at(self, cycle: int) -> Strategy:
        """The member whose turn it is; a member that alternates itself is asked for the cycle of its own turns."""
        rounds, place = divmod(cycle, sum(self._periods))
        for member, period in zip(self.members, self._periods, strict=True):
            if place < period:
                return member.at(rounds * period + place)
            place -= period
        raise AssertionError("place is below the sum of the periods")

    @property
    def reads(self) -> tuple[str, ...]:
        return self.at(0).reads

    @property
    def scores_labeled(self) -> bool:
        return self.at(0).scores_labeled

    @property
    def views(self) -> tuple[View, ...]:
        return self.at(0).views

    @property
    def prefers(self) -> Direction | None:
        return self.at(0).prefers

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        return self.at(0).score_batch(seen, rngs)

    def select(self, candidates: Candidates, rng: np.random.Generator) -> Sequence[Pick]:
        return self.at(0).select(candidates, rng)

    def explain(self, seen: Seen) -> Mapping[str, Tensor]:
        return self.at(0).explain(seen)
