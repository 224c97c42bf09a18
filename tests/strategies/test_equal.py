"""EquAL against the authors' function and an independent reference; a mirrored world; exactness."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.conformance import assert_conforms
from strategies.equal import Equal, equal_maps, equal_scores
from strategies.sample_pool import sample_seen
from strategies.views import HFlip
from tasks.types import Prediction, SegMap


def logs(logits: np.ndarray | torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(torch.as_tensor(logits), 0)[None]


@pytest.mark.parametrize("case", ["i0", "i1", "i2", "i3"])
def test_forms_match_the_references(shared: Path, case: str) -> None:
    with np.load(shared / "golden" / "equal.npz") as golden:
        a, b = logs(golden[f"{case}_logits"]), logs(golden[f"{case}_logits_unflipped"])
        entropy = golden[f"{case}_entropy_map"]
        np.testing.assert_allclose(equal_maps(a, b, "entropy")[0], entropy, rtol=1e-5, atol=1e-6)
        expected = {name: float(golden[f"{case}_ref_{name}_mean"]) for name in ("kl_fwd", "kl_sym", "js")}
    np.testing.assert_allclose(equal_scores(a, b, "entropy")[0], entropy.mean(dtype=np.float64), rtol=1e-6, atol=1e-6)
    for name, kl in (("kl_fwd", "fwd"), ("kl_sym", "sym"), ("js", "js")):
        np.testing.assert_allclose(equal_scores(a, b, "kl", kl)[0], expected[name], rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("form", [("kl", "sym"), ("kl", "fwd"), ("kl", "js"), ("entropy", "sym")])
def test_a_zero_probability_is_no_nan(form: tuple[str, str]) -> None:
    sure = torch.tensor([0.0, -torch.inf]).view(1, 2, 1, 1)
    unsure = torch.tensor([0.5, 0.5]).log().view(1, 2, 1, 1)
    for pair in ((sure, sure), (sure, unsure), (unsure, sure)):
        score = equal_scores(*pair, *form)
        assert torch.isfinite(score).all()
        assert score >= 0


@settings(derandomize=True, max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), height=st.integers(1, 6), half=st.integers(1, 6))
def test_a_network_that_commutes_with_mirroring_scores_zero(seed: int, height: int, half: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 3, height, 2 * half, generator=generator)
    answers = torch.log_softmax(torch.randn(256, 5, generator=generator) * 4, 1)

    def network(x: torch.Tensor) -> torch.Tensor:
        return answers[(x[:, 0] * 255).long()].movedim(-1, 1)  # each pixel by itself

    view = HFlip().render(images, {}, None, [], torch.zeros(3))
    scores = equal_scores(network(images), network(view.images).flip(-1))
    assert scores.tolist() == [0.0, 0.0, 0.0]
    torch.testing.assert_close(equal_scores(network(images), network(view.images).flip(-1), "kl", "js"), scores)


@pytest.mark.parametrize("form", [("kl", "sym"), ("kl", "fwd"), ("kl", "js"), ("entropy", "sym")])
@pytest.mark.parametrize("kept_as", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_full(kept_as: torch.dtype, form: tuple[str, str]) -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = (torch.log_softmax(torch.randn(2, 19, 64, 96, generator=generator) * 9, 1).to(kept_as) for _ in range(2))
    assert torch.equal(equal_scores(a, b, *form), equal_scores(a.float(), b.float(), *form))


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(5, 11, 32, 56), (3, 2, 7, 5), (2, 19, 128, 131)])
def test_an_image_alone_scores_the_same_to_the_last_bit(shape: tuple[int, ...], threads: int) -> None:
    generator = torch.Generator().manual_seed(5)
    a, b = (torch.log_softmax(torch.randn(shape, generator=generator) * 3, 1) for _ in range(2))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for form in (("kl", "sym"), ("kl", "fwd"), ("kl", "js"), ("entropy", "sym")):
            together = equal_scores(a, b, *form)
            alone = torch.cat([equal_scores(a[i : i + 1], b[i : i + 1], *form) for i in range(len(a))])
            assert torch.equal(together, alone), form
    finally:
        torch.set_num_threads(before)


def test_the_mirrored_answer_is_put_back_before_it_is_compared() -> None:
    (seen,) = sample_seen(Equal(), 1)
    answer = SegMap(seen.plain.log_probs.flip(-1))
    agreeing = type(seen)(
        **{**vars(seen), "views": {HFlip(): ((Prediction({"segmentation": answer}), torch.zeros(2, 3)),)}}
    )
    (score,) = Equal().score_batch([agreeing], [])
    assert score.value == 0.0
    assert Equal().score_batch([seen], [])[0].value > 0.0


def test_images_of_different_sizes_share_a_batch() -> None:
    seen = sample_seen(Equal(), 3)
    cropped = SegMap(seen[1].plain.log_probs[:, :, :8].contiguous())
    seen[1] = type(seen[1])(
        **{
            **vars(seen[1]),
            "plain": Prediction({"segmentation": cropped}),
            "views": {
                HFlip(): ((Prediction({"segmentation": SegMap(cropped.log_probs.flip(-1))}), torch.zeros(2, 3)),)
            },
        }
    )
    values = [score.value for score in Equal().score_batch(seen, [])]
    assert values[1] == 0.0
    assert values[0] == Equal().score_batch([seen[0]], [])[0].value
    assert values[2] == Equal().score_batch([seen[2]], [])[0].value


@pytest.mark.parametrize("form", ["kl", "entropy"])
def test_the_map_of_the_gallery_averages_to_the_score(form: str) -> None:
    strategy = Equal(form=form)
    (seen,) = sample_seen(strategy, 1)
    (picture,) = strategy.explain(seen).values()
    assert float(picture.mean()) == pytest.approx(strategy.score_batch([seen], [])[0].value, rel=1e-5)


@pytest.mark.parametrize("strategy", [Equal(), Equal(form="entropy"), Equal(kl="fwd"), Equal(kl="js")])
def test_conforms(strategy: Equal) -> None:
    assert_conforms(strategy)
