"""A network in a folder that stands alone: weights, config.json, and the file that reads both and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.running.files import write_whole
from tans_core import exported
from tans_core.records import ImageDataset
from tans_core.search_space.space import SearchSpace
from tans_core.training.weights import encode_weights


def export(
    network: nn.Module,
    search_space: SearchSpace,
    dataset: ImageDataset,
    origin: dict[str, Any],
    summary: dict[str, Any],
    out: Path,
) -> None:
    """Write a network that was trained on `dataset`; `tans_core/exported.py` goes with it and loads it.

    Args:
        origin: where the network came from.
        summary: of its training, as JSON has it.
        out: a folder that is there.

    Raises:
        OSError: a file cannot be written.
    """
    config = {
        "format": exported.FORMAT,
        "network": search_space.export_config(network),
        "class_names": dataset.class_names,
        "preprocessing": {
            "image_size": dataset.image_size,
            **exported.IN_WORDS,
            "integers": dataset.deep.get("integers"),
            "floats": dataset.deep.get("floats"),
            "mean": torch.as_tensor(search_space.input_mean).tolist(),
            "std": torch.as_tensor(search_space.input_std).tolist(),
        },
        "from": origin,
        "accuracy": summary,
    }
    write_whole(out / "exported.py", Path(exported.__file__).read_bytes())
    write_whole(out / "weights.safetensors", encode_weights(network.state_dict()))
    write_whole(out / "config.json", json.dumps(config, indent=1, ensure_ascii=False).encode())
