"""Names of losses in options and as keys; values by position."""

import pytest
import torch

from tasks.weighting.naming import check_factors, factors_of, key_of, spread


def test_the_more_exact_name_wins() -> None:
    parts = ("a.x", "a.y", "b.z")
    assert factors_of({"a": 0.5, "a.y": 3.0}, parts, "scale") == {"a.x": 0.5, "a.y": 3.0, "b.z": 1.0}
    with pytest.raises(ValueError, match=r"weighting.scale: \['c'\] name no loss; the losses are \['a.x'"):
        factors_of({"c": 1.0}, parts, "scale")
    with pytest.raises(ValueError, match=r"weighting.scale: \{'a': -1.0\}; expected finite"):
        check_factors({"a": -1.0}, "scale")


def test_values_stand_in_the_order_of_the_names() -> None:
    values, present = spread({"b.z": torch.tensor(2.0), "a.x": torch.tensor(3.0)}, ("a.x", "a.y", "b.z"))
    assert values.tolist() == [3.0, 0.0, 2.0]
    assert present.tolist() == [True, False, True]
    assert key_of("a.x") == "a/x"
