"""Three branches in one pass: losses where labels are missing, rows of one detection, images alone, learning."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tasks import MODELS
from tasks.base import Model
from tasks.classes import ClassMap
from tasks.detection import Detection
from tasks.geometry import mask_of_rle
from tasks.instances import Instances
from tasks.keypoints import Keypoints
from tasks.mask_patches import pasted
from tasks.nets.decode import Decode
from tasks.nets.rcnn import MultiHeadRcnn, rcnn
from tasks.types import Losses, Objects, Sample
from tests.tasks.nets.parts import CLASSES, SIZE, TASKS, WIDTH, batch_of, part_sample, small_rcnn
from tests.tasks.nets.shapes import seeded

PARTS = (
    *("detection.objectness", "detection.rpn_box", "detection.cls", "detection.box"),
    *("instances.mask", "keypoints.kp"),
)


def of(sample: Sample) -> Objects:
    objects = sample.targets["detection"]
    assert isinstance(objects, Objects)
    return objects


def given(sample: Sample, objects: Objects) -> Sample:
    return replace(sample, targets=dict.fromkeys(TASKS, objects))


def losses(model: MultiHeadRcnn, *samples: Sample) -> Losses:
    """The samples of proposals are drawn: the same ones for the same call."""
    return seeded(lambda: model.train()(batch_of(samples)))


def gradients(model: MultiHeadRcnn, loss: Tensor) -> dict[str, float]:
    model.zero_grad()
    loss.backward()
    return {
        name: float(p.grad.abs().sum()) if p.grad is not None else 0.0
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def nothing() -> Objects:
    return Objects(
        torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool(), (), torch.zeros(0, len(CLASSES.keypoints), 3)
    )


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_every_loss_of_every_image_is_there_and_the_backbone_runs_once() -> None:
    model, calls = small_rcnn(), []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    found = losses(model, part_sample(0), part_sample(1))
    assert isinstance(model, Model)
    assert tuple(found.values) == PARTS
    assert len(calls) == 1
    for part, value in found.values.items():
        assert value.shape == (2,)
        assert (value > 0).all(), part
    assert all(torch.equal(flags, torch.ones(2, dtype=torch.bool)) for flags in found.labeled.values())
    grown = gradients(model, torch.stack(list(found.means().values())).sum())
    assert all(amount > 0 for name, amount in grown.items() if name.endswith("weight")), grown


def test_an_image_without_objects_is_background_and_no_more() -> None:
    model = small_rcnn()
    found = losses(model, given(part_sample(0), nothing()))
    assert all(torch.isfinite(value).all() for value in found.values.values())
    assert found.values["detection.cls"] > 0
    assert found.values["detection.objectness"] > 0
    for part in ("detection.rpn_box", "detection.box", "instances.mask", "keypoints.kp"):
        assert found.values[part] == 0
    assert all(amount == amount for amount in gradients(model, sum(found.means().values(), torch.zeros(()))).values())


def test_without_a_visible_keypoint_its_loss_is_zero_with_a_gradient_of_zero() -> None:
    model, sample = small_rcnn(), part_sample(0)
    objects = of(sample)
    assert objects.keypoints is not None
    found = losses(model, given(sample, replace(objects, keypoints=objects.keypoints * 0)))
    assert found.values["keypoints.kp"] == 0
    assert found.values["instances.mask"] > 0
    grown = gradients(model, found.values["keypoints.kp"].sum())
    assert set(grown.values()) == {0.0}
    assert all(p.grad is not None for n, p in model.named_parameters() if "keypoint" in n)


def test_an_object_without_a_mask_is_left_out_of_the_mask_loss_alone() -> None:
    """Its mask may be anything: the loss is that of the others."""
    model, sample = small_rcnn(), part_sample(0)
    objects = of(sample)
    one = replace(objects, rles=(objects.rles[0], None))
    some, full = losses(model, given(sample, one)), losses(model, sample)
    only = losses(model, given(sample, replace(objects, rles=(None, objects.rles[1]))))
    assert some.values["instances.mask"] > 0
    assert some.values["instances.mask"] != full.values["instances.mask"] != only.values["instances.mask"]
    for part in PARTS:
        if part != "instances.mask":
            assert torch.equal(some.values[part], full.values[part])
    for rles in ((None, None), ()):
        none = losses(model, given(sample, replace(objects, rles=rles)))
        assert none.values["instances.mask"] == 0
        assert set(gradients(model, none.values["instances.mask"].sum()).values()) == {0.0}
        assert torch.equal(none.values["keypoints.kp"], full.values["keypoints.kp"])


def test_a_task_that_is_not_labeled_counts_nothing() -> None:
    model, sample = small_rcnn(), part_sample(0)
    boxes = replace(sample, targets={"detection": of(sample)})
    masks = replace(sample, targets={"instances": of(sample)})
    bare = replace(sample, targets={})
    found = losses(model, boxes, masks, bare)
    assert {task: flags.tolist() for task, flags in found.labeled.items()} == {
        "detection": [True, False, False],
        "instances": [False, True, False],
        "keypoints": [False, False, False],
    }
    for part, value in found.values.items():
        task = part.split(".")[0]
        assert [bool(v > 0) for v in value] == found.labeled[task].tolist(), part
    grown = gradients(model, losses(model, bare).values["detection.cls"].sum())
    assert set(grown.values()) == {0.0}


def test_what_lies_in_a_crowd_is_not_background() -> None:
    model, sample = small_rcnn(), part_sample(0)
    image = torch.tensor([[0.0, 0.0, SIZE[1], SIZE[0]]])
    everywhere = Objects(image, torch.tensor([0]), torch.tensor([True]), (None,), torch.zeros(1, 3, 3))
    found = losses(model, given(sample, everywhere))
    inside = {part: value.item() for part, value in found.values.items()}
    assert inside["detection.cls"] == 0
    assert inside["instances.mask"] == inside["keypoints.kp"] == 0
    assert 0 <= inside["detection.objectness"] < float("inf")  # anchors that reach out of the image


# ---- predictions -----------------------------------------------------------------------------------------------------


def loose() -> MultiHeadRcnn:
    """An untrained net whose classes pass the threshold here and there."""
    model = small_rcnn(decode=Decode(top=20))
    seeded(lambda: torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.3))
    return model.eval()


def test_rows_belong_together_and_raw_probabilities_have_the_background_last() -> None:
    model = loose()
    [found] = model.predict(part_sample(0).image[None])
    one = found.detections
    assert found["instances"] is found["keypoints"] is one
    count = len(one.boxes)
    assert 0 < count <= 20
    assert one.probs.shape == (count, 3)
    assert one.probs.sum(1) == pytest.approx(torch.ones(count).tolist(), abs=1e-5)
    assert torch.equal(one.scores, one.probs.gather(1, one.labels[:, None])[:, 0])
    assert (one.scores.diff() <= 0).all()
    assert set(one.labels.tolist()) == {0, 1}
    assert one.masks is not None
    assert len(one.masks) == count
    assert {mask_of_rle(mask).shape for mask in one.masks} == {SIZE}
    assert one.mask_probs is not None
    assert [pasted(*row, SIZE) for row in zip(one.mask_probs, one.boxes, strict=True)] == list(one.masks)
    assert one.keypoints is not None
    assert one.keypoint_scores is not None
    assert found.features is not None
    assert found.features.shape == (4 * WIDTH,)
    assert (one.boxes[:, 2:] <= torch.tensor([80.0, 64.0])).all()
    arm, rod = one.labels == 0, one.labels == 1
    assert (one.keypoints[arm][:, 2] == 0).all()  # the rod's slot
    assert (one.keypoints[rod][:, :2] == 0).all()
    assert (one.keypoints[arm][:, :2, 2] == 2).all()
    assert (one.keypoint_scores[arm][:, :2] > 0).all()
    inside = (one.keypoints[arm][:, :2, :2] >= one.boxes[arm][:, None, :2]).all()
    assert inside


def test_a_point_that_is_not_sure_is_not_there() -> None:
    model = loose()
    model.sure_point = 1.0
    points = model.predict(part_sample(0).image[None])[0].detections.keypoints
    assert points is not None
    assert not points.any()


def test_only_the_heads_that_are_asked_for_work() -> None:
    model, calls = loose(), []
    model.roi_heads.mask_head.register_forward_hook(lambda *_: calls.append("mask"))
    model.roi_heads.keypoint_head.register_forward_hook(lambda *_: calls.append("points"))
    image = part_sample(0).image[None]
    boxes = model.predict(image, ["detection"])[0]
    assert (boxes.detections.masks, boxes.detections.keypoints, boxes.features, calls) == (None, None, None, [])
    assert model.predict(image, ["features"])[0].outputs == {}
    assert set(model.predict(image, ["instances"])[0].outputs) == {"instances"}
    assert calls == ["mask"]
    with pytest.raises(ValueError, match=r"heads \['depth'\]: not provided"):
        model.predict(image, ["depth"])


def test_predictions_do_not_depend_on_batch_mates() -> None:
    model = loose()
    images = torch.stack([part_sample(seed).image for seed in range(3)])
    together = model.predict(images)
    for b in range(3):
        alone, other = model.predict(images[b : b + 1])[0].detections, together[b].detections
        assert torch.equal(alone.labels, other.labels)
        assert torch.allclose(alone.boxes, other.boxes, atol=1e-3)
        assert torch.allclose(alone.probs, other.probs, atol=1e-5)
        assert alone.keypoints is not None
        assert other.keypoints is not None
        assert torch.allclose(alone.keypoints, other.keypoints, atol=1e-2)


def test_nothing_found_is_an_answer() -> None:
    model = loose()
    torch.nn.init.constant_(model.roi_heads.box_predictor.cls_score.bias[:1].data, 99.0)
    one = model.predict(part_sample(0).image[None])[0].detections
    assert one.boxes.shape == (0, 4)
    assert one.masks == ()
    assert one.keypoints is not None
    assert one.keypoints.shape == (0, 3, 3)
    assert one.probs.shape == (0, 3)


# ---- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.soak
def test_it_learns_boxes_masks_and_points() -> None:
    samples = [part_sample(seed) for seed in range(4)]
    model = small_rcnn(width=32, proposals=100, samples=64).train()

    def trained() -> None:
        optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
        for step in range(70):
            for group in optimiser.param_groups:
                group["lr"] = 2e-3 if step < 55 else 5e-4
            loss = torch.stack(list(model(batch_of(samples)).means().values())).sum()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()

    seeded(trained)
    found = model.eval().predict(torch.stack([sample.image for sample in samples]))
    figures = {}
    for task in (Detection(), Instances(), Keypoints()):
        metric = task.metric(CLASSES)
        metric.update([p[task.name] for p in found], [s.targets[task.name] for s in samples], [s.id for s in samples])
        figures[task.name] = metric.compute()
    assert figures["detection"]["ap50"] > 0.8, figures
    assert figures["instances"]["ap50"] > 0.8, figures
    assert figures["keypoints"]["pck"] > 0.7, figures


# ---- what it is made from --------------------------------------------------------------------------------------------


def test_boxes_alone_have_no_other_branch() -> None:
    model = small_rcnn(["detection"])
    assert model.provides == {"detection", "features"}
    assert not [name for name, _ in model.named_parameters() if "mask" in name or "keypoint" in name]
    found = model.train()(batch_of([part_sample(0)]))
    assert tuple(found.values) == PARTS[:4]


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        (["detection", "depth"], {}, "no head for 'depth'"),
        (["instances"], {}, "masks and keypoints are those of boxes"),
        (TASKS, {"width": 6}, r"model.width: 6"),
        (TASKS, {"anchor": 0.0}, r"model.anchor: 0.0"),
        (TASKS, {"samples": 1}, "samples 1; expected at least"),
        (TASKS, {"sure_point": 2.0}, r"model.sure_point: 2.0"),
        (TASKS, {"weights": "nowhere.pt"}, r"model.weights: no file 'nowhere.pt'"),
    ],
)
def test_what_it_cannot_be_made_from(tasks: list[str], options: dict[str, object], message: str) -> None:
    assert MODELS["rcnn"] == "tasks.nets.rcnn:rcnn"
    with pytest.raises(ValueError, match=message):
        small_rcnn(tasks, **options)


def test_a_data_set_without_keypoints_has_no_such_task() -> None:
    bare = ClassMap(("arm",), (), (-1,))
    with pytest.raises(ValueError, match="names no keypoints"):
        rcnn(bare, TASKS, backbone="small", width=32)
    assert rcnn(bare, ["detection", "instances"], backbone="small", width=32).points == 0
