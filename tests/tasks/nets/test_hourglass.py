"""The hour-glass: shapes, losses of one query an image, dead layers, missing labels, options, a loss that falls."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tasks.base import Model, sensors_of
from tasks.classes import ClassMap
from tasks.data.workbench import Workbench
from tasks.data.workbench_parts import NAMES
from tasks.geometry import rle_of_mask
from tasks.nets.hourglass import Hourglass
from tasks.pickup import Pickup
from tasks.types import Batch, Objects, Pickups, Prediction, Sample

SIZE = (48, 64)
BENCH = Workbench(size=SIZE, objects=(2, 4))
CLASSES = BENCH.classes()


def sample(index: int) -> Sample:
    bench, view = BENCH.bench("train", index), BENCH.view("train", index)
    masks = [view.instances == i + 1 for i in range(len(bench.parts))]
    objects = Objects(
        boxes=torch.zeros(len(masks), 4),
        labels=torch.tensor([part.label for part in bench.parts]),
        crowd=torch.zeros(len(masks), dtype=torch.bool),
        rles=tuple(rle_of_mask(mask) for mask in masks),
        keypoints=torch.tensor([[[x, y, 2.0]] for x, y in view.points], dtype=torch.float32),
    )
    image = torch.from_numpy(view.image).permute(2, 0, 1).float() / 255
    depth = torch.from_numpy(view.depth).nan_to_num(nan=0.0)[None]
    return Sample(str(index), image, {"pickup": objects}, {"depth": depth})


SAMPLES = [sample(i) for i in range(4)]


def batch(samples: list[Sample] | None = None) -> Batch:
    return Batch.of(SAMPLES if samples is None else samples, ("pickup",))


def net(seed: int = 0, **options: object) -> Hourglass:
    torch.manual_seed(seed)
    given = {"width": 8, "levels": 4, "dropout": 0.0, **options}
    return Hourglass(CLASSES, ("pickup",), **given)  # type: ignore[arg-type]


def answers(model: Hourglass, of: Batch) -> list[Prediction]:
    return model.eval().predict(of.images, inputs=of.inputs)


def test_the_paper_sized_net() -> None:
    """256 x 192, 13 layers: 3 x 4 cells inside; the layers are as large as the image."""
    model = Hourglass(CLASSES, ("pickup",), width=8)
    inner, layers = model.eval().maps(torch.zeros(1, 3, 192, 256), {"depth": torch.zeros(1, 1, 192, 256)})
    assert inner.shape == (1, 32, 3, 4)
    assert layers.shape == (1, len(NAMES), 192, 256) == (1, 13, 192, 256)
    widths = [m.out_channels for m in Hourglass(CLASSES, ("pickup",)).modules() if isinstance(m, torch.nn.Conv2d)]
    assert widths == [32, 48, 64, 96, 128, 128, 128]
    drops = [name for name, m in model.down.named_modules() if isinstance(m, torch.nn.Dropout)]
    assert [name[0] for name in drops] == ["5", "6"]


def test_it_says_what_it_reads() -> None:
    assert isinstance(net(), Model)
    assert sensors_of(net()) == ("depth",)
    assert sensors_of(net(inputs=("rgb",))) == ()
    assert len(answers(net(inputs=("rgb",)), replace(batch(), inputs={}))) == 4
    with pytest.raises(ValueError, match="reads 'depth', which these images come without"):
        net()(replace(batch(), inputs={}))


def test_depth_changes_the_answer() -> None:
    model, plain = net(), batch()
    blind = replace(plain, inputs={"depth": torch.zeros_like(plain.inputs["depth"])})
    assert not torch.equal(activations(answers(model, plain)[0]), activations(answers(model, blind)[0]))


def activations(prediction: Prediction) -> Tensor:
    found = prediction["pickup"]
    assert isinstance(found, Pickups)
    return found.activations


def test_losses_are_those_of_one_query_an_image() -> None:
    model = net(losses=("iou", "dist", "ce", "class"))
    torch.manual_seed(1)
    losses = model(batch())
    assert set(losses.values) == {"pickup.iou", "pickup.dist", "pickup.ce", "pickup.class"}
    assert all(v.shape == (4,) and (v > 0).all() for v in losses.values.values())
    assert losses.labeled["pickup"].tolist() == [True] * 4
    torch.manual_seed(1)
    assert torch.equal(model(batch()).values["pickup.iou"], losses.values["pickup.iou"])
    drawn = {tuple(model(batch()).values["pickup.iou"].tolist()) for _ in range(8)}
    assert len(drawn) > 1, "every step draws anew"


def test_only_the_layer_that_is_asked_for_learns() -> None:
    model, one = net(), SAMPLES[0]
    objects = one.targets["pickup"]
    assert isinstance(objects, Objects)
    label = int(objects.labels[0])
    alone = Objects(objects.boxes[:1], objects.labels[:1], objects.crowd[:1], objects.rles[:1], objects.keypoints[:1])
    losses = model(batch([replace(one, targets={"pickup": alone})]))
    sum(losses.means().values()).backward()
    last = model.up[-1].bias.grad
    assert last.nonzero().flatten().tolist() == [label]


def test_the_distance_has_a_unit_and_the_iou_two_forms() -> None:
    def values(**options: object) -> dict[str, Tensor]:
        model = net(**options)
        torch.manual_seed(5)
        return dict(model(batch()).values)

    plain = values()
    assert torch.allclose(values(distance_unit=100.0)["pickup.dist"] * 100, plain["pickup.dist"])
    assert not torch.allclose(values(iou="literal")["pickup.iou"], plain["pickup.iou"])
    model = net(iou="literal")
    with torch.no_grad():
        model.up[-1].bias.fill_(9.0)
    assert activations(answers(model, batch())[0]).max() > 2


@pytest.mark.parametrize("missing", ["label", "objects", "points"])
def test_an_image_that_nothing_can_be_asked_of_counts_nothing(missing: str) -> None:
    objects = SAMPLES[1].targets["pickup"]
    assert isinstance(objects, Objects)
    assert objects.keypoints is not None
    nothing = Objects(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool))
    targets = {
        "label": {},
        "objects": {"pickup": nothing},
        "points": {"pickup": replace(objects, keypoints=objects.keypoints * 0)},
    }[missing]
    model = net(losses=("iou", "dist", "ce"))
    torch.manual_seed(2)
    alone = model(batch(SAMPLES[:1]))
    torch.manual_seed(2)
    both = model(batch([SAMPLES[0], replace(SAMPLES[1], targets=targets)]))
    assert both.labeled["pickup"].tolist() == [True, False]
    for part, value in both.values.items():
        assert value[1] == 0
        assert value.requires_grad
        assert both.means()[part].item() == pytest.approx(alone.means()[part].item(), rel=1e-5)
    nobody = model(batch([replace(SAMPLES[1], targets=targets)]))
    sum(nobody.means().values()).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_dead_network_is_seen_and_learns_nothing() -> None:
    model = net()
    with torch.no_grad():
        model.up[-1].weight.zero_()
        model.up[-1].bias.fill_(-1.0)
    losses = model(batch())
    assert losses.values["pickup.iou"].tolist() == [1.0] * 4
    sum(losses.means().values()).backward()
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)
    found = answers(model, batch())
    metric = Pickup(cm_per_px=0.8).metric(CLASSES)
    targets = [s.targets["pickup"] for s in SAMPLES]
    metric.update([p["pickup"] for p in found], targets, [s.id for s in SAMPLES])
    assert metric.compute()["dead"] == metric.compute()["queries"] > 4


def test_predictions_do_not_depend_on_the_batch() -> None:
    model = net()
    together = answers(model, batch())
    for one, said in zip(SAMPLES, together, strict=True):
        [alone] = answers(model, batch([one]))
        assert torch.allclose(activations(alone), activations(said), atol=1e-5)
        assert said.features is not None
        assert said.features.shape == (24,)
    only = model.predict(batch().images, ("features",), batch().inputs)
    assert only[0].outputs == {}
    with pytest.raises(ValueError, match="not provided"):
        model.predict(batch().images, ("detection",), batch().inputs)


def test_options_change_the_network() -> None:
    kinds = {type(m).__name__ for m in net().modules()}
    assert "GroupNorm" in kinds
    assert "LeakyReLU" not in kinds
    plain = {type(m).__name__ for m in net(norm="none", leaky=True).modules()}
    assert "GroupNorm" not in plain
    assert "LeakyReLU" in plain
    near = answers(net(depth_range=(0.45, 0.55)), batch())[0]
    assert not torch.equal(activations(near), activations(answers(net(), batch())[0]))


@pytest.mark.parametrize("losses", [("iou", "dist"), ("iou", "class")])
def test_every_loss_has_a_gradient_in_the_shared_layers(losses: tuple[str, ...]) -> None:
    model = net(losses=losses)
    for value in model(batch()).means().values():
        found = torch.autograd.grad(value, model.shared, retain_graph=True)
        assert float(sum(g.abs().sum() for g in found)) > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 12}, "model.width"),
        ({"levels": 7}, "model.levels"),
        ({"dropout": 1.0}, "model.dropout"),
        ({"losses": ()}, "model.losses"),
        ({"losses": ("iou", "iou")}, "model.losses"),
        ({"distance_unit": 0.0}, "model.distance_unit"),
        ({"depth_range": (0.7, 0.3)}, "model.depth_range"),
        ({"inputs": ("lidar",)}, "no input is called"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        net(**options)


def test_wrong_tasks_classes_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 'pickup' alone"):
        Hourglass(CLASSES, ("pickup", "detection"))
    with pytest.raises(ValueError, match="no keypoints"):
        Hourglass(ClassMap(("a",), (), (-1,)), ("pickup",))
    with pytest.raises(ValueError, match="expected multiples of 16"):
        net().maps(torch.zeros(1, 3, 40, 64), {"depth": torch.zeros(1, 1, 40, 64)})


def test_the_loss_falls() -> None:
    """One class in one image: the centre of its layer comes to lie on the object."""
    model, one = net(losses=("dist",), distance_unit=10.0), SAMPLES[0]
    objects = one.targets["pickup"]
    assert isinstance(objects, Objects)
    alone = Objects(objects.boxes[:1], objects.labels[:1], objects.crowd[:1], objects.rles[:1], objects.keypoints[:1])
    chosen = batch([replace(one, targets={"pickup": alone})])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    totals = []
    for _ in range(20):
        optimizer.zero_grad()
        total = torch.stack(list(model.train()(chosen).means().values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        totals.append(total.item())
    assert sum(totals[-3:]) < 0.5 * sum(totals[:3])
