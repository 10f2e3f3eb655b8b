"""A manifest: which picture is on which side, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from pipeline.running.files import write_whole
from tans_core.errors import ConfigError, DatasetError
from tans_core.records import ImageDataset

_COLUMNS = ("dataset", "fingerprint", "class", "side", "path", "image_hash")
_HASH_DIGITS = 32


def check_manifest(path: Path) -> None:
    """See whether a manifest may be written there; an older one may be replaced.

    Raises:
        ConfigError: the file cannot be written, or holds something else.
    """
    new = not path.exists()
    if not new and not path.is_file():
        raise ConfigError(f"--manifest {path} is a folder or a device: name a file")
    try:
        with path.open("a+b") as file:
            file.seek(0)
            first = file.readline(1000)
        if new:
            path.unlink()
    except OSError as error:
        raise ConfigError(f"--manifest {path} cannot be written ({error.strerror}): name another file") from error
    if first not in (b"", _line(_COLUMNS).encode()):
        raise ConfigError(f"--manifest {path} holds something that is no manifest: name another file")


def write_manifest(datasets: Sequence[ImageDataset], path: Path) -> None:
    """Write one line a picture that is used, whole or not at all: datasets in their order, then side by side.

    Pictures that were skipped (copies among them) are not in it. UTF-8, fields quoted where they need it.

    Raises:
        DatasetError: the file cannot be written.
    """
    lines = [_line(_COLUMNS), *(_line(row) for dataset in datasets for row in _rows(dataset))]
    try:
        write_whole(path.resolve(), "".join(lines).encode())
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be written ({error.strerror or error}): make room, or name another"
        ) from error


def _rows(dataset: ImageDataset) -> list[tuple[str, ...]]:
    paths, digits = dataset.paths.decode().split("\0"), dataset.image_hashes.hex()
    hashes = [digits[place : place + _HASH_DIGITS] for place in range(0, len(digits), _HASH_DIGITS)]
    labels = dataset.labels.tolist()
    return [
        (dataset.name, dataset.fingerprint, dataset.class_names[labels[place]], side, paths[place], hashes[place])
        for side in ("train", "validation", "test")
        for place in getattr(dataset, side).tolist()
    ]


def _line(fields: Sequence[str]) -> str:
    csv.writer(text := io.StringIO(), lineterminator="\n").writerow(fields)
    return text.getvalue()
