"""What lies in a crowd."""

import torch

from tasks.nets.regions import in_crowd


def test_more_than_half_in_a_crowd() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 4, 4], [4.9, 0, 9.9, 10], [20.0, 20, 30, 30]])
    crowd = torch.tensor([[0.0, 0, 5, 10], [20.0, 20, 60, 60]])
    assert in_crowd(boxes, crowd).tolist() == [False, True, False, True]
    assert in_crowd(boxes, crowd[:0]).tolist() == [False] * 4
