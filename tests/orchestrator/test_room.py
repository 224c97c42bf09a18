"""Whether a trial has room: workers are counted with all that each of them needs, and the sentence says what lacks."""

import pytest

from orchestrator.config import Cluster
from orchestrator.errors import ConfigError
from orchestrator.room import check_room, places, trials_at_a_time


@pytest.mark.parametrize(
    ("nodes", "needs", "expected"),
    [
        ([], Cluster(), 0),
        ([{"CPU": 4.0}], Cluster(), 4),
        ([{"CPU": 4.0}, {"CPU": 3.0}], Cluster(cpus_per_worker=2), 3),  # a worker is never cut in two
        ([{"CPU": 1.0, "GPU": 8.0}, {"CPU": 32.0}], Cluster(cpus_per_worker=4, gpus_per_worker=1), 0),
        ([{"CPU": 8.0, "GPU": 1.0}], Cluster(cpus_per_worker=2, gpus_per_worker=0.1), 4),
        ([{"CPU": 8.0, "GPU": 1.0}], Cluster(gpus_per_worker=0.1), 8),
        ([{"CPU": 64.0, "GPU": 1.0}], Cluster(gpus_per_worker=0.1), 10),
    ],
)
def test_places(nodes: list[dict[str, float]], needs: Cluster, expected: int) -> None:
    assert places(nodes, needs) == expected


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([{"CPU": 8, "GPU": 2}], 1),
        ([{"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 1}], 1),
        ([{"CPU": 64, "GPU": 8}] * 3, 12),
        ([{"CPU": 7, "GPU": 8}], 0),
        ([{"CPU": 64}], 0),
        ([], 0),
    ],
)
def test_trials_need_whole_workers_on_each_node(nodes: list[dict[str, float]], expected: int) -> None:
    assert trials_at_a_time(nodes, Cluster(workers_per_trial=2, cpus_per_worker=4, gpus_per_worker=1)) == expected


def test_trials_without_gpus_and_with_parts_of_one() -> None:
    assert trials_at_a_time([{"CPU": 5}, {"CPU": 3}], Cluster(cpus_per_worker=2)) == 3
    assert trials_at_a_time([{"CPU": 16, "GPU": 1}], Cluster(gpus_per_worker=0.25)) == 4


def test_the_sentence_says_what_is_asked_and_what_is_there() -> None:
    needs = Cluster(workers_per_trial=2, cpus_per_worker=3, gpus_per_worker=1)
    with pytest.raises(ConfigError) as refused:
        check_room([{"CPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}], needs)
    assert str(refused.value) == (
        "cluster: a trial needs 2 x (1 GPU + 3 CPU), the cluster has room for 1 such worker and its largest node has "
        "1 GPU + 8 CPU; lower cluster.workers_per_trial or what a worker asks for, use a larger cluster, or set "
        "cluster.wait_minutes where nodes are still to come"
    )
    check_room([{"CPU": 3.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}], needs)


def test_a_cluster_without_nodes_has_room_for_nobody() -> None:
    with pytest.raises(ConfigError, match=r"needs 1 CPU, the cluster has room for 0 such workers and .* has 0 CPU;"):
        check_room([], Cluster())
