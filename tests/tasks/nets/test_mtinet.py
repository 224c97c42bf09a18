"""MTI-Net: forms of fusion, losses, missing labels, size, predictions, options."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tasks.base import Model, sensors_of
from tasks.classes import ClassMap
from tasks.nets.mtinet import MtiNet, mtinet
from tasks.nets.mtinet_parts import PyramidBody
from tasks.types import Batch, DepthMap, Prediction, Sample
from tasks.weighting.gradnorm import GradNorm
from tests.tasks.nets.shapes import CLASSES, batch_of, seeded, with_depth, without

BOTH = ("segmentation", "depth")


def net(tasks: Sequence[str] = BOTH, **options: Any) -> MtiNet:
    return seeded(lambda: mtinet(CLASSES, tasks, depth_unit=10.0, **options))


def sample(seed: int) -> Sample:
    """With depth, and the map of classes + 1, as inputs."""
    one = with_depth(seed)
    metres, truth = one.targets["depth"], one.targets["segmentation"]
    assert isinstance(metres, Tensor)
    assert isinstance(truth, Tensor)
    return replace(one, inputs={"depth": metres.nan_to_num(nan=0.0)[None], "segmentation": truth.float()[None] + 1})


SAMPLES = [sample(i) for i in range(4)]


def batch(count: int = 4) -> Batch:
    return batch_of(SAMPLES[:count], BOTH)


def answers(model: MtiNet, of: Batch) -> list[Prediction]:
    return model.eval().predict(of.images, inputs=of.inputs)


def metres(prediction: Prediction) -> Tensor:
    found = prediction["depth"]
    assert isinstance(found, DepthMap)
    return found.metres


def total(model: MtiNet, of: Batch) -> Tensor:
    return torch.stack(list(model(of).means().values())).sum()


@pytest.mark.parametrize(
    ("tasks", "inputs", "fusion"),
    [
        (("segmentation",), ("rgb",), "sum"),
        (("depth",), ("rgb",), "sum"),
        (("segmentation",), ("rgb", "depth"), "stem"),
        (("segmentation",), ("rgb", "depth"), "sum"),
        (BOTH, ("rgb",), "stem"),
        (BOTH, ("rgb", "depth"), "stem"),
        (BOTH, ("rgb", "depth"), "sum"),
        (BOTH, ("rgb", "segmentation"), "sum"),
    ],
)
def test_every_form_trains_and_answers(tasks: Sequence[str], inputs: tuple[str, ...], fusion: str) -> None:
    model = net(tasks, inputs=inputs, fusion=fusion)
    assert isinstance(model, Model)
    assert sensors_of(model) == tuple(name for name in inputs if name != "rgb")
    assert len(model.beside) == (len(inputs) - 1 if fusion == "sum" else 0)
    losses = model(batch(2))
    assert set(losses.values) == {{"segmentation": "segmentation.ce", "depth": "depth.l1"}[task] for task in tasks}
    assert all(v.shape == (2,) and v.dtype == torch.float32 and (v > 0).all() for v in losses.values.values())
    torch.stack(list(losses.means().values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    found = answers(model, batch(2))[0]
    assert set(found.outputs) == set(tasks)
    if "depth" in tasks:
        assert metres(found).shape == (16, 16)
    if "segmentation" in tasks:
        assert torch.allclose(found.log_probs.exp().sum(0), torch.ones(16, 16), atol=1e-5)


def test_what_is_read_beside_the_image_changes_the_answer() -> None:
    given = batch(1)
    for name, fusion in (("depth", "sum"), ("depth", "stem"), ("segmentation", "sum")):
        model = net(inputs=("rgb", name), fusion=fusion)
        blind = replace(given, inputs={name: torch.zeros_like(given.inputs[name])})
        assert not torch.equal(metres(answers(model, given)[0]), metres(answers(model, blind)[0]))
        with pytest.raises(ValueError, match=f"reads '{name}', which these images come without"):
            model(replace(given, inputs={}))


def test_maps_of_the_backbones_are_added() -> None:
    model, given = net(inputs=("rgb", "depth")).eval(), batch(1)
    seen: list[list[Tensor]] = []
    for body in (model.backbone, *model.beside):
        body.register_forward_hook(lambda *called: seen.append(called[2]))
    for fused, first, second in zip(model.maps(given.images, given.inputs), *seen, strict=True):
        assert torch.equal(fused, first + second)
    assert [tuple(x.shape) for x in model.maps(given.images, given.inputs)] == [
        (1, c, 64 // s, 64 // s) for c, s in zip(PyramidBody.channels, (4, 8, 16, 32), strict=True)
    ]


def test_unlabeled_company_changes_no_mean() -> None:
    model = net().eval()
    few = model(batch(2)).means()
    blank = [replace(one, targets={}) for one in SAMPLES[2:]]
    together = model(batch_of([*SAMPLES[:2], *blank], BOTH))
    assert together.labeled["depth"].tolist() == [True, True, False, False]
    for part, mean in together.means().items():
        assert mean.item() == pytest.approx(few[part].item(), rel=1e-5)
        assert together.values[part][2:].abs().sum() == 0


@pytest.mark.parametrize("missing", BOTH)
def test_a_missing_task_trains_nothing_of_its_own(missing: str) -> None:
    model, index = net(), BOTH.index(missing)
    losses = model(batch_of([without(one, missing) for one in SAMPLES], BOTH))
    assert [v.abs().sum().item() == 0 for v in losses.values.values()] == [task == missing for task in BOTH]
    torch.stack(list(losses.means().values())).sum().backward()  # type: ignore[no-untyped-call]
    assert model.decoder is not None
    own = [model.decoder.aggregate[index], *(scale[index] for scale in model.decoder.first)]  # type: ignore[index]
    assert all(p.grad is not None and p.grad.abs().sum() == 0 for module in own for p in module.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.backbone.parameters())


def test_without_any_label_there_is_no_gradient() -> None:
    model = net()
    loss = total(model, batch_of([replace(one, targets={}) for one in SAMPLES[:2]], BOTH))
    assert loss.item() == 0
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() == 0 for p in model.parameters())


@pytest.mark.slow
def test_deep_supervision_adds_the_losses_of_four_scales() -> None:
    deep, plain = net().eval(), net(deep_supervision=False).eval()
    assert {name for name, _ in deep.named_parameters()} - {name for name, _ in plain.named_parameters()} == {
        f"decoder.first.{scale}.{task}.{kind}" for scale in range(4) for task in range(2) for kind in ("weight", "bias")
    }
    state = deep.state_dict()
    plain.load_state_dict({name: value for name, value in state.items() if name in plain.state_dict()})
    given = batch(2)
    assert torch.equal(metres(answers(plain, given)[0]), metres(answers(deep, given)[0]))
    assert (deep(given).values["depth.l1"] > plain(given).values["depth.l1"]).all()


@pytest.mark.slow
def test_options_change_the_network() -> None:
    given = batch(1)
    plain = metres(answers(net(), given)[0])
    other = net(fpm_layout="repo")
    other.load_state_dict(net().state_dict())
    assert not torch.equal(metres(answers(other, given)[0]), plain)
    with_pyramid = net(fpn=True)
    assert [x.shape[1] for x in with_pyramid.maps(given.images, {})] == list(PyramidBody.channels)
    total(with_pyramid, given).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in with_pyramid.parameters())
    near, far = (net(inputs=("rgb", "depth"), depth_range=(0.0, high)) for high in (10.0, 80.0))
    assert not torch.equal(metres(answers(near, given)[0]), metres(answers(far, given)[0]))
    coarse, fine = net(loss_stride=4).eval(), net().eval()
    assert not torch.equal(coarse(given).values["depth.l1"], fine(given).values["depth.l1"])


def millions(tasks: Sequence[str], **options: Any) -> float:
    classes = ClassMap((), tuple(f"class {i}" for i in range(13)), ())
    return sum(p.numel() for p in mtinet(classes, tasks, **options).parameters()) / 1e6


@pytest.mark.slow
def test_parameters_on_hrnet() -> None:
    """UMST-S as measured before (3.94 M), and so is what a second backbone adds (13.41 - 9.55 = 3.86 M).

    Of the 9.55 M of UMMT, 0.99 M are missing: as many as the messages from a task to itself would have, at four scales.
    The formula of the distillation sums over the other tasks only.
    """
    small: dict[str, Any] = {"backbone": "hrnet_w18_small_v2"}
    assert millions(("segmentation",), **small) == pytest.approx(3.94, abs=0.005)
    several = millions(BOTH, **small)
    to_itself = 2 * 2 * 9 * sum(c * c for c in (18, 36, 72, 144)) / 1e6
    assert several + to_itself == pytest.approx(9.55, abs=0.005)
    assert millions(BOTH, **small, inputs=("rgb", "depth")) - several == pytest.approx(13.41 - 9.55, abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["hrnet_w18_small_v2", "hrnet_w18"])
def test_hrnet_trains_and_answers(variant: str) -> None:
    model = net(backbone=variant, inputs=("rgb", "depth"))
    total(model, batch(2)).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in model.parameters())
    assert metres(answers(model, batch(1))[0]).shape == (16, 16)
    assert 0 < sum(p.numel() for p in model.shared) < sum(p.numel() for p in model.backbone.parameters()) * 2
    with pytest.raises(ValueError, match="expected multiples of 32"):
        model.predict(torch.rand(1, 3, 48, 64))


def test_predictions_do_not_depend_on_the_batch() -> None:
    model = net(inputs=("rgb", "depth"))
    for one, said in zip(SAMPLES, answers(model, batch()), strict=True):
        [alone] = answers(model, batch_of([one], BOTH))
        assert torch.allclose(metres(alone), metres(said), atol=1e-4)
        assert torch.allclose(alone.log_probs, said.log_probs, atol=1e-5)
        assert alone.features is not None
        assert alone.features.shape == (sum(PyramidBody.channels),)


def test_each_head_answers_just_that() -> None:
    model, given = net(), batch(2)
    everything = answers(model, given)
    for head in model.provides:
        answer = model.predict(given.images, [head])[1]
        assert set(answer.outputs) == {head} - {"features"}
        assert (answer.features is not None) == (head == "features")
    assert torch.equal(model.predict(given.images, ["segmentation"])[1].log_probs, everything[1].log_probs)
    with pytest.raises(ValueError, match="'detection'"):
        model.predict(given.images, ["detection"])
    with pytest.raises(AssertionError, match="eval"):
        model.train().predict(given.images)


@pytest.mark.slow
def test_weights_go_to_a_file_and_back(tmp_path: Path) -> None:
    model, given = net(inputs=("rgb", "depth")), batch(2)
    total(model, given)  # moves the running statistics
    torch.save(model.state_dict(), tmp_path / "whole.pt")
    torch.save(model.backbone.state_dict(), tmp_path / "body.pt")
    again = mtinet(CLASSES, BOTH, inputs=("rgb", "depth"), depth_unit=10.0, weights=str(tmp_path / "whole.pt"))
    for one, other in zip(answers(model, given), answers(again, given), strict=True):
        assert torch.equal(metres(one), metres(other))
        assert torch.equal(one.log_probs, other.log_probs)
    body = mtinet(CLASSES, BOTH, weights=str(tmp_path / "body.pt"))
    assert all(torch.equal(a, b) for a, b in zip(body.backbone.parameters(), model.backbone.parameters(), strict=True))
    with pytest.raises(ValueError, match="does not fit the whole model"):
        mtinet(CLASSES, BOTH, weights=str(tmp_path / "whole.pt"))


@pytest.mark.slow
def test_shared_layers_are_those_that_gradnorm_balances() -> None:
    for options, names in (({}, "backbone.stages.3"), ({"fpn": True}, "narrow")):
        model = net(**options)
        assert {id(p) for p in model.shared} == {id(p) for n, p in model.named_parameters() if n.startswith(names)}
    model = net(inputs=("rgb", "depth"))
    weighting = GradNorm()
    weighting.begin(["segmentation.ce", "depth.l1"])
    weighting.total(model(batch(2)).means(), shared=model.shared, step=0, epoch=0).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in model.parameters())


def test_losses_stay_float32_under_autocast() -> None:
    model, given = net(), batch(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(given)
        [answer, _] = answers(model, given)
    assert {v.dtype for v in losses.values.values()} == {torch.float32}
    assert answer.log_probs.dtype == metres(answer).dtype == torch.float32


@pytest.mark.parametrize(
    ("tasks", "options", "says"),
    [
        (("detection",), {}, "no head for 'detection'"),
        ((), {}, "none is named"),
        (BOTH, {"inputs": ("lidar",)}, "no input is called 'lidar'; expected some of rgb, depth, segmentation"),
        (BOTH, {"loss_stride": 3}, "model.loss_stride: 3"),
        (BOTH, {"depth_range": (2.0, 1.0)}, "model.depth_range"),
        (BOTH, {"depth_unit": 0.0}, "model.depth_unit"),
        (BOTH, {"weights": "imagenet"}, "no file 'imagenet'"),
    ],
)
def test_wrong_options_are_refused(tasks: Sequence[str], options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        mtinet(CLASSES, tasks, **options)


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="images of 42x64: expected multiples of 4"):
        net().eval().predict(torch.rand(1, 3, 42, 64))


@pytest.mark.slow
def test_the_losses_fall() -> None:
    model, given = net(deep_supervision=False, loss_stride=2), batch(2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    history = []
    for _ in range(12):
        optimizer.zero_grad()
        losses = model(given).means()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        history.append({part: value.item() for part, value in losses.items()})
    assert all(history[-1][part] < 0.5 * history[0][part] for part in history[0])
