"""A space as a folder: config.json, encoders.safetensors, index.arrow and datasets.arrow, metrics.json; nothing in it
names a place.

config.json is written last and holds the hashes of the others, so that a folder is whole or says that it is not.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.running.files import write_whole
from tans_core.cross_modal.encoders import SpaceModel, SpaceShape
from tans_core.cross_modal.trained_space import TrainedSpace
from tans_core.errors import SpaceError, WeightsError
from tans_core.records import content_hash
from tans_core.retrieval.index import Index
from tans_core.training.weights import decode_weights, encode_weights, load_into

SCHEMA = 3  # 2 had no places of datasets; 1 had what the predictor sees of a network inside the indexed vector

_ENCODERS, _INDEX, _DATASETS = "encoders.safetensors", "index.arrow", "datasets.arrow"
_METRICS, _CONFIG = "metrics.json", "config.json"
FILES = _ENCODERS, _INDEX, _DATASETS, _METRICS, _CONFIG


@dataclass(frozen=True, kw_only=True)
class SpaceIdentity:
    """What a space was made of; the zoo by its own identity, wherever it lies."""

    zoo_id: str
    zoo_version: int
    search_space: str
    image_size: int
    backbone: str  # hash of the weights that gave the features
    seed: int
    workers: int
    config: dict[str, Any]  # asdict(SpaceConfig)
    threads: int  # of torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """A space as search needs it: encoders, and the rows' places, which stay on the disk until they are read."""

    identity: SpaceIdentity
    model: SpaceModel
    index: Index
    fingerprints: tuple[str, ...]  # of the K datasets with rows
    dataset_KE: Tensor  # their places
    error: float | None  # root of the predictor's squared error on sources left out, 0 to 1; None: not known
    bar: float | None  # similarity of strangers, see `TrainedSpace`; None: not known


def save_space(
    folder: Path, identity: SpaceIdentity, trained: TrainedSpace, zoo: str, metrics: Mapping[str, Any]
) -> None:
    """Write a space, over an older one where there is one.

    Args:
        zoo: where the zoo lies now, kept relative to the folder, for people.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoders = encode_weights(trained.model.state_dict())
    index = _table_bytes("key", trained.keys, embedding=trained.embedding_RE, architecture=trained.architecture_RA)
    datasets = _table_bytes("fingerprint", trained.fingerprints, embedding=trained.dataset_KE)
    measured = _json_bytes(metrics)
    config = {
        "schema": SCHEMA,
        **asdict(identity),
        "zoo": zoo if "://" in zoo else os.path.relpath(zoo, folder),
        "shape": asdict(trained.model.shape),
        "blake2b": {
            _ENCODERS: content_hash(encoders),
            _INDEX: content_hash(index),
            _DATASETS: content_hash(datasets),
            _METRICS: content_hash(measured),
        },
    }
    write_whole(folder / _ENCODERS, encoders)
    write_whole(folder / _INDEX, index)
    write_whole(folder / _DATASETS, datasets)
    write_whole(folder / _METRICS, measured)
    write_whole(folder / _CONFIG, _json_bytes(config))


def load_space(folder: Path) -> Space:
    """Read a space; its files are compared with their hashes first.

    Raises:
        SpaceError: there is none, it is damaged, or of another schema.
    """
    config = _config(folder)
    try:
        for name, expected in config["blake2b"].items():
            if content_hash((folder / name).read_bytes()) != expected:
                raise SpaceError(f"{folder / name} is not what {_CONFIG} says: {_AGAIN}")
        model = SpaceModel(SpaceShape(**config["shape"]))
        load_into(model, decode_weights((folder / _ENCODERS).read_bytes()))
    except (OSError, WeightsError) as error:
        raise SpaceError(f"the space in {folder} is damaged ({error}): {_AGAIN}") from error
    metrics = saved_metrics(folder)
    left_out = metrics["left_out"]
    keys, (embedding_RE, architecture_RA) = _read_table(folder / _INDEX)
    fingerprints, (dataset_KE,) = _read_table(folder / _DATASETS)
    return Space(
        identity=_identity(config),
        model=model.eval(),
        index=Index(keys, embedding_RE, architecture_RA),
        fingerprints=tuple(fingerprints),
        dataset_KE=dataset_KE,
        error=None if left_out is None else left_out["mse"] ** 0.5,
        bar=metrics["bar"],
    )


def whole_space(folder: Path) -> SpaceIdentity | None:
    """What the space in a folder was made of; None where there is none that can be read."""
    try:
        return load_space(folder).identity
    except SpaceError:
        return None


def is_of_space(path: Path) -> bool:
    """Whether an entry of a folder is a file of a space, by its content; cut at its end, it still is."""
    try:
        if path.name == _CONFIG:
            return {"schema", "zoo_id", "blake2b"} <= json.loads(path.read_bytes()).keys()
        if path.name == _METRICS:
            return {"summary", "retrieval", "validation_curve"} <= json.loads(path.read_bytes()).keys()
        if path.name in (_INDEX, _DATASETS):
            schema = pa.ipc.read_schema(pa.BufferReader(path.read_bytes()[8:]))  # behind ARROW1 and two zeros
            return schema.names[:2] == ["key" if path.name == _INDEX else "fingerprint", "embedding"]
        if path.name == _ENCODERS:
            return {name.partition(".")[0] for name in _names_of_tensors(path)} == {"query", "model", "predictor"}
    except (OSError, ValueError, AttributeError):
        return False
    return False


def saved_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of a space."""
    return json.loads((folder / _METRICS).read_bytes())


_AGAIN = "make it again with `tans meta-train`"


def _config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    if not path.exists():
        raise SpaceError(
            f"no space in {folder}: there is no {_CONFIG}; `tans meta-train --zoo URI --out DIR` makes one"
        )
    try:
        config = json.loads(path.read_bytes())
        schema = config["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise SpaceError(f"{path} cannot be read ({error}): {_AGAIN}") from error
    if schema > SCHEMA:
        raise SpaceError(f"{path} is of schema {schema} and this tans knows {SCHEMA}: use a newer tans")
    if schema < SCHEMA:
        raise SpaceError(f"{path} is of schema {schema} and this tans reads {SCHEMA}: run `tans meta-train` again")
    return config


def _identity(config: Mapping[str, Any]) -> SpaceIdentity:
    return SpaceIdentity(**{name: config[name] for name in SpaceIdentity.__dataclass_fields__})


def _names_of_tensors(path: Path) -> list[str]:
    """From the head of a safetensors file: its length in 8 bytes, then JSON."""
    data = path.read_bytes()
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return [name for name in head if name != "__metadata__"]


def _table_bytes(name: str, names: Sequence[str], **vectors: Tensor) -> bytes:
    columns = {column: _vectors(values) for column, values in vectors.items()}
    table = pa.table({name: list(names), **columns}).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _read_table(path: Path) -> tuple[list[str], list[Tensor]]:
    """Names and vectors over the mapped file: they are read where a search needs them."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    names, *vectors = table.columns
    return names.to_pylist(), [_mapped(each) for each in vectors]


def _vectors(values_RE: Tensor) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(
        pa.array(values_RE.contiguous().numpy().reshape(-1)), list_size=values_RE.shape[1]
    )


def _mapped(column: pa.ChunkedArray) -> Tensor:
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=True).reshape(len(column), -1)
    assert values.dtype == np.float32
    return _read_only(values)


def _read_only(values: np.ndarray) -> Tensor:
    """A tensor over a mapped file. Nobody writes to it, which torch cannot promise and so warns of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(values)


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
