"""A cluster that does not answer, without one: what Ray raises then, from its client down to a bare Exception."""

import pytest
import ray

from orchestrator import tuning
from orchestrator.errors import RunError


@pytest.mark.parametrize(
    ("address", "error", "tries"),
    [
        ("local", Exception("The current node timed out during startup."), 3),  # a busy machine may be too slow once
        ("local", RuntimeError("The current node timed out during startup."), 3),
        ("127.0.0.1:9", ConnectionError("The current node timed out during startup."), 1),
    ],
)
def test_where_none_answers_it_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, address: str, error: Exception, tries: int
) -> None:
    asked: list[str] = []

    def init(address: str, **options: object) -> None:
        asked.append(address)
        raise error

    monkeypatch.setattr(ray, "init", init)
    words = rf"^--address {address}: no Ray cluster answered \(The current node timed out during startup\.\); start one"
    with pytest.raises(RunError, match=words), tuning.cluster(address):
        pass
    assert asked == [address] * tries


def test_a_fault_is_not_taken_for_a_cluster_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(KeyError), tuning.cluster("local"):
        pass
