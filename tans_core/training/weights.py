"""Weights of a network as safetensors bytes, and back. Bytes depend on names and values alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from tans_core.errors import WeightsError

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_NARROW = (torch.float16, torch.bfloat16)

STORED = "float16"  # how pairs' matrices are stored; "float32" too is read, and written for exports


def encode_weights(state_dict: Mapping[str, Tensor], dtype: str = "float32") -> bytes:
    """Safetensors of a state dict.

    Every tensor is copied into its usual memory format first: safetensors refuses channels_last
    and shared memory, and equal weights must have equal bytes.

    Args:
        dtype: "float32", "float16" or "bfloat16": of matrices and filters. Vectors, which are a few hundredths of the
            bytes, stay as they are: a variance of a batch norm may lie beyond float16, or round to 0. So does a matrix
            with an entry that has no finite value there.

    Raises:
        WeightsError: an entry is not finite.
    """
    state = {name: _plain(tensor) for name, tensor in state_dict.items()}
    check_finite(state)
    return save({name: _narrowed(tensor, _DTYPES[dtype]) for name, tensor in state.items()})


def decode_weights(data: bytes) -> dict[str, Tensor]:
    """The state dict in `data`, on the CPU; what was stored in 16 bits comes in float32.

    Raises:
        WeightsError: no safetensors, or an entry that is not finite.
    """
    try:
        state = load(data)
    except SafetensorError as error:
        raise WeightsError(f"{len(data):,} bytes are no safetensors file ({error})") from error
    check_finite(state)
    return {name: tensor.float() if tensor.dtype in _NARROW else tensor for name, tensor in state.items()}


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Raise WeightsError with the first entry that holds a NaN or an infinity."""
    for name, tensor in state.items():
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise WeightsError(f"{name} has {bad:,} of {tensor.numel():,} values that are not finite")


def load_into(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy weights into a network of the same architecture and number of classes.

    Raises:
        WeightsError: an entry is missing, unknown, or of another shape; the network is left as it was.
    """
    own = network.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in state:
            raise WeightsError(f"{name} is missing: the weights are of another architecture")
        if name not in own:
            raise WeightsError(f"{name} is no part of the network: the weights are of another architecture")
        if state[name].shape != own[name].shape:
            raise WeightsError(f"{name} has shape {tuple(state[name].shape)}, the network {tuple(own[name].shape)}")
    network.load_state_dict(state)


def _narrowed(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.ndim < 2 or tensor.dtype != torch.float32:
        return tensor
    narrow = tensor.to(dtype)
    return narrow if torch.isfinite(narrow).all() else tensor


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
