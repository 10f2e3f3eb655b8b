"""Decoded datasets on disk: a SPEC whose files are as they were is not read again.

An entry is named by what it depends on: the SPEC, names, sizes and times of its files, the image size, the decoder
and the rules of reading. It is a safetensors file, mapped when it is used, written under another name first and
never changed. One that cannot be read is made again. Images go into it a few at a time and are used from there: they
stand in memory once.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import PIL
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tans_core.datasets.found import Unread
from tans_core.datasets.split import Unstacked
from tans_core.records import ImageDataset, ReadingReport, Skipped, canonical_json, content_hash

RULES = 3  # of reading: raised when the same files are read differently
_TENSORS = ("labels", "train", "validation", "test", "image_hashes", "paths", "images")  # int64 first, for alignment
_BYTES = ("image_hashes", "paths")


class DatasetCache:
    """Entries in one folder, which several processes may use at a time.

    Args:
        most_bytes: of all entries; those unused for longest go first.
    """

    def __init__(self, folder: Path, most_bytes: int = 20 << 30) -> None:
        self._folder, self._most_bytes = folder, most_bytes

    def get(self, unread: Unread, image_size: int) -> list[ImageDataset] | None:
        """What reading gave when the files were as they are now; None where that is not known."""
        path = self._path(unread, image_size)
        try:
            with safe_open(path, "pt") as file:
                datasets = [
                    _dataset(number, about, file)
                    for number, about in enumerate(json.loads(file.metadata()["datasets"]))
                ]
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):  # not there, or damaged: read again
            return None
        with contextlib.suppress(OSError):  # a folder that is read-only may serve
            os.utime(path)
        return datasets

    def put(self, unread: Unread, image_size: int, unstacked: Sequence[Unstacked]) -> list[ImageDataset] | None:
        """Keep what reading gave, and give it as `get` does; None where the folder takes nothing."""
        path = self._path(unread, image_size)
        unfinished = path.with_name(f".{uuid.uuid4().hex}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(unfinished, "wb") as file:
                for block in _safetensors(unstacked):
                    file.write(block)
            unfinished.replace(path)
            self._make_room()
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            return None
        return self.get(unread, image_size)

    def _path(self, unread: Unread, image_size: int) -> Path:
        decided_by = [RULES, PIL.__version__, str(unread.spec), unread.stamp, image_size]
        return self._folder / f"{content_hash(canonical_json(decided_by))}.safetensors"

    def _make_room(self) -> None:
        entries = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self._folder.iterdir())
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries[:-1]:
            if total > self._most_bytes:
                path.unlink(missing_ok=True)
                total -= size


def _safetensors(unstacked: Sequence[Unstacked]) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file, from beginning to end: the library writes only what stands in memory whole."""
    datasets = [each.dataset for each in unstacked]
    tensors = {
        f"{number}.{name}": _tensor(getattr(dataset, name))
        for name in _TENSORS
        for number, dataset in enumerate(datasets)
    }
    header: dict[str, Any] = {"__metadata__": {"datasets": json.dumps([_about(dataset) for dataset in datasets])}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        kind = "U8" if tensor.dtype == torch.uint8 else "I64"
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors stand at their own alignment
    yield len(text).to_bytes(8, "little") + text
    for tensor in tensors.values():
        if not tensor.is_meta:
            yield tensor.numpy().tobytes()
    for each in unstacked:
        yield from (block.data for block in each.blocks())


def _tensor(value: Tensor | bytes) -> Tensor:
    return torch.frombuffer(bytearray(value), dtype=torch.uint8) if isinstance(value, bytes) else value


def _about(dataset: ImageDataset) -> dict[str, Any]:
    names = ("fingerprint", "name", "source", "spec", "licence", "class_names", "deep")
    return {name: getattr(dataset, name) for name in names} | {"report": asdict(dataset.report)}


def _dataset(number: int, about: dict[str, Any], file: Any) -> ImageDataset:
    report, deep = about.pop("report"), about.pop("deep")
    skipped = tuple(Skipped(reason=each["reason"], paths=tuple(each["paths"])) for each in report["skipped"])
    return ImageDataset(
        **about | {"class_names": tuple(about["class_names"])},
        **{name: file.get_tensor(f"{number}.{name}") for name in _TENSORS if name not in _BYTES},
        **{name: file.get_tensor(f"{number}.{name}").numpy().tobytes() for name in _BYTES},
        deep={kind: (black, white) for kind, (black, white) in deep.items()},
        report=ReadingReport(
            skipped=skipped,
            ignored=report["ignored"],
            dropped_classes=tuple(report["dropped_classes"]),
            notes=tuple(report["notes"]),
        ),
    )
