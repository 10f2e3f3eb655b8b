"""The Kubernetes files of cluster/: KubeRay takes them, and they agree with each other and with what is installed."""

import json
import shlex
from collections.abc import Callable, Iterator
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "cluster" / "kubernetes"
SCHEMAS = Path(__file__).with_name("schemas")
RAY_FILES = {
    "cluster.yaml": "RayCluster",
    "build.yaml": "RayJob",
    "meta-train.yaml": "RayJob",
    "nightly.yaml": "RayCronJob",
}


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


def job_of(document: Any) -> Any:
    return document["spec"]["jobTemplate"] if document["kind"] == "RayCronJob" else document["spec"]


def cluster_of(document: Any) -> Any:
    return document["spec"] if document["kind"] == "RayCluster" else job_of(document)["rayClusterSpec"]


def groups_of(document: Any) -> Iterator[Any]:
    yield cluster_of(document)["headGroupSpec"]
    yield from cluster_of(document).get("workerGroupSpecs", [])


def faults(document: Any) -> list[str]:
    """What KubeRay would have against it: by its definitions, and by the operator's checks that those do not hold."""
    schema = json.loads((SCHEMAS / f"kuberay-1.7.0-{document['kind'].lower()}-v1.json").read_text())
    found = [
        f"{each.json_path}: {each.message}" for each in jsonschema.Draft202012Validator(schema).iter_errors(document)
    ]
    if found:
        return found
    cluster = cluster_of(document)
    for group in groups_of(document):
        name, start = group.get("groupName", "head"), group.get("rayStartParams", {})
        if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            found.append(f"{name}: with the autoscaler v2 restartPolicy is Never or left out")
        if "labels" in start or ("resources" in group and {"num-cpus", "num-gpus", "memory", "resources"} & set(start)):
            found.append(f"{name}: rayStartParams says what the group says, or labels")
        if group.get("minReplicas", 0) > group.get("maxReplicas", 1 << 31):
            found.append(f"{name}: minReplicas is above maxReplicas")
        if {"idleTimeoutSeconds", "priority"} & set(group) and cluster.get("autoscalerOptions", {}).get(
            "version"
        ) != "v2":
            found.append(f"{name}: idleTimeoutSeconds and priority need autoscalerOptions.version: v2")
    return found


@pytest.mark.parametrize("name", RAY_FILES)
def test_kuberay_takes_the_file(name: str):
    document = read(name)
    assert document["kind"] == RAY_FILES[name]
    assert not faults(document)


def first_container(group: Any) -> Any:
    return group["template"]["spec"]["containers"][0]


def misspell_group(document: Any) -> None:
    group = list(groups_of(document))[-1]
    group["template"]["spec"]["volume"] = group["template"]["spec"].pop("volumes")


def number_for_text(document: Any) -> None:
    cluster_of(document)["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0


def wrong_quantity(document: Any) -> None:
    first_container(list(groups_of(document))[-1])["resources"]["limits"]["memory"] = "12 GiB"


def wrong_mode(document: Any) -> None:
    cluster_of(document)["authOptions"]["mode"] = "tokens"


def no_version(document: Any) -> None:
    del cluster_of(document)["rayVersion"]  # which authOptions.mode: token needs


def pods_that_come_back(document: Any) -> None:
    list(groups_of(document))[-1]["template"]["spec"]["restartPolicy"] = "Always"


def job_not_shut_down(document: Any) -> None:
    del job_of(document)["shutdownAfterJobFinishes"]  # which ttlSecondsAfterFinished needs


def entrypoint_in_words(document: Any) -> None:
    job_of(document)["entrypoint"] = job_of(document)["entrypoint"].split()


def more_at_least_than_at_most(document: Any) -> None:
    cluster_of(document)["workerGroupSpecs"][0]["minReplicas"] = 9


def unknown_autoscaler(document: Any) -> None:
    document["spec"]["autoscalerOptions"]["version"] = "v3"


def zone_in_the_schedule(document: Any) -> None:
    document["spec"]["schedule"] = 22


ANYWHERE = [misspell_group, number_for_text, wrong_quantity, wrong_mode, no_version, pods_that_come_back]
JOBS = [job_not_shut_down, entrypoint_in_words]
PLANTED = [
    *((name, mistake) for name in RAY_FILES for mistake in ANYWHERE),
    *((name, mistake) for name in ("build.yaml", "meta-train.yaml", "nightly.yaml") for mistake in JOBS),
    *((name, more_at_least_than_at_most) for name in ("cluster.yaml", "build.yaml", "nightly.yaml")),
    ("cluster.yaml", unknown_autoscaler),
    ("nightly.yaml", zone_in_the_schedule),
]


@pytest.mark.parametrize(("name", "mistake"), PLANTED, ids=lambda each: getattr(each, "__name__", each))
def test_a_mistake_in_it_is_caught(name: str, mistake: Callable[[Any], None]):
    document = deepcopy(read(name))
    mistake(document)
    assert faults(document)


def pods() -> Iterator[tuple[str, Any]]:
    for name in RAY_FILES:
        for group in groups_of(read(name)):
            yield f"{name} {group.get('groupName', 'head')}", group["template"]["spec"]


def test_every_pod_mounts_the_claim_that_storage_yaml_makes_at_data():
    claim = read("storage.yaml")
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"] and claim["spec"]["resources"]["requests"]["storage"]
    for name, pod in pods():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts["/data"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"], name


GIGA = 1 << 30


def test_shared_memory_holds_the_object_store_and_the_pod_holds_both():
    for name in RAY_FILES:
        for group in groups_of(read(name)):
            spec = group["template"]["spec"]
            (shared,) = (v["emptyDir"] for v in spec["volumes"] if v["name"] == "shared-memory")
            room = int(shared["sizeLimit"].removesuffix("Gi")) * GIGA
            memory = int(first_container(group)["resources"]["limits"]["memory"].removesuffix("Gi")) * GIGA
            assert shared["medium"] == "Memory"
            assert int(group["rayStartParams"]["object-store-memory"]) < room < memory / 2, name


def test_the_pod_monitor_reads_a_port_that_every_pod_names():
    monitor = read("monitor.yaml")
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for name, pod in pods():
        ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
        assert ports[endpoint["port"]] == 8080, name  # where KubeRay has Ray export them


def test_a_builds_workers_are_the_cpus_that_are_there_when_it_starts():
    for name in ("build.yaml", "nightly.yaml"):
        words = shlex.split(job_of(read(name))["entrypoint"])
        slots = 0
        for group in cluster_of(read(name))["workerGroupSpecs"]:
            assert group["minReplicas"] == group["replicas"], name
            slots += group["replicas"] * int(first_container(group)["resources"]["limits"]["cpu"])
        assert int(words[words.index("--workers") + 1]) == slots, name


def test_the_versions_are_those_that_are_locked():
    assert {cluster_of(read(name))["rayVersion"] for name in RAY_FILES} == {version("ray")}


def test_an_entrypoint_that_is_tried_again_may_be_run_again():
    """--pairs is how many there are at the end, --more how many beyond what is there."""
    for name in ("build.yaml", "meta-train.yaml", "nightly.yaml"):
        job = job_of(read(name))
        assert job["backoffLimit"] == 0 or "--more" not in shlex.split(job["entrypoint"]), name
        assert int(yaml.safe_load(job["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) > 30, name
