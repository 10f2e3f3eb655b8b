"""`parquet:` and `starter:`: files with columns image, label and label_name; see README for the layout.

The Hugging Face hub's form is read too: an image is a struct of bytes and path, the names of the classes stand
in the schema's metadata, and one dataset comes in shards.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from glob import escape, glob
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tans_core.datasets.found import Collection, Found, Stamp, Unread, own_split, some
from tans_core.datasets.sources.layout import nfc, split_of
from tans_core.datasets.spec import Spec, did_you_mean
from tans_core.errors import DatasetError, SpecError

STARTER = Path(__file__).parents[1] / "starter"
_ROWS = 512  # read at a time
_SHARD = re.compile(r"(?P<side>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]+)?\.parquet")


def starter_collections(spec: Spec) -> list[Unread]:
    """The small datasets that come with the package, by name or all.

    Raises:
        SpecError: there is none of that name.
    """
    _refuse_folder_options(spec)
    there = {path.stem: path for path in sorted(STARTER.glob("*.parquet"))}
    if spec.place == "all":
        return [_unread(replace(spec, place=name), [path]) for name, path in there.items()]
    if spec.place not in there:
        names = ", ".join(there)
        raise SpecError(f"no starter dataset {spec.place!r}: there are {names}{did_you_mean(spec.place, there)}")
    return [_unread(spec, [there[spec.place]])]


def parquet_collections(spec: Spec) -> list[Unread]:
    """Each file that the glob gives, as one collection; the shards of one folder are one.

    Raises:
        DatasetError: no file, or one that is not of the layout.
    """
    _refuse_folder_options(spec)
    place = Path(spec.place).expanduser()
    paths = [place] if place.is_file() else sorted(map(Path, glob(str(place), recursive=True)))
    if not paths:
        raise DatasetError(f"{spec}: no file of that name; quote a pattern, so that the shell leaves it alone")
    shards: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        if _SHARD.fullmatch(path.name):
            shards[path.parent].append(path)
    alone = [path for path in paths if path not in set(chain.from_iterable(shards.values()))]
    collections = [_unread(replace(spec, place=str(path)), [path]) for path in alone]
    for folder, files in shards.items():
        several = len(shards) > 1 or alone
        pattern = str(Path(escape(str(folder))) / "*-of-*.parquet") if several else spec.place
        collections.append(_unread(replace(spec, place=pattern), files))
    return collections


def _refuse_folder_options(spec: Spec) -> None:
    for key, value in (("labels", spec.options.labels), ("class", spec.options.class_level)):
        if value:
            raise SpecError(
                f"{spec}: {key}= is for pictures in folders (folder: and kaggle:); {spec.scheme}: takes its classes "
                f"from the file and knows without= and group="
            )


@dataclass(frozen=True, slots=True)
class _File:
    """One file of a collection, its schema checked."""

    path: Path
    in_test: bool
    columns: list[str]
    names: list[str] | None  # of the classes, by label
    about: dict[str, str]
    rows: int
    labelled: bool = True  # False for a shard without any label, as the hub keeps test parts of competitions


def _unread(spec: Spec, paths: Sequence[Path]) -> Unread:
    stamp = Stamp()
    for path in paths:
        try:
            stamp.add(str(path), path.stat())
        except OSError as error:
            raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    return Unread(spec=spec, stamp=str(stamp), read=lambda: _collection(spec, paths))


def _collection(spec: Spec, paths: Sequence[Path]) -> Collection:
    files = [_open(path) for path in paths]
    sharded = [_SHARD.fullmatch(path.name) for path in paths]
    bare = [file for file, shard in zip(files, sharded) if shard and not _has_labels(file)]
    files = [replace(file, in_test=False, labelled=False) if file in bare else file for file in files]
    if {file.in_test for file in files if file.labelled} != {True, False}:
        files = [replace(file, in_test=False) for file in files]
    home = paths[0].parent.parent if paths[0].parent.name == "data" else paths[0].parent
    name = files[0].about.get("name", home.name if any(sharded) else paths[0].stem)
    return Collection(
        spec=spec,
        name=name,
        source=files[0].about.get("source", name),
        licence=files[0].about.get("licence", ""),
        pictures=chain.from_iterable(map(_pictures, files)),
        count=sum(file.rows for file in files),
        notes=tuple(_shard_notes(files)),
    )


def _open(path: Path) -> _File:
    try:
        metadata = pq.read_metadata(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} is no Parquet file: {error}") from error
    schema = metadata.schema.to_arrow_schema()
    columns = [name for name in ("image", "label", "label_name") if name in schema.names]
    if not {"image", "label"} <= set(columns):
        raise DatasetError(
            f"{path} has the columns {_columns(schema)}; image (bytes of a picture) and label are needed"
        )
    if not _holds_pictures(schema.field("image").type):
        raise DatasetError(
            f"{path} has the columns {_columns(schema)}; image must hold the bytes of a picture (binary, or a struct "
            f"of bytes and path): nothing is fetched from a path or an address"
        )
    if not _is_label(schema.field("label").type):
        raise DatasetError(f"{path} has the columns {_columns(schema)}; label must be a whole number or a string")
    about = {key.decode(): value.decode(errors="replace") for key, value in (schema.metadata or {}).items()}
    shard = _SHARD.fullmatch(path.name)
    return _File(
        path=path,
        in_test=shard is not None and split_of(shard["side"]) == "test",
        columns=columns,
        names=_class_names(about),
        about=about,
        rows=metadata.num_rows,
    )


def _columns(schema: pa.Schema) -> str:
    return some((f"{field.name} {field.type}" for field in schema), 12)


def _holds_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _holds_pictures(kind.field(place).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_label(kind: pa.DataType) -> bool:
    return any(check(kind) for check in (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string))


def _class_names(about: dict[str, str]) -> list[str] | None:
    """From our own metadata, or the hub's."""
    try:
        ours = json.loads(about.get("classes", "null"))
        hub = json.loads(about.get("huggingface", "{}"))
        names = ours or hub["info"]["features"]["label"].get("names")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _pictures(file: _File) -> Iterator[Found]:
    for number, record in enumerate(_records(file, file.columns)):
        image = record["image"]
        data = image["bytes"] if isinstance(image, dict) else image
        name = _class_name(record, file.names)
        yield Found(f"{file.path.name}[{number}]", name, file.in_test, partial(bytes, data or b""))


def _has_labels(file: _File) -> bool:
    columns = [name for name in file.columns if name != "image"]
    return any(_class_name(record, file.names) is not None for record in _records(file, columns))


def _records(file: _File, columns: list[str]) -> Iterator[dict[str, Any]]:
    try:
        for batch in pq.ParquetFile(file.path).iter_batches(_ROWS, columns=columns):
            yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{file.path} is damaged: {error}") from error


def _class_name(record: dict[str, Any], names: list[str] | None) -> str | None:
    """The hub says -1 where a row has no label."""
    label = record["label"]
    if record.get("label_name"):
        return nfc(record["label_name"])
    if label is None or label == "":
        return None
    if names is None or isinstance(label, str):
        return nfc(str(label))
    return nfc(names[label]) if 0 <= label < len(names) else None


def _shard_notes(files: Sequence[_File]) -> Iterator[str]:
    counts: Counter[str] = Counter()
    there: Counter[tuple[str, int]] = Counter()
    for file in files:
        shard = _SHARD.fullmatch(file.path.name)
        if shard:
            counts[split_of(shard["side"])] += file.rows if file.labelled else 0
            there[shard["side"], int(shard["count"])] += 1
    for (side, count), found in there.items():
        if found < count:
            yield f"{found} of the {count} files of {side!r} are there"
    for file in files:
        if not file.labelled:
            yield f"{file.rows:,} pictures in {file.path.name} have no class"
    if any(file.in_test for file in files):
        yield own_split(counts)
