"""The multi-head net: one pass of the backbone, partial labels, heads on demand, loss prediction, repeatability."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from tasks.base import Model
from tasks.detection import Detection
from tasks.nets.decode import Decode
from tasks.nets.lossnet import LossPrediction
from tasks.nets.model import MultiTaskNet
from tasks.nets.presets import small
from tasks.segmentation import Segmentation
from tasks.types import IGNORE, Batch, Losses, Prediction, Sample
from tests.tasks.nets.shapes import CLASSES, TASKS, batch_of, objects, scenes, seeded, train, without

PARTS = {"detection.cls", "detection.box", "detection.centerness", "segmentation.ce"}


def net(tasks: Sequence[str] = TASKS, loss_prediction: LossPrediction | None = None, seed: int = 0) -> MultiTaskNet:
    return seeded(lambda: small(CLASSES, tasks, width=8, loss_prediction=loss_prediction), seed)


class Mean(nn.Module):
    """The smallest model of one's own: the class of every pixel from its colour."""

    provides = frozenset({"segmentation"})

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, len(CLASSES.segmentation), 1)

    def forward(self, batch: Batch) -> Losses:
        truth = torch.stack([t for t in batch.targets["segmentation"] if isinstance(t, Tensor)])
        values = nn.functional.cross_entropy(self.layer(batch.images), truth, reduction="none").mean((1, 2))
        return Losses({"segmentation.ce": values}, {"segmentation": torch.ones(len(truth), dtype=torch.bool)})

    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        return []


def test_a_model_of_ones_own_needs_no_base_class() -> None:
    own = Mean()
    assert isinstance(own, Model)
    assert isinstance(net(), Model)
    losses = own(batch_of(scenes(2)))
    assert losses.means()["segmentation.ce"].item() > 0


def test_shapes_and_parts() -> None:
    model, batch = net(), batch_of(scenes(3))
    losses = model(batch)
    assert set(losses.values) == PARTS
    assert all(v.shape == (3,) and v.dtype == torch.float32 and (v > 0).all() for v in losses.values.values())
    assert losses.labeled["detection"].tolist() == [True, True, True]
    assert [tuple(m.shape) for m in model.maps(batch.images)] == [(3, 8, 64 // s, 64 // s) for s in (4, 8, 16, 32)]


def test_the_backbone_runs_once_per_pass() -> None:
    model, calls = net(loss_prediction=LossPrediction()), []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    model(batch_of(scenes(2)))
    assert len(calls) == 1
    model.eval().predict(batch_of(scenes(2)).images, sorted(model.provides))
    assert len(calls) == 2


def test_each_combination_of_heads_answers_just_that() -> None:
    model, images = net(loss_prediction=LossPrediction()).eval(), batch_of(scenes(2)).images
    assert model.provides == {"detection", "segmentation", "features", "predicted_loss", "detection.dense"}
    everything = model.predict(images)
    assert everything[0].dense is None
    assert set(everything[0].outputs) == set(TASKS)
    assert everything[0].features is not None
    assert everything[0].features.shape == (32,)
    assert set(everything[0].predicted_loss) == set(TASKS)
    assert everything[0].log_probs.shape == (3, 16, 16)
    assert torch.allclose(everything[0].log_probs.exp().sum(0), torch.ones(16, 16), atol=1e-5)
    for head in model.provides:
        answer = model.predict(images, [head])[1]
        assert set(answer.outputs) == ({head} if head in TASKS else set())
        assert (answer.features is not None) == (head == "features")
        assert bool(answer.predicted_loss) == (head == "predicted_loss")
        assert (answer.dense is not None) == (head == "detection.dense")
    dense = model.predict(images, ["detection.dense"])[0].dense
    assert dense is not None
    assert dense.shape == (16 * 16 + 8 * 8 + 4 * 4 + 2 * 2, 2)
    assert torch.equal(model.predict(images, ["segmentation"])[1].log_probs, everything[1].log_probs)


@pytest.mark.parametrize("task", TASKS)
def test_a_net_of_one_task(task: str) -> None:
    model = net((task,), LossPrediction())
    losses = model(batch_of(scenes(2), (task,)))
    assert {part.split(".")[0] for part in losses.values} == {task}
    assert set(losses.extra) == {f"{task}.ranking"}
    assert task in model.provides
    assert ("detection.dense" in model.provides) == (task == "detection")
    assert set(model.eval().predict(torch.rand(1, 3, 32, 32))[0].outputs) == {task}


def test_unlabeled_company_changes_no_mean() -> None:
    """The means of [a, b, -, -] are those of [a, b]; with nothing labeled all is 0, and gradients are finite."""
    model = net().eval()
    a, b, c, d = scenes(4)
    few = model(batch_of([a, b])).means()
    many = model(batch_of([a, b, without(c, *TASKS), without(d, *TASKS)]))
    for part, mean in many.means().items():
        assert mean.item() == pytest.approx(few[part].item(), rel=1e-5)
    assert many.labeled["segmentation"].tolist() == [True, True, False, False]
    assert all(v[2:].abs().sum() == 0 for v in many.values.values())
    nothing = model(batch_of([without(c, *TASKS), without(d, *TASKS)]))
    total = torch.stack(list(nothing.means().values())).sum()
    assert total.item() == 0
    total.backward()  # type: ignore[no-untyped-call]
    grads = [p.grad for p in model.parameters()]
    assert all(g is not None and g.abs().sum() == 0 for g in grads)


def test_a_missing_task_trains_nothing_of_its_head() -> None:
    model = net()
    losses = model(batch_of([without(s, "detection") for s in scenes(2)]))
    assert all(losses.values[p].tolist() == [0.0, 0.0] for p in PARTS if p.startswith("detection"))
    torch.stack(list(losses.means().values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() == 0 for p in model.heads["detection"].parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.backbone.parameters())
    absent = model(Batch(("a",), torch.rand(1, 3, 64, 64), {}))  # not even the key is there
    assert absent.labeled["detection"].tolist() == [False]
    assert absent.values["segmentation.ce"].tolist() == [0.0]


def test_empty_and_ignored_labels_give_no_nan() -> None:
    """An image without objects is all background; a map that is all ignored counts 0."""
    sample = scenes(1)[0]
    blank = Sample("b", sample.image, {"detection": objects([], []), "segmentation": torch.full((64, 64), IGNORE)})
    model = net()
    losses = model(batch_of([blank, blank]))
    assert losses.values["detection.cls"].min() > 0
    assert losses.values["detection.box"].tolist() == [0.0, 0.0]
    assert losses.values["segmentation.ce"].tolist() == [0.0, 0.0]
    torch.stack(list(losses.means().values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_losses_stay_float32_under_autocast() -> None:
    model, batch = net(loss_prediction=LossPrediction()), batch_of(scenes(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(batch)
        answer = model.eval().predict(batch.images)[0]
    assert {v.dtype for v in [*losses.values.values(), *losses.extra.values()]} == {torch.float32}
    assert answer.log_probs.dtype == answer.detections.boxes.dtype == torch.float32
    assert answer.predicted_loss["detection"].dtype == torch.float32


def test_ranking_losses_pair_labeled_images_and_stop_where_they_should() -> None:
    samples = scenes(4)
    for share, progress, flows in ((0.0, 0.0, False), (0.6, 0.5, True), (0.6, 0.6, False)):
        model = net(loss_prediction=LossPrediction(width=16, levels=2, weight=3.0, detach_at=share))
        model(batch_of(samples, progress=progress)).extra["detection.ranking"].backward()
        reached = any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.backbone.parameters())
        assert reached == flows
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.lossnets.parameters())
    one = net(loss_prediction=LossPrediction())(batch_of([samples[0], *(without(s, "detection") for s in samples[1:])]))
    assert one.extra["detection.ranking"].item() == 0
    assert one.extra["segmentation.ranking"].item() > 0


def test_loss_prediction_settings_change_the_ranking_loss() -> None:
    batch = batch_of(scenes(4))
    values = [
        net(loss_prediction=LossPrediction(**{"width": 16, **kind}))(batch).extra["segmentation.ranking"].item()  # type: ignore[arg-type]
        for kind in ({}, {"width": 24}, {"levels": 2}, {"margin": 2.0}, {"weight": 2.0})
    ]
    assert len(set(values)) == len(values)
    assert values[4] == pytest.approx(2 * values[0])


def test_loss_prediction_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"levels: 5; expected at most 4"):
        net(loss_prediction=LossPrediction(levels=5))
    with pytest.raises(ValueError, match=r"detach_at: 1\.5"):
        LossPrediction(detach_at=1.5)
    with pytest.raises(ValueError, match="width 0"):
        LossPrediction(width=0)


def test_bad_sizes_and_heads_are_named() -> None:
    model = net(("segmentation",)).eval()
    with pytest.raises(ValueError, match="images of 42x64: expected multiples of 4"):
        model.predict(torch.rand(1, 3, 42, 64))
    with pytest.raises(ValueError, match="'detection'"):
        model.predict(torch.rand(1, 3, 32, 32), ["detection"])
    with pytest.raises(AssertionError, match="eval"):
        model.train().predict(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match="no head"):
        net(())


def test_company_does_not_matter() -> None:
    """An image is seen alike alone and in a batch (to rounding), and decoded alike."""
    model, images = net().eval(), batch_of(scenes(3)).images
    alone, together = model.predict(images[1:2])[0], model.predict(images)[1]
    assert torch.allclose(alone.log_probs, together.log_probs, atol=1e-5)
    assert len(alone.detections.scores) == len(together.detections.scores)
    assert torch.allclose(alone.detections.scores, together.detections.scores, atol=1e-5)


def test_equal_seeds_give_equal_weights_bit_for_bit() -> None:
    def trained(seed: int) -> list[Tensor]:
        model = net(loss_prediction=LossPrediction(), seed=seed)
        train(model, scenes(12), 3)
        return [p.detach().clone() for p in model.state_dict().values()]

    first, second, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.slow
def test_class_0_is_learnt() -> None:
    """Catches labels that are off by one: a data set of class 0 alone reaches AP50 > .9, and its maps are painted."""
    samples, held_out = scenes(96, kinds=1), scenes(24, seed=9, kinds=1)
    model = seeded(lambda: small(CLASSES, TASKS, width=8, decode=Decode(top=20)))
    history = train(model, samples, 80, rate=1e-2)
    assert history[-1] < history[0] / 2
    model.eval()
    found = model.predict(batch_of(held_out).images)
    ids = [s.id for s in held_out]
    precision, iou = Detection().metric(CLASSES), Segmentation().metric(CLASSES)
    precision.update([p["detection"] for p in found], [s.targets["detection"] for s in held_out], ids)
    iou.update([p["segmentation"] for p in found], [s.targets["segmentation"] for s in held_out], ids)
    assert precision.compute()["ap50"] > 0.9
    assert iou.compute()["iou/car"] > 0.7
