"""`parquet:` and `starter:`: files with columns image, label and label_name; see README for the layout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from glob import glob
from pathlib import Path

import pyarrow.parquet as pq

from tans_core.datasets.found import Collection, Found, some
from tans_core.datasets.spec import Spec, did_you_mean
from tans_core.errors import DatasetError

STARTER = Path(__file__).parent / "starter"
_ROWS = 512  # read at a time


def starter_collections(spec: Spec) -> list[Collection]:
    """The small datasets that come with the package, by name or all.

    Raises:
        DatasetError: there is none of that name.
    """
    there = {path.stem: path for path in sorted(STARTER.glob("*.parquet"))}
    if spec.place == "all":
        return [_collection(Spec(scheme="starter", place=name), path) for name, path in there.items()]
    if spec.place not in there:
        names = ", ".join(there)
        raise DatasetError(f"no starter dataset {spec.place!r}: there are {names}{did_you_mean(spec.place, there)}")
    return [_collection(spec, there[spec.place])]


def parquet_collections(spec: Spec) -> list[Collection]:
    """Each file that the glob gives, as one collection.

    Raises:
        DatasetError: no file, or one that is not of the layout.
    """
    paths = sorted(Path(path) for path in glob(str(Path(spec.place).expanduser()), recursive=True))
    if not paths:
        raise DatasetError(f"{spec}: no file of that name; quote a pattern, so that the shell leaves it alone")
    return [_collection(Spec(scheme="parquet", place=str(path), options=spec.options), path) for path in paths]


def _collection(spec: Spec, path: Path) -> Collection:
    try:
        schema = pq.read_schema(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} is no Parquet file: {error}") from error
    missing = {"image", "label"} - set(schema.names)
    if missing:
        found = ", ".join(f"{field.name} {field.type}" for field in schema)
        raise DatasetError(f"{path} has the columns {found}; image (bytes of a picture) and label are needed")
    about = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    return Collection(
        spec=spec,
        name=about.get("name", path.stem),
        source=about.get("source", about.get("name", path.stem)),
        licence=about.get("licence", ""),
        pictures=_pictures(path, json.loads(about.get("classes", "null")), "label_name" in schema.names),
    )


def _pictures(path: Path, names: list[str] | None, named: bool) -> Iterator[Found]:
    number = 0
    columns = ["image", "label", *(["label_name"] if named else [])]
    for batch in pq.ParquetFile(path).iter_batches(_ROWS, columns=columns):
        for record in batch.to_pylist():
            name = record.get("label_name") or (names[record["label"]] if names else str(record["label"]))
            yield Found(f"{path.name}[{number}]", name, False, partial(bytes, record["image"]))
            number += 1
