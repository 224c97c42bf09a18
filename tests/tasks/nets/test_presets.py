"""The presets: shapes, options, weights from files."""

from pathlib import Path

import pytest
import torch

from tasks.classes import ClassMap
from tasks.nets.decode import Decode
from tasks.nets.hrnet import hrnet
from tasks.nets.lossnet import LossPrediction
from tasks.nets.presets import resnet50, small
from tests.tasks.nets.shapes import CLASSES, TASKS, batch_of, scenes, seeded


def test_small_sizes() -> None:
    classes = ClassMap(tuple("abcdef"), tuple("abcdefghijk"), (-1,) * 6)
    counts = [sum(p.numel() for p in small(classes, TASKS, width=w).parameters()) for w in (32, 52)]
    assert 0.5e6 < counts[0] < 0.8e6
    assert 1.5e6 < counts[1] < 1.9e6


@pytest.mark.parametrize("size", [(52, 76), (4, 132)])
def test_sides_are_multiples_of_4(size: tuple[int, int]) -> None:
    """Coarse cells reach beyond such an image."""
    model = seeded(lambda: small(CLASSES, TASKS, width=16))
    losses = model(batch_of(scenes(2, size=(52, size[1]))))
    assert all(torch.isfinite(loss) for loss in losses.means().values())
    height, width = size
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    found = model.eval().predict(image)[0]
    assert found.log_probs.shape == (len(CLASSES.segmentation), height // 4, width // 4)
    assert (found.detections.boxes <= torch.tensor([width, height, width, height])).all()
    sides = [tuple(level.shape[-2:]) for level in model.maps(image)]
    assert sides == [(-(-height // cell), -(-width // cell)) for cell in (4, 8, 16, 32)]


@pytest.mark.parametrize("preset", [resnet50, hrnet])
@pytest.mark.slow
def test_large_presets_answer_and_train(preset: object) -> None:
    make = resnet50 if preset is resnet50 else hrnet
    model = seeded(lambda: make(CLASSES, TASKS, width=32, depth=1, loss_prediction=LossPrediction()))
    batch = batch_of(scenes(2))
    losses = model(batch)
    torch.stack([*losses.means().values(), *losses.extra.values()]).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    found = model.eval().predict(batch.images, sorted(model.provides))[0]
    assert found.log_probs.shape == (3, 16, 16)
    assert found.features is not None
    assert found.features.shape == (6 * 32,)
    assert found.dense is not None
    assert found.dense.shape[0] == 8 * 8 + 4 * 4 + 2 * 2 + 1 + 1


@pytest.mark.slow
def test_options_of_the_large_presets() -> None:
    frozen = resnet50(CLASSES, ("segmentation",), width=16, frozen_norm=True)
    assert not [n for n, _ in frozen.backbone.named_parameters() if "bn" in n]
    deep = resnet50(CLASSES, ("detection",), width=16, depth=2, decode=Decode(top=4))
    assert len(deep.heads["detection"].towers[0].convs) == 2  # type: ignore[union-attr, index]
    assert deep.heads["detection"].settings.top == 4  # type: ignore[union-attr]
    other = hrnet(CLASSES, ("segmentation",), width=16, variant="hrnet_w18_small")
    assert other.maps(torch.rand(1, 3, 64, 64))[0].shape == (1, 16, 16, 16)


def test_weights_of_a_whole_model_and_of_a_backbone(tmp_path: Path) -> None:
    source, images = seeded(lambda: small(CLASSES, TASKS, width=8), 1).eval(), torch.rand(1, 3, 64, 64)
    torch.save(source.state_dict(), tmp_path / "whole.pt")
    torch.save(source.backbone.state_dict() | {"fc.weight": torch.zeros(3)}, tmp_path / "backbone.pt")
    whole = small(CLASSES, TASKS, width=8, weights=str(tmp_path / "whole.pt")).eval()
    assert torch.equal(whole.predict(images)[0].log_probs, source.predict(images)[0].log_probs)
    body = small(CLASSES, TASKS, width=8, weights=str(tmp_path / "backbone.pt")).eval()
    assert torch.equal(body.backbone(images)[3], source.backbone(images)[3])
    assert not torch.equal(body.predict(images)[0].log_probs, source.predict(images)[0].log_probs)


def test_bad_weights_are_explained_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model.weights: no file 'imagenet'; expected the path of a state dict"):
        small(CLASSES, TASKS, weights="imagenet")
    with pytest.raises(ValueError, match=r"no file 'IMAGENET'; .* or one of .*'IMAGENET1K_V2'"):
        resnet50(CLASSES, TASKS, weights="IMAGENET")
    with pytest.raises(ValueError, match=r"no file 'nothing'; .*'imagenet'"):
        hrnet(CLASSES, TASKS, weights="nothing")
    (tmp_path / "text.pt").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save(small(CLASSES, TASKS, width=16).state_dict(), tmp_path / "wide.pt")
    torch.save({"stem.weight": torch.zeros(1)}, tmp_path / "other.pt")
    for name, complaint in (
        ("text.pt", "cannot be read as weights"),
        ("list.pt", "holds no state dict"),
        ("wide.pt", "does not fit the whole model"),
        ("other.pt", "does not fit the backbone"),
    ):
        with pytest.raises(ValueError, match=complaint):
            small(CLASSES, TASKS, width=8, weights=str(tmp_path / name))


def test_tasks_and_widths_are_checked() -> None:
    with pytest.raises(ValueError, match="no head for 'pickup'"):
        small(CLASSES, ("detection", "pickup"))
    with pytest.raises(ValueError, match="no classes for 'detection'"):
        small(ClassMap((), ("road",), ()), TASKS)
    with pytest.raises(ValueError, match=r"model.width: 18; expected a multiple of 4"):
        small(CLASSES, TASKS, width=18)
