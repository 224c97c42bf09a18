"""The stub burns the time that it is told to, answers as a network does, and is measured as one."""

import time

import pytest
import torch

from orchestrator.stub_network import StubNetwork
from strategies.sample_pool import CLASSES, SampleNetwork, sample_images
from tasks.base import Model
from tasks.types import Batch, Sample


def test_it_takes_its_time_and_answers_as_the_sample_network() -> None:
    stub, images = StubNetwork(CLASSES, ("segmentation",), ms=5), sample_images(4)
    start = time.thread_time()
    found = stub.predict(images)
    assert time.thread_time() - start >= 0.02
    assert isinstance(stub, Model)
    assert "detection" not in stub.provides
    want = SampleNetwork(CLASSES).predict(images, ["segmentation"])
    assert all(torch.equal(a.log_probs, b.log_probs) for a, b in zip(found, want, strict=True))
    assert stub.predict(images[:1], ["segmentation"])[0].features is None


def test_it_is_not_trained() -> None:
    with pytest.raises(NotImplementedError, match="for scoring and cannot be trained"):
        StubNetwork(CLASSES, ("detection",), ms=0).forward(Batch.of([Sample("a", sample_images(1)[0], {})], ()))
