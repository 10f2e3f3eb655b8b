"""Folders of small pictures, written as a literal."""

import io
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(name: str) -> Image.Image:
    """Another picture for every name, always the same for one."""
    pixels = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def pasted(message: str) -> list[str]:
    """The SPECs that a message gives to paste, as a shell would read them."""
    return re.findall(r"'((?:folder|kaggle):[^']*)'", message)


def several(name: str, count: int) -> list[str]:
    return [f"{name}{number}" for number in range(count)]


def plant(root: Path, tree: Mapping[str, Sequence[str] | bytes]) -> Path:
    """Write a tree: "folder/" with the names of its pictures, "folder/file" with bytes. Equal names, equal pictures."""
    for place, content in tree.items():
        path = root / place
        if place.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            for name in content:
                assert isinstance(name, str)
                (path / f"{name}.png").write_bytes(encoded(picture(name)))
        else:
            assert isinstance(content, bytes)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return root


def write_parquet(path: Path, rows: Sequence[tuple[str, str]], metadata: Mapping[str, str] | None = None) -> Path:
    """Rows of (class, name of a picture) in the three columns."""
    names = sorted({name for name, _ in rows})
    table = pa.table(
        {
            "image": [encoded(picture(name)) for _, name in rows],
            "label": pa.array([names.index(name) for name, _ in rows], pa.int32()),
            "label_name": [name for name, _ in rows],
        }
    )
    pq.write_table(table.replace_schema_metadata(dict(metadata or {})), path)
    return path
