"""The clusters under configs/cluster: what Ray's launcher and KubeRay ask of them, and what mtal asks of a cluster."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from orchestrator.config import load
from orchestrator.errors import ConfigError
from orchestrator.submission import chosen

FOLDER = Path(__file__).resolve().parents[1] / "configs" / "cluster"
AWS = yaml.safe_load((FOLDER / "aws.yaml").read_text(encoding="utf-8"))
JOB = yaml.safe_load((FOLDER / "rayjob.yaml").read_text(encoding="utf-8"))
CLUSTER = JOB["spec"]["rayClusterSpec"]

# The fields of KubeRay's Go types RayJobSpec, RayClusterSpec, HeadGroupSpec and WorkerGroupSpec (ray.io/v1) that these
# files may use: an API server drops, or refuses, any other.
RAY_JOB = {"entrypoint", "submissionMode", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"}
RAY_CLUSTER = {"rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec"}
GROUP = {"rayStartParams", "template"}
WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas"}


@pytest.mark.parametrize("name", ["aws", "rayjob"])
def test_a_cluster_is_no_experiment(name: str) -> None:
    for source in (FOLDER / f"{name}.yaml", f"cluster/{name}", name):
        with pytest.raises(ConfigError):
            load(source)


def test_rays_launcher_takes_it() -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(AWS, schema)
    validate_config(prepare_config(copy.deepcopy(AWS)))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**AWS, "min_worker": 1}, schema)


def test_a_head_directs_and_workers_have_room_for_a_trial() -> None:
    kinds = AWS["available_node_types"]
    assert kinds[AWS["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}
    assert kinds["gpu"]["resources"]["GPU"] >= 1
    assert 1 <= kinds["gpu"]["min_workers"] < kinds["gpu"]["max_workers"] <= AWS["max_workers"]
    [workers] = CLUSTER["workerGroupSpecs"]
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert 1 <= workers["minReplicas"] <= workers["replicas"] < workers["maxReplicas"]
    assert CLUSTER["enableInTreeAutoscaling"] is True


def test_a_token_is_asked_for_and_no_secret_is_written_down() -> None:
    starts = [*AWS["head_start_ray_commands"], *AWS["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in line for line in starts if "ray start" in line)
    assert "~/.ray/auth_token" in AWS["file_mounts"]
    assert CLUSTER["authOptions"] == {"mode": "token"}
    for container in containers():
        for variable in container.get("env", []):
            if "value" in variable:
                chosen([variable["name"]], {variable["name"]: variable["value"]})  # refuses what looks like a secret
            else:
                assert set(variable["valueFrom"]["secretKeyRef"]) == {"name", "key"}


def containers() -> list[dict[str, Any]]:
    groups = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]
    return [container for group in groups for container in group["template"]["spec"]["containers"]]


def test_kuberay_knows_its_fields() -> None:
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    assert set(JOB["spec"]) == {*RAY_JOB, "rayClusterSpec"}
    assert set(CLUSTER) == {*RAY_CLUSTER, "workerGroupSpecs"}
    assert set(CLUSTER["autoscalerOptions"]) == {"upscalingMode", "idleTimeoutSeconds"}
    assert set(CLUSTER["headGroupSpec"]) == GROUP
    assert all(set(group) == GROUP | WORKERS for group in CLUSTER["workerGroupSpecs"])
    for group in (CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_pods_are_whole() -> None:
    """All of one image, each mount has its volume, and a GPU is limited as Kubernetes asks."""
    assert len({container["image"] for container in containers()}) == 1
    for group in (CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert container["resources"]["requests"] == container["resources"]["limits"]
