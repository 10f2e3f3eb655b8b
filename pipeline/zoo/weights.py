"""The weights folder: content-addressed files, checked before use.

A file's name is the hash of its bytes and lies in the row relative to the zoo, so a zoo may be moved.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from pipeline.running.files import write_new, write_whole
from tans_core.errors import WeightsError, ZooError
from tans_core.records import Row, WeightsReference, content_hash
from tans_core.training.weights import decode_weights

FOLDER = "weights"


def put_weights(zoo: Path, data: bytes, dtype: str, folder: str = FOLDER) -> WeightsReference:
    """Write weights so that they are on the disk before their row is.

    Args:
        folder: of the zoo, that the file goes to.

    Raises:
        ZooError: no room, or a disk that cannot be written; nothing is left behind.
    """
    digest = content_hash(data)
    relative = f"{folder}/{digest[:2]}/{digest}.safetensors"
    path = zoo / relative
    try:
        if not write_new(path, data) and path.read_bytes() != data:  # someone damaged it: a new file, not a write over
            write_whole(path, data)
    except OSError as error:
        raise ZooError(
            f"{error.strerror}: {path} needs {len(data):,} bytes; make room and run the same command again, "
            "what was committed before is safe"
        ) from error
    return WeightsReference(relative, digest, len(data), dtype)


def read_weights(zoo: Path, row: Row) -> dict[str, Tensor]:
    """A row's own weights; size, hash and values are checked before anyone uses them.

    Raises:
        WeightsError: the file is gone, cut, changed, no safetensors, or holds values that are not finite.
    """
    whose, way_out = (
        f"row {row.key}: its weights",
        "put the file back from a copy of the zoo, or `tans zoo drop` the row",
    )
    data = read_checked(zoo, row.weights, whose, way_out)
    try:
        return decode_weights(data)
    except WeightsError as error:
        raise WeightsError(f"{whose} {zoo / row.weights.path} cannot be used: {error}; {way_out}") from error


def read_checked(zoo: Path, reference: WeightsReference, whose: str, way_out: str) -> bytes:
    """A file of weights in its size and with its hash.

    Args:
        whose: words that an error begins with, before the file's name; `way_out`: that it ends with.

    Raises:
        WeightsError: the file is gone, cut or changed.
    """
    path = zoo / reference.path
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise WeightsError(f"{whose} {path} are gone: {way_out}") from None
    except OSError as error:
        raise WeightsError(f"{whose} {path} cannot be read ({error.strerror}): {way_out}") from error
    if len(data) != reference.size_bytes:
        raise WeightsError(f"{whose} {path} have {len(data):,} bytes, not {reference.size_bytes:,}: {way_out}")
    if content_hash(data) != reference.blake2b:
        raise WeightsError(f"{whose} {path} were changed (their hash differs): {way_out}")
    return data


def is_there(zoo: Path, reference: WeightsReference) -> bool:
    """Whether a file of weights is there and as long as it should be: a look at the file, not into it."""
    try:
        return (zoo / reference.path).stat().st_size == reference.size_bytes
    except OSError:
        return False


def weights_files(zoo: Path, folder: str = FOLDER) -> set[str]:
    """Paths, relative to the zoo, of all files in a folder of weights, half-written ones too."""
    return {path.relative_to(zoo).as_posix() for path in (zoo / folder).rglob("*") if path.is_file()}
