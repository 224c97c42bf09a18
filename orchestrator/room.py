"""Whether a trial has room in a cluster: its bundles against the nodes.  Plain arithmetic, no Ray."""

from collections.abc import Mapping, Sequence

from orchestrator.config import Cluster
from orchestrator.errors import ConfigError

SMALL = 1e-9  # shares of a GPU add up to a little less than a whole one


def places(nodes: Sequence[Mapping[str, float]], needs: Cluster) -> int:
    """How many workers of a trial the nodes hold at once, each with its CPUs and its GPUs on one node."""
    each = {"CPU": float(needs.cpus_per_worker), "GPU": float(needs.gpus_per_worker)}
    return sum(
        min(int(node.get(kind, 0.0) / size + SMALL) for kind, size in each.items() if size > 0) for node in nodes
    )


def trials_at_a_time(nodes: Sequence[Mapping[str, float]], needs: Cluster) -> int:
    """How many trials the nodes hold."""
    return places(nodes, needs) // needs.workers_per_trial


def check_room(nodes: Sequence[Mapping[str, float]], needs: Cluster) -> None:
    """ConfigError when no trial could ever start on these nodes (their resources, as Ray names them)."""
    found = places(nodes, needs)
    if found >= needs.workers_per_trial:
        return
    largest = max(nodes, key=lambda node: (node.get("GPU", 0.0), node.get("CPU", 0.0)), default={})
    one = _named({"GPU": needs.gpus_per_worker, "CPU": needs.cpus_per_worker})
    asked = one if needs.workers_per_trial == 1 else f"{needs.workers_per_trial} x ({one})"
    raise ConfigError(
        f"cluster: a trial needs {asked}, the cluster has room for {found} such worker{'' if found == 1 else 's'} and "
        f"its largest node has {_named(largest)}; lower cluster.workers_per_trial or what a worker asks for, use a "
        "larger cluster, or set cluster.wait_minutes where nodes are still to come"
    )


def _named(resources: Mapping[str, float]) -> str:
    """``1 GPU + 3 CPU``; nothing is told of what is not there, unless nothing is."""
    return " + ".join(f"{resources[kind]:g} {kind}" for kind in ("GPU", "CPU") if resources.get(kind)) or "0 CPU"
