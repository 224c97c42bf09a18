"""The contract of a strategy.  @plugin-dev: subclass Strategy; everything else here is what it is given or answers.

For one shard of the pool the methods are called in this order, on the process that holds the model:

1. ``reads`` and ``views`` tell what must be forwarded; all strategies of a plan share the passes;
2. ``score_batch`` (by default ``score`` for each image) gets a Seen an image and answers a Score an image;
3. after the last shard ``select`` chooses within the budget, through Candidates;
4. ``explain`` draws, for the images that were picked, why.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from tasks.types import ClassMap, Prediction

Direction = Literal["unsure", "crowded", "novel"]


@dataclass(frozen=True)
class Rendered:
    """What a view made of a batch: M images, where each came from, and how its pixels lie."""

    images: Tensor  # [M, 3, h, w]
    index: Tensor  # [M] int64: row of the source image in the batch
    matrix: Tensor  # [M, 2, 3] float32: xy of the source image -> xy of this image (continuous edges)
    inputs: Mapping[str, Tensor] = field(default_factory=dict)  # {name: [M, c, h, w]}


@runtime_checkable
class View(Protocol):
    """Other pixels of an image. A frozen dataclass: equal parameters are the same view, hence one forward pass."""

    @property
    def after(self) -> bool:
        """True: rendered in the second wave, from the plain predictions."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """The heads that this view's answer must contain (a crop needs only segmentation)."""
        ...

    def render(
        self,
        images: Tensor,
        inputs: Mapping[str, Tensor],
        plain: Sequence[Prediction] | None,
        rngs: Sequence[np.random.Generator],
        fill: Tensor,
    ) -> Rendered:
        """Render a whole batch ``[B, 3, H, W]``; ``fill`` ``[3]`` is the model's mean colour."""
        ...


@dataclass(frozen=True)
class Seen:
    """All a strategy may look at, for one image. No label is in here, and no other image."""

    id: str
    key: int  # uint64 of the id
    size: tuple[int, int]  # H, W of the image that was forwarded
    classes: ClassMap
    u: float  # uniform in [0, 1), hashed from (seed, cycle, key)
    plain: Prediction
    # the answers to each view, each with its matrix [2, 3]
    views: Mapping[View, Sequence[tuple[Prediction, Tensor]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """One image's answer. NaN and +inf are errors; -inf means "take it last"."""

    value: float  # higher = label first
    parts: Mapping[str, float] = field(default_factory=dict)  # what the value was made of, for the gallery
    summary: NDArray[np.float32] | None = None  # [S] kept for select (diversity strategies)


@dataclass(frozen=True)
class Budget:
    """How much may be bought in a cycle."""

    amount: float
    unit: Literal["images"] = "images"


@dataclass(frozen=True)
class Pick:
    """One purchase: which labels of which image."""

    id: str
    tasks: tuple[str, ...]


class Candidates(Protocol):
    """The one way to what has been scored; hides how large it is and where it lies."""

    @property
    def budget(self) -> Budget: ...

    @property
    def tasks(self) -> tuple[str, ...]: ...

    @property
    def label_counts(self) -> NDArray[np.int64]:
        """How many labeled objects of each detection class the labeled images hold, ``[C]``."""
        ...

    @property
    def labeled_images(self) -> int:
        """How many images are labeled."""
        ...

    def top_k(self, k: int | None = None, key: str = "value") -> list[str]:
        """Ids of the k best unlabeled images by a column: value descending, then key; exact for any number of shards.

        ``k=None`` takes as many as the budget pays for.
        """
        ...

    def k_center(self, k: int | None = None, distance: Callable[..., NDArray[np.float64]] | None = None) -> list[str]:
        """Ids of k unlabeled images by farthest-first traversal over ``summary``, starting from the labeled ones."""
        ...

    def rows(self, ids: Sequence[str]) -> pa.Table:
        """The score rows of these ids, in this order."""
        ...

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """These columns (else all) of every row, for pools that fit in memory."""
        ...


class Strategy:
    """Decides what to label next. Subclasses are frozen dataclasses: their fields ARE their YAML keys.

    A strategy holds no state, reads only what it declares, and draws only from the rngs it is given.
    """

    @property
    def reads(self) -> tuple[str, ...]:
        """Task names, "features", "predicted_loss", "detection.dense"; () = no forward pass, no image decoded."""
        return ()

    @property
    def scores_labeled(self) -> bool:
        """True: the labeled images are scored too (diversity strategies start from them)."""
        return False

    @property
    def views(self) -> tuple[View, ...]:
        return ()

    @property
    def prefers(self) -> Direction | None:
        """Which images come first: those the network is unsure of, crowded ones, or those unlike what is labeled.

        None = not said. The conformance suite tries what is said here, so that a turned sign does not go unseen.
        """
        return None

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        """One image; higher = label first."""
        raise TypeError(f"{type(self).__name__} defines neither score nor score_batch; a strategy needs one of them")

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        """A batch; override for speed. The answer for an image must not depend on its batch mates."""
        return [self.score(one, rngs[i]) for i, one in enumerate(seen)]

    def select(self, candidates: Candidates, rng: np.random.Generator) -> Sequence[Pick]:
        """Distinct picks within the budget; by default the best values, all tasks of each image."""
        return [Pick(id, candidates.tasks) for id in candidates.top_k()]

    def explain(self, seen: Seen) -> Mapping[str, Tensor]:
        """Maps ``[h, w]`` that show why this image: {caption: map}."""
        return {}

    def at(self, cycle: int) -> "Strategy":
        """The strategy of this cycle (Alternation answers with its active member)."""
        return self
