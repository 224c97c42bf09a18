"""Predictions that refuse what was not declared, to check that a strategy reads only what it says it reads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from strategies.base import Seen, Strategy
from tasks.types import Prediction

K = TypeVar("K")
V = TypeVar("V")
_FIELDS = {"features": "features", "predicted_loss": "predicted_loss", "dense": "detection.dense"}


class UndeclaredRead(LookupError):
    """A strategy looked at something that it does not declare in ``reads`` or ``views``."""


class GuardedMap(Mapping[K, V], Generic[K, V]):
    """A mapping that raises UndeclaredRead for every key outside of ``declared``, even when it is only looked for."""

    def __init__(self, items: Mapping[K, V], declared: Sequence[K], what: str) -> None:
        self._items = {key: items[key] for key in items if key in declared}
        self._hidden = len(items) > len(self._items)
        self._what = what

    def __getitem__(self, key: K) -> V:
        if key not in self._items:
            raise UndeclaredRead(f"it read {self._what} {key!r} without declaring it")
        return self._items[key]

    def __contains__(self, key: object) -> bool:
        if key not in self._items:
            raise UndeclaredRead(f"it looked for {self._what} {key!r} without declaring it")
        return True

    def __iter__(self) -> Iterator[K]:
        if self._hidden:
            raise UndeclaredRead(
                f"it went through every {self._what}; expected to be asked by name for what is declared"
            )
        return iter(self._items)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True)
class GuardedPrediction(Prediction):
    """A prediction whose undeclared heads raise UndeclaredRead."""

    declared: tuple[str, ...] = ()

    def __getattribute__(self, name: str) -> Any:
        head = _FIELDS.get(name)
        if head is not None and head not in object.__getattribute__(self, "declared"):
            raise UndeclaredRead(f"it read {head!r} without declaring it")
        return object.__getattribute__(self, name)


def guarded(seen: Seen, strategy: Strategy) -> Seen:
    """The same Seen; only what the strategy declares can be read from it."""
    wanted = {view: tuple(view.reads) for view in strategy.views}
    views = {
        view: tuple((_guarded(prediction, wanted[view]), matrix) for prediction, matrix in answers)
        for view, answers in seen.views.items()
        if view in wanted
    }
    hidden = {view: () for view in seen.views if view not in wanted}
    return replace(
        seen,
        plain=_guarded(seen.plain, tuple(strategy.reads)),
        views=GuardedMap({**views, **hidden}, tuple(wanted), "view"),
    )


def _guarded(prediction: Prediction, declared: tuple[str, ...]) -> GuardedPrediction:
    heads = tuple(head for head in declared if head in prediction.outputs)
    return GuardedPrediction(
        outputs=GuardedMap(prediction.outputs, heads, "head"),
        features=prediction.features,
        predicted_loss=prediction.predicted_loss,
        dense=prediction.dense,
        declared=declared,
    )
