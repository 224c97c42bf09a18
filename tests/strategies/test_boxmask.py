"""BoxMask as a strategy: identities, a perfect network, edge cases, every switch."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from strategies.base import Seen
from strategies.boxmask import BoxMask
from strategies.conformance import assert_conforms
from strategies.sample_pool import CLASSES, SampleNetwork, sample_images, sample_seen
from strategies.seeing import Images, see
from tasks.classes import ClassMap
from tasks.seeding import Rngs
from tasks.types import Detections, Prediction, SegMap

SIMPLE = ClassMap(("thing",), ("stuff", "thing"), (1,))


class Painted:
    """A perfect network of stride 1: red pixels are the thing, and each listed box holds exactly one."""

    def __init__(self, boxes: Sequence[Sequence[float]]) -> None:
        count = len(boxes)
        self.found = Detections(
            torch.tensor(boxes, dtype=torch.float32).view(count, 4),
            torch.full((count,), 0.9),
            torch.zeros(count, dtype=torch.int64),
            torch.full((count, 1), 0.9),
        )

    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        logits = torch.stack([0.5 - images[:, 0], images[:, 0] - 0.5], 1) * 60
        logs = torch.log_softmax(logits, 1)
        return [Prediction({"segmentation": SegMap(one), "detection": self.found}) for one in logs]


def look(network: object, images: Tensor, strategy: BoxMask, classes: ClassMap = SIMPLE) -> list[Seen]:
    batch = Images([str(i) for i in range(len(images))], range(len(images)), classes, images)
    views = {view: view.reads for view in strategy.views}
    return see(network.predict, batch, strategy.reads, views, 0, 0, torch.zeros(3)).seen  # type: ignore[attr-defined]


@settings(derandomize=True, max_examples=15, deadline=None)
@given(left=st.integers(0, 40), top=st.integers(0, 20), width=st.integers(4, 24), height=st.integers(4, 24))
def test_a_perfect_network_is_consistent(left: int, top: int, width: int, height: int) -> None:
    image = torch.zeros(1, 3, 48, 64)
    image[:, 0, top : top + height, left : left + width] = 1
    strategy = BoxMask(tau=0.5, min_side=1.0, crop_size=64)
    box = [left, top, min(left + width, 64), min(top + height, 48)]
    (score,) = strategy.score_batch(look(Painted([box]), image, strategy), [])
    assert score.parts["s_loc"] == 0.0
    assert score.parts["s_cls"] == pytest.approx(0.0, abs=1e-4)
    assert score.parts["s_seg"] <= 2 * (width + height) / (48 * 64)  # enlarged pixels at the rim of the mask at most
    (missed,) = strategy.score_batch(look(Painted([]), image, strategy), [])
    assert missed.parts["s_seg"] == pytest.approx((box[2] - left) * (box[3] - top) / (48 * 64))


@settings(derandomize=True, max_examples=15, deadline=None)
@given(
    side=st.sampled_from([10, 20, 40]),
    place=st.lists(st.integers(0, 1), min_size=2, max_size=2),
    tau=st.floats(0.05, 0.95),
)
def test_a_perfect_network_whose_crops_show_the_same_pixels_scores_zero(
    side: int, place: tuple[int, int], tau: float
) -> None:
    image, boxes = torch.zeros(1, 3, 128, 128), []
    for left, top in ((8 + place[0], 8), (72, 64 + place[1])):
        image[:, 0, top : top + side, left : left + side] = 1
        boxes.append([left, top, left + side, top + side])
    strategy = BoxMask(tau=tau, min_side=1.0, margin=0.1, crop_size=side * 6 // 5)  # a window of as many pixels
    for found in (boxes, boxes[::-1]):
        (score,) = strategy.score_batch(look(Painted(found), image, strategy), [])
        assert score.value == pytest.approx(0.0, abs=1e-6)
        assert score.parts == pytest.approx({"s_loc": 0.0, "s_cls": 0.0, "s_seg": 0.0, "boxes": 2.0}, abs=1e-6)


def test_the_whole_image_as_a_crop_reproduces_the_segmentation_head() -> None:
    """The identity behind the method: looked at again in the same size, the image is answered alike, bit for bit."""
    image = sample_images(1, 64, 64)
    network = SampleNetwork()
    whole = torch.tensor([[0.0, 0.0, 64.0, 64.0]])

    class OneBox:
        def predict(
            self, images: Tensor, heads: Sequence[str] | None = None, inputs: object = None
        ) -> list[Prediction]:
            found = Detections(whole, torch.ones(1), torch.tensor([1]), torch.ones(1, 4))
            return [replace(p, outputs={**p.outputs, "detection": found}) for p in network.predict(images, heads)]

    strategy = BoxMask(crop_size=64, margin=0.0, tau=0.5)
    (seen,) = look(OneBox(), image, strategy, CLASSES)
    ((crop, _),) = seen.views[strategy.crops]
    assert torch.equal(crop.log_probs, seen.plain.log_probs)
    (score,) = strategy.score_batch([seen], [])
    assert score.parts["s_loc"] == 0.0  # above one half, the class wins
    mask = strategy.explain(seen)["masks of the boxes"].bool()
    assert torch.equal(mask, seen.plain.log_probs[3].exp() > 0.5)
    assert mask.any()


def test_no_boxes_scores_all_pixels_that_claim_an_object() -> None:
    strategy = BoxMask()
    seen = sample_seen(strategy, 3, SampleNetwork(min_score=2.0))
    for one, score in zip(seen, strategy.score_batch(seen, []), strict=True):
        things = torch.isin(one.plain.log_probs.argmax(0), torch.tensor([2, 3]))
        assert score.value == score.parts["s_seg"] == pytest.approx(float(things.float().mean()))
        assert score.parts["boxes"] == 0.0


def test_a_box_off_the_image_counts_nothing() -> None:
    image = torch.zeros(1, 3, 32, 32)
    off = [[200.0, 200.0, 240.0, 240.0], [-50.0, 3.0, -40.0, 9.0]]
    for empty, expected in (("zero", 0.0), ("box", 0.0), ("one", 1.0)):
        strategy = BoxMask(empty=empty, crop_size=32)
        assert strategy.score_batch(look(Painted(off), image, strategy), [])[0].value == expected


def test_a_class_without_a_segmentation_class_is_skipped() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[:, 0, :16] = 1
    strategy = BoxMask(crop_size=32)
    unknown = replace(SIMPLE, det_to_seg=(-1,))
    (score,) = strategy.score_batch(look(Painted([[0.0, 0.0, 32.0, 32.0]]), image, strategy, unknown), [])
    assert score.value == 0.0  # no class to find, no class to claim
    assert score.parts["boxes"] == 0.0


def test_two_detection_classes_may_share_one_segmentation_class() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[:, 0] = 1
    shared = ClassMap(("car", "van"), ("stuff", "thing"), (1, 1))
    network = Painted([[0.0, 0.0, 32.0, 32.0]])
    network.found = replace(network.found, probs=torch.tensor([[0.4, 0.4]]))
    strategy = BoxMask(crop_size=32)
    (score,) = strategy.score_batch(look(network, image, strategy, shared), [])
    assert score.parts["s_cls"] == pytest.approx(0.0, abs=1e-5)  # both belong to the thing: p is certain


def test_a_softmax_vector_drops_its_background() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[:, 0] = 1
    network = Painted([[0.0, 0.0, 32.0, 32.0]])
    network.found = replace(network.found, probs=torch.tensor([[0.6, 0.4]]))
    strategy = BoxMask(crop_size=32)
    (score,) = strategy.score_batch(look(network, image, strategy), [])
    assert score.parts["s_cls"] == pytest.approx(0.0, abs=1e-5)


def test_the_score_is_the_sum_of_the_terms_asked_for() -> None:
    seen = sample_seen(BoxMask(crop_size=32), 5)
    full = BoxMask(crop_size=32).score_batch(seen, [])
    assert max(score.parts["s_loc"] for score in full) > 0
    for score in full:
        assert score.value == pytest.approx(score.parts["s_loc"] + score.parts["s_cls"] + score.parts["s_seg"])
    for terms in (("loc",), ("cls",), ("seg",), ("loc", "seg"), ("cls", "seg"), ("loc", "cls")):
        for score, whole in zip(BoxMask(terms=terms, crop_size=32).score_batch(seen, []), full, strict=True):
            assert score.value == pytest.approx(sum(score.parts[f"s_{term}"] for term in terms))
            assert score.parts["s_seg"] == whole.parts["s_seg"]
            assert score.value <= whole.value + 1e-6


def by_hand(p: Sequence[float], q: Sequence[float], eps: float) -> float:
    """The symmetric KL divergence of two distributions that are floored at eps."""
    p, q = ([max(x, eps) / sum(max(y, eps) for y in of) for x in of] for of in (p, q))
    return sum((a - b) * log(a / b) for a, b in zip(p, q, strict=True)) / 2


@pytest.mark.parametrize("eps", [0.05, 0.3])
def test_all_seven_sets_of_terms_by_hand(eps: float) -> None:
    """Two boxes and a strip without one. The first box is misplaced, the second misclassified: who wins depends."""
    classes = ClassMap(("a", "b"), ("stuff", "a", "b"), (1, 2))
    strategy = BoxMask(eps=eps, crop_size=8, margin=0.0, min_side=1.0)
    doubtful, sure, first = [0.51, 0.49, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]
    probs = torch.zeros(3, 8, 24)
    probs[:, :, :8] = torch.tensor(doubtful)[:, None, None]  # where box a is: stuff wins
    probs[:, :, 8:16] = torch.tensor(sure)[:, None, None]  # where box b is: b wins, but the box says a
    probs[0, :4, 16:], probs[1, 4:, 16:] = 1.0, 1.0  # half of what is left claims to be a
    found = Detections(
        torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 8.0]]), torch.tensor([0.9, 0.9]), torch.tensor([0, 1]),
        torch.tensor([[0.9, 0.0], [0.9, 0.0]]),
    )  # fmt: skip
    crops = tuple((Prediction({"segmentation": SegMap(torch.zeros(3, 8, 8))}), torch.eye(2, 3)) for _ in range(2))
    plain = Prediction({"segmentation": SegMap(probs.log()), "detection": found})
    seen = Seen("x", 1, (8, 24), classes, 0.5, plain, {strategy.crops: crops})
    cls = by_hand(doubtful, first, eps), by_hand(sure, first, eps)
    assert cls[0] < cls[1]
    assert (1 + cls[0] > cls[1]) == (eps == 0.3)  # the winner of both terms together is the one, or the other
    expected = {
        ("loc",): 1.0,
        ("cls",): cls[1],
        ("seg",): 0.5,
        ("loc", "cls"): max(1 + cls[0], cls[1]),
        ("loc", "seg"): 1.5,
        ("cls", "seg"): cls[1] + 0.5,
        ("loc", "cls", "seg"): max(1 + cls[0], cls[1]) + 0.5,
    }
    for terms, value in expected.items():
        assert replace(strategy, terms=terms).score_batch([seen], [])[0].value == pytest.approx(value, rel=1e-5), terms


def test_masks_that_cover_the_image_leave_nothing_unexplained() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[:, 0] = 1
    strategy = BoxMask(crop_size=32)
    for soft in (False, True):
        (score,) = replace(strategy, soft_seg=soft).score_batch(
            look(Painted([[0.0, 0.0, 32.0, 32.0]]), image, strategy), []
        )
        assert score.parts["s_seg"] == 0.0
        assert score.value == pytest.approx(0.0, abs=1e-5)


def test_half_precision_answers_are_scored_in_full() -> None:
    strategy = BoxMask(crop_size=32)
    for seen in sample_seen(strategy, 4):
        rounded, wide = (precise(seen, (torch.float16, *then)) for then in ((), (torch.float32,)))
        assert rounded.plain.log_probs.dtype == torch.float16
        assert strategy.score_batch([rounded], []) == strategy.score_batch([wide], [])


def precise(seen: Seen, kinds: Sequence[torch.dtype]) -> Seen:
    """The same answers, of one precision after the other."""

    def of(tensor: Tensor) -> Tensor:
        for kind in kinds:
            tensor = tensor.to(kind)
        return tensor

    def one(answer: Prediction) -> Prediction:
        outputs: dict[str, Detections | SegMap] = {"segmentation": SegMap(of(answer.log_probs))}
        if "detection" in answer.outputs:
            found = answer.detections
            outputs["detection"] = Detections(of(found.boxes), of(found.scores), found.labels, of(found.probs))
        return Prediction(outputs)

    views = {view: tuple((one(answer), matrix) for answer, matrix in answers) for view, answers in seen.views.items()}
    return replace(seen, plain=one(seen.plain), views=views)


CHANGED = {
    "terms": ("seg",),
    "tau": 0.6,
    "eps": 1e-2,
    "empty": "one",
    "support": "det",
    "soft_seg": True,
    "outside": "boxes",
    "cls_norm": "log_eps",
    "min_score": 0.6,
    "max_boxes": 1,
    "crop_size": 64,
    "margin": 0.4,
    "min_side": 60.0,
}


@pytest.mark.slow
@pytest.mark.parametrize("field", [field.name for field in fields(BoxMask)])
def test_every_switch_changes_a_score(field: str) -> None:
    base = BoxMask(crop_size=32, tau=0.5, min_side=16.0)
    if field == "empty":  # S_cls of another box would hide it
        base = replace(base, tau=0.8, terms=("loc",))
    other = replace(base, **{field: CHANGED[field]})
    values = [
        [score.value for score in strategy.score_batch(sample_seen(strategy, 12), [])] for strategy in (base, other)
    ]
    assert values[0] != values[1]


def test_without_masks_no_crop_is_forwarded() -> None:
    assert BoxMask(terms=("seg",), outside="boxes").views == ()
    assert BoxMask(terms=("seg",)).views == (BoxMask().crops,)
    assert BoxMask(tau=0.7).views == BoxMask(eps=1e-3, terms=("loc",)).views  # an ablation shares its crops


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="terms"):
        BoxMask(terms=("loc", "loc"))
    with pytest.raises(ValueError, match="eps"):
        BoxMask(eps=0.0)


def test_maps_of_the_gallery_add_up_to_the_parts() -> None:
    strategy = BoxMask(crop_size=32)
    for seen in sample_seen(strategy, 4):
        maps = strategy.explain(seen)
        (score,) = strategy.score_batch([seen], [])
        free = 1 - maps["masks of the boxes"]
        assert float(maps["S_seg: objects without a box"].sum() / free.sum()) == pytest.approx(score.parts["s_seg"])
        divergence = maps["S_cls: divergence in the worst box"]
        inside = divergence[divergence > 0]
        assert float(inside.mean()) == pytest.approx(score.parts["s_cls"], rel=1e-3)


def test_images_of_two_sizes_share_a_batch() -> None:
    strategy, network = BoxMask(crop_size=32), SampleNetwork()
    small = look(network, sample_images(2, 48, 64), strategy, CLASSES)
    large = look(network, sample_images(2, 64, 96), strategy, CLASSES)
    mixed = [small[0], large[0], small[1], large[1]]
    together = strategy.score_batch(mixed, Rngs((), range(4)))
    assert together == [strategy.score_batch([one], [])[0] for one in mixed]


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    [
        BoxMask(crop_size=32),
        BoxMask(crop_size=32, empty="box", support="det", soft_seg=True, outside="boxes", cls_norm="log_eps"),
        BoxMask(terms=("seg",), outside="boxes"),
        BoxMask(terms=("cls",), crop_size=32, empty="one"),
    ],
)
def test_conforms(strategy: BoxMask) -> None:
    assert_conforms(strategy)
