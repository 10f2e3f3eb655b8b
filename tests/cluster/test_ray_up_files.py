"""The files for `ray up`, judged by Ray's own validator."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FOLDER = Path(__file__).parents[2] / "cluster" / "ray-up"
FILES = ("aws.yaml", "on-premises.yaml")


def judge(document: Any) -> None:
    validate_config(prepare_config(document))


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.mark.parametrize("name", FILES)
def test_ray_takes_the_file(name: str):
    judge(read(name))


def unknown_field(document: Any) -> None:
    document["setup_command"] = ["true"]


def commands_in_one_text(document: Any) -> None:
    document["head_start_ray_commands"] = "ray stop"


def unknown_head(document: Any) -> None:
    document["head_node_type"] = "heads"


def misspelt_minimum(document: Any) -> None:
    document["available_node_types"]["cpu-spot"]["min_worker"] = 1


def misspelt_docker(document: Any) -> None:
    document["docker"]["images"] = document["docker"].pop("image")


def too_many_at_least(document: Any) -> None:
    document["available_node_types"]["cpu-spot"]["min_workers"] = 9


def nobody_to_log_in(document: Any) -> None:
    del document["auth"]["ssh_user"]
    document["auth"]["user"] = "YOU"


PLANTED = [
    *((name, mistake) for name in FILES for mistake in (unknown_field, commands_in_one_text, nobody_to_log_in)),
    *(("aws.yaml", mistake) for mistake in (unknown_head, misspelt_minimum, misspelt_docker, too_many_at_least)),
]


@pytest.mark.parametrize(("name", "mistake"), PLANTED, ids=lambda each: getattr(each, "__name__", each))
def test_a_mistake_in_it_is_caught(name: str, mistake: Callable[[Any], None]):
    document = read(name)
    mistake(document)
    with pytest.raises(Exception):  # noqa: B017 - Ray raises several kinds
        judge(document)


def test_what_rays_validator_does_not_look_at():
    """Inside `provider` and `node_config` it takes anything."""
    aws, local = read("aws.yaml"), read("on-premises.yaml")
    assert set(aws["provider"]) == {"type", "region", "cache_stopped_nodes"} and aws["provider"]["type"] == "aws"
    for name, node in aws["available_node_types"].items():
        market = node["node_config"].get("InstanceMarketOptions")
        assert market == (None if name == "head" else {"MarketType": "spot"}), name
    assert set(local["provider"]) == {"type", "head_ip", "worker_ips"} and local["provider"]["type"] == "local"
    assert len(local["provider"]["worker_ips"]) == local["min_workers"] == local["max_workers"]


@pytest.mark.parametrize("name", FILES)
def test_every_ray_is_started_with_the_token_that_the_file_brings(name: str):
    document = read(name)
    assert document["file_mounts"]["~/tans-token"] == "~/tans-token"
    starts = [
        command
        for role in ("head", "worker")
        for command in document[f"{role}_start_ray_commands"]
        if "ray start" in command
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=~/tans-token " in start for start in starts)
