"""Cut the starter datasets out of the collection: `python -m benchmarks.collection.cut_starter DATA`.

So many images a dataset as stay small, classes in their share, chosen by the hash of their bytes. Only datasets whose
licences allow it beside a permissive project; none of GPL.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

NAMES = [
    *("mnist-digits", "optical-digits", "animal-silhouettes", "lfw-faces", "ground-textures", "opencv-photographs"),
    *("brain-regions", "speech-languages", "speech-words", "emoji-food", "emoji-travel", "emoji-living-things"),
    *("clipart-themes", "clipart-symbols"),
]
IMAGES, BYTES = 400, 330_000
TARGET = Path(__file__).resolve().parents[2] / "tans_core" / "datasets" / "starter"


def cut(table: pa.Table) -> pa.Table:
    """At most `IMAGES` images and about `BYTES` bytes, evenly over the classes, in the order of their hashes."""
    images, labels = table["image"].to_pylist(), table["label"].to_pylist()
    share = min(IMAGES, BYTES * len(images) // sum(map(len, images)), len(images)) / len(images)
    kept = []
    for label in sorted(set(labels)):
        members = [row for row in range(len(labels)) if labels[row] == label]
        members.sort(key=lambda row: hashlib.blake2b(images[row]).digest())
        kept += members[: max(12, round(share * len(members)))]
    return table.take(sorted(kept))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the collection: meta-train/")
    given = parser.parse_args()
    for name in NAMES:
        table = pq.read_table(given.data / "meta-train" / f"{name}.parquet")
        licence = (table.schema.metadata or {})[b"licence"].decode()
        assert "GPL" not in licence, f"{name}: {licence}"
        small = cut(table)
        pq.write_table(small, TARGET / f"{name}.parquet", compression="zstd", compression_level=19)
        print(f"{name}: {len(small)} of {len(table)} images, {(TARGET / f'{name}.parquet').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
