"""The contracts of a task, a metric, a model and a loss weighting. Bring your own: any object of this shape will do."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, Self, runtime_checkable

from torch import Tensor, nn

from tasks.types import Batch, ClassMap, Losses, Output, Prediction, Target


class Metric(Protocol):
    """Counts what a metric needs, image by image; metrics of several shards add up exactly."""

    main: ClassVar[str]  # the key of compute() that mDSQ uses: "map", "miou", "rmse"
    higher_is_better: ClassVar[bool]

    def update(self, outputs: Sequence[Output], targets: Sequence[Target], ids: Sequence[str]) -> None:
        """Add some labeled images (ids are their manifest ids)."""
        ...

    def merge(self, other: Self) -> None:
        """Add what another shard's metric has counted."""
        ...

    def compute(self) -> dict[str, float]:
        """All figures, e.g. ``{"map": .., "ap50": .., "ap/car": ..}``; NaN where a figure is not defined."""
        ...


class Task(Protocol):
    """One thing a model can learn. A frozen dataclass: its fields are its YAML keys."""

    name: ClassVar[str]

    def metric(self, classes: ClassMap) -> Metric: ...

    def label_cost(self, label: Target | Output) -> Mapping[str, float]:
        """What labeling this image costs: ``{"seconds": .., "boxes": .., ...}``."""
        ...


@runtime_checkable
class Teachable(Protocol):
    """What a task has, too, whose labels a teacher can make."""

    def pseudo(
        self, output: Output, size: tuple[int, int], threshold: float, mirrored: Output | None = None
    ) -> Tensor | None:
        """The part of an answer that is sure, as a target of H, W ``size``; None where nothing of it is.

        ``mirrored``: the answer to the mirror image, which a task may compare. ValueError for answers of other tasks.
        """
        ...


@runtime_checkable
class Model(Protocol):
    """The network: an ``nn.Module`` with these three; ``inputs`` besides where it reads more than the image."""

    provides: frozenset[str]  # task names, and "features", "predicted_loss", "detection.dense"

    def forward(self, batch: Batch) -> Losses:
        """The unweighted losses of a training batch (in training mode)."""
        ...

    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        """One prediction an image of ``[B, 3, H, W]``, no gradients; ``heads`` (of ``provides``) limits the work."""
        ...


def sensors_of(model: object) -> tuple[str, ...]:
    """What a model reads beside the image: the names in its ``inputs``, such as ``("rgb", "depth")``, without "rgb".

    These are in ``Sample.inputs`` and ``Batch.inputs``, and are given to ``predict``. None where it names no inputs.
    """
    return tuple(name for name in getattr(model, "inputs", ()) if name != "rgb")


def wanted_heads(provides: frozenset[str], heads: Sequence[str] | None) -> frozenset[str]:
    """What ``predict`` is to answer: all that a model provides where nobody says. ValueError for what it does not."""
    wanted = provides if heads is None else frozenset(heads)
    if unknown := wanted - provides:
        raise ValueError(f"heads {sorted(unknown)}: not provided by this model; expected some of {sorted(provides)}")
    return wanted


class Weighting(Protocol):
    """How several losses become one. Also an ``nn.Module``, so that its state is checkpointed."""

    def total(
        self, losses: Mapping[str, Tensor], *, shared: Sequence[nn.Parameter] = (), step: int = 0, epoch: int = 0
    ) -> Tensor:
        """The scalar to call backward on; ``losses`` are the means of each "task.part", all of them finite."""
        ...

    def step(self) -> None:
        """Called once after the step of the optimiser."""
        ...

    def weights(self) -> dict[str, float]:
        """The multiplier that each loss had in the last total()."""
        ...


@runtime_checkable
class NamedWeighting(Protocol):
    """What a weighting has, too, that keeps something of each loss: it is told all names, and then what is there.

    Any other weighting gets every loss at every step: 0, connected to the graph, where no image has a label for it.
    ``total`` changes nothing that lasts; ``step`` does, and is not called where a step is skipped. What ``begin`` makes
    to be learned joins the optimiser of the network, without weight decay. One with ``reads_shared = True`` gets the
    ``shared`` parameters of the model in ``total``; its losses can be differentiated by them, and by nothing else.
    """

    def begin(self, names: Sequence[str]) -> None:
        """Called once, before the first total() or before a state is loaded, with the names of all losses."""
        ...
