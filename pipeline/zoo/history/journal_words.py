"""A journal's events in words, one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.zoo.history.journal import Event

SHORT = 8  # characters of a key or run that tell it from the others


def in_words(event: Event) -> str:
    """What happened, for people; not escaped yet."""
    try:
        return _WORDS[event.kind](event.payload)
    except KeyError:  # a kind, or a payload, of another version of tans
        return ", ".join(f"{name} {value}" for name, value in event.payload.items())


def _start(payload: Mapping[str, Any]) -> str:
    given, settings, machine, versions = (payload[name] for name in ("given", "settings", "machine", "versions"))
    gpu = f", {machine['gpus']} GPUs" if machine["gpus"] else ""
    return (
        f"{payload['rows_there']} of {payload['rows_at_end']} pairs there; {given['workers']} workers, "
        f"{given['acquisition']}, {payload.get('pair_mode', 'standalone')} pairs, preset {settings['preset']}, "
        f"seed {settings['seed']}; {machine['host']}: "
        f"{machine['cpus']} CPUs, {machine['memory_bytes'] / 2**30:.0f} GiB{gpu}; tans {versions['tans']}, "
        f"torch {versions['torch']}, ray {versions['ray']}, python {versions['python']}"
    )


def _decision(payload: Mapping[str, Any]) -> str:
    name = payload.get("name") or payload["key"][:SHORT]
    again = f", attempt {payload['attempt']}" if payload["attempt"] > 1 else ""
    return f"{payload['choice']['decision']}: {name}{again}; {payload['choice']['reason']}"


def _failure(payload: Mapping[str, Any]) -> str:
    then = "left for good" if payload["final"] else "to be tried again"
    return f"{payload['key'][:SHORT]}, attempt {payload['attempt']}, {then}; {payload['kind']}: {payload['message']}"


def _supernet(payload: Mapping[str, Any]) -> str:
    again = f", attempt {payload['attempt']}" if payload["attempt"] > 1 else ""
    return f"{payload['key'][:SHORT]} of {payload['name']}{again}"


def _supernet_failure(payload: Mapping[str, Any]) -> str:
    then = "left out of this build" if payload["final"] else "to be tried again"
    return f"{payload['name']}, attempt {payload['attempt']}, {then}; {payload['kind']}: {payload['message']}"


def _polish(payload: Mapping[str, Any]) -> str:
    return f"{payload['key'][:SHORT]} goes on from {payload['parent'][:SHORT]} for {payload['epochs']} epochs"


def _commit(payload: Mapping[str, Any]) -> str:
    return f"{payload['rows']} rows in {payload['commit_ms']:.0f} ms"


def _stop(payload: Mapping[str, Any]) -> str:
    if "error" in payload:
        return payload["error"]
    by = f"stopped by {payload['stopped_by']}" if payload["stopped_by"] else "done"
    return f"{by}: {payload['pairs']} pairs, {payload['failures']} failures, {payload['wall_s']:.0f} s"


def _mlflow(payload: Mapping[str, Any]) -> str:
    return f"run {payload['run_id']}"


def _drop(payload: Mapping[str, Any]) -> str:
    datasets = f" and the datasets {', '.join(payload['names'])}" if payload["names"] else ""
    return f"{payload['rows']} rows{datasets}"


def _merge(payload: Mapping[str, Any]) -> str:
    return f"{payload['rows']} rows of {', '.join(zoo[:SHORT] for zoo in payload['zoos'])}"


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "start": _start,
    "decision": _decision,
    "failure": _failure,
    "supernet": _supernet,
    "supernet failure": _supernet_failure,
    "polish": _polish,
    "commit": _commit,
    "stop": _stop,
    "mlflow": _mlflow,
    "drop": _drop,
    "merge": _merge,
}
