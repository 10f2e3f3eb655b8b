"""A supernet as a file that anyone can carry: safetensors, with a card in its metadata of what it is and saw.

What 16 bits hold exactly is kept in 16 bits, so that a file gives back the very weights it was made of.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tans_core.errors import ConfigError

_CARD = "tans_supernet"


@dataclass(frozen=True, kw_only=True)
class SeenDataset:
    """A dataset that a supernet learned from."""

    name: str
    fingerprint: str
    images: int  # of the training part, which alone was learned from
    licence: str


@dataclass(frozen=True, kw_only=True)
class SupernetCard:
    """What a supernet is, and what it saw."""

    search_space: str
    width: float
    hash: str  # of the weights, as every zoo names them
    begun_from: str  # hash of the weights that its pretraining began from; its own where there was none
    datasets: tuple[SeenDataset, ...] = ()
    image_size: int | None = None  # None: never pretrained by tans
    steps: int = 0
    seed: int | None = None
    config: dict[str, Any] | None = None  # asdict(PretrainConfig)
    versions: dict[str, str] | None = None


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with kernels and matrices rounded to 16 bits; norms and biases, which are few, as they are."""
    return {
        name: tensor.half().to(tensor.dtype) if tensor.is_floating_point() and tensor.ndim > 1 else tensor
        for name, tensor in state.items()
    }


def encode_supernet(state: Mapping[str, Tensor], card: SupernetCard) -> bytes:
    """The file of a supernet; equal weights and cards have equal bytes."""
    assert card.hash == state_hash(dict(state))
    return save({name: _smallest(tensor) for name, tensor in state.items()}, {_CARD: json.dumps(asdict(card))})


def read_supernet(path: Path) -> tuple[dict[str, Tensor], SupernetCard | None]:
    """Weights in 32 bits, and the card; None where tans did not write the file.

    Args:
        path: safetensors by its suffix, else what torch wrote; nothing in it is executed.

    Raises:
        ConfigError: no such file, or it is cut, was changed, or holds no state dict or values that are not finite.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is no file: give the path of a supernet's weights, or leave them out")
    try:
        state, card = _safetensors(path) if path.suffix == ".safetensors" else (_torch_file(path), None)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read as weights: {brief(error)}") from error
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"{path} holds no tensors by name: it is not a state dict")
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    if card is not None and (found := state_hash(state)) != card.hash:
        raise ConfigError(f"{path} was changed: its weights hash to {found}, its card says {card.hash}; copy it anew")
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise ConfigError(f"{path}: {name} holds values that are not finite")
    return state, card


def refuse_other(path: Path, card: SupernetCard | None, search_space: str, width: float) -> None:
    """Raise ConfigError for a supernet whose card says another search space or width."""
    if card is not None and (card.search_space, card.width) != (search_space, width):
        raise ConfigError(
            f"{path} is a supernet of {card.search_space} of width {card.width:g}, "
            f"and {search_space} of width {width:g} was asked for: give another --init, or the other search space"
        )


def _safetensors(path: Path) -> tuple[dict[str, Tensor], SupernetCard | None]:
    with safe_open(path, "pt") as file:
        card = (file.metadata() or {}).get(_CARD)
        return {name: file.get_tensor(name) for name in file.keys()}, None if card is None else _card(card)  # noqa: SIM118


def _torch_file(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"UnpicklingError: {error}") from error
    return state.get("state_dict", state) if isinstance(state, dict) else {}


def _card(text: str) -> SupernetCard:
    fields = json.loads(text)
    return SupernetCard(**{**fields, "datasets": tuple(SeenDataset(**each) for each in fields["datasets"])})


def _smallest(tensor: Tensor) -> Tensor:
    plain = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    if plain.is_floating_point() and torch.equal(plain.half().to(plain.dtype), plain):
        return plain.half()
    return plain


def state_hash(state: dict[str, Tensor]) -> str:
    """BLAKE2b-128 over names, shapes and values in the order of the names."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        digest.update(f"{name} {tuple(state[name].shape)} ".encode())
        digest.update(state[name].detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def brief(error: Exception) -> str:
    """Kind and first words of an error of torch or safetensors, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
