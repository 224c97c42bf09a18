"""Draws are functions of what they are for; more is held against reference vectors in tests/golden."""

import numpy as np
import pytest

from tasks import seeding
from tasks.seeding import uniforms


def test_blocks_do_not_change_a_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = np.random.default_rng(0).integers(0, 2**64 - 1, 1000, np.uint64)
    whole = uniforms(keys, 3, -1)
    monkeypatch.setattr(seeding, "_AT_ONCE", 7)
    assert np.array_equal(uniforms(keys, 3, -1), whole)
    assert np.array_equal(uniforms(keys[500:], 3, -1), whole[500:])
    assert uniforms(keys[:0], 3, -1).tolist() == []
