"""A cluster that does not answer, without one: what Ray raises then, from its client down to a bare Exception."""

import threading
from unittest.mock import MagicMock

import pytest
import ray
from ray.exceptions import ActorUnavailableError, RaySystemError

from orchestrator import tuning
from orchestrator.errors import RunError
from orchestrator.ray_workers import WAITING


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


def test_that_there_is_no_room_is_told_though_the_board_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """And though the head does not answer at once."""
    answers = [RaySystemError("slow"), {"group": {"state": "CREATED"}}, {"group": {"state": "RESCHEDULING"}}]
    said = threading.Event()

    def lost(*what: object, **options: object) -> None:
        raise ActorUnavailableError("lost", None)

    def groups() -> object:
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, Exception):
            raise found
        return found

    class Told:
        def update(self, unit: str, phase: str, done: int, total: int) -> None:
            assert (unit, phase) == ("the cluster", WAITING)
            said.set()

    monkeypatch.setattr(tuning, "SILENT", 0.0)
    monkeypatch.setattr(ray, "get", lost)
    monkeypatch.setattr(ray.util, "placement_group_table", groups)
    with tuning.followed(MagicMock(), Told()):  # type: ignore[arg-type]
        assert said.wait(20)
    assert len(answers) == 1
