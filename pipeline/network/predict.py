"""`tans predict`: what an exported network says about pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.running.threads import one_thread
from tans_core.datasets.pictures import Rejected, decode, quiet_decoders
from tans_core.errors import WeightsError
from tans_core.exported import Exported, load


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the network says about one picture, or why it says nothing."""

    picture: str
    class_name: str | None
    probability: float | None  # of that class, the most probable one
    probabilities: dict[str, float]  # of every class, in the order of the network's outputs; together 1
    unreadable: str | None = None


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What `tans predict --json` prints."""

    network: str
    predictions: tuple[Prediction, ...]  # in the order of the pictures

    @property
    def unreadable(self) -> tuple[Prediction, ...]:
        return tuple(each for each in self.predictions if each.unreadable)


def predict(network: str | os.PathLike[str], pictures: Sequence[str | os.PathLike[str]]) -> Predictions:
    """Ask a network that `fine_tune` wrote about picture files; they are read as in training.

    Args:
        network: the folder.
        pictures: files; one that cannot be read is named with its reason, the others are answered.

    Raises:
        WeightsError: there is no whole export in that folder.
    """
    with one_thread(), quiet_decoders():
        loaded = _load(Path(network))
        predictions = tuple(_prediction(loaded, Path(picture)) for picture in pictures)
    return Predictions(network=str(network), predictions=predictions)


def _load(folder: Path) -> Exported:
    for name in ("config.json", "weights.safetensors"):
        if not (folder / name).is_file():
            raise WeightsError(
                f"{folder} holds no exported network ({name} is not there): "
                "give the folder that `tans fine-tune --out` wrote"
            )
    try:
        return load(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"the network in {folder} cannot be loaded ({error}): write it again with `tans fine-tune`"
        ) from error


def _prediction(network: Exported, picture: Path) -> Prediction:
    try:
        shares = network.probabilities(picture)
    except Exception as error:  # hostile bytes make decoders raise nearly anything
        reason = _reason(picture, error)
        return Prediction(picture=str(picture), class_name=None, probability=None, probabilities={}, unreadable=reason)
    best = max(shares, key=shares.__getitem__)
    return Prediction(picture=str(picture), class_name=best, probability=shares[best], probabilities=shares)


def _reason(picture: Path, error: Exception) -> str:
    """Why a picture was not read, in the words of the reader of datasets."""
    try:
        decoded = decode(picture.read_bytes(), str(picture), 1)
    except OSError as no_file:
        return no_file.strerror or str(no_file)
    return decoded.reason if isinstance(decoded, Rejected) else str(error).removeprefix(f"{picture} ")
