"""A folder that all nodes must see: looked at before anything is trained, because Ray itself waits, or fails late."""

from __future__ import annotations

import secrets
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.on_ray.messages import reason
from pipeline.running.waiting import Wait, machine_load
from tans_core.errors import PoolError

LIMIT_S = 60.0  # for a node to look; grows with the load


def check_storage(folder: Path, way_out: str) -> None:
    """Have every node that may train look for what this process wrote into `folder`, which is made.

    Args:
        way_out: what to do, to complete a sentence.

    Raises:
        PoolError: it cannot be written here, or a node does not see it.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [
        node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0 and node["NodeID"] != here
    ]
    mark, text = folder / f".tans-{secrets.token_hex(8)}", secrets.token_hex(8)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(text)
    except OSError as error:
        raise PoolError(f"checkpoints cannot be written to {folder} ({error.strerror}): {way_out}") from error
    try:
        blind = _blind(others, mark, text)
    finally:
        mark.unlink(missing_ok=True)
    if blind:
        names = "; ".join(f"{node} {why}" for node, why in blind.items())
        raise PoolError(f"checkpoints go to {folder}, which not all nodes of the cluster see ({names}): {way_out}")


def look_for(mark: str, text: str) -> str | None:
    """Whether this node sees a file that another one wrote, and can write beside it; if not, why, of the node."""
    path = Path(mark)
    try:
        if path.read_text() != text:
            return "has something else there"
    except OSError:
        return "does not see what is written there"
    beside = path.with_name(f"{path.name}-{secrets.token_hex(4)}")
    try:
        beside.write_text(text)
        beside.unlink()
    except OSError as error:
        return f"cannot write there ({error.strerror})"
    return None


def _blind(nodes: list[dict], mark: Path, text: str) -> dict[str, str]:
    """Names of the nodes that do not see the file, and why."""
    look = ray.remote(look_for)
    asked = {
        look.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(str(mark), text): node["NodeManagerHostname"]
        for node in nodes
    }
    waiting, blind = list(asked), {}

    def silent() -> PoolError:
        names = ", ".join(sorted(asked[each] for each in waiting))
        return PoolError(f"{names} did not look at {mark.parent} within {wait.limit_s:.0f} s: look at those nodes")

    wait = Wait("all nodes to look at the place for checkpoints", LIMIT_S, silent, machine_load)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=min(wait.check(), 1.0))
        for each in done:
            try:
                why = ray.get(each)
            except RayError as error:
                why = f"could not look ({reason(error)})"
            if why:
                blind[asked[each]] = why
    return blind
