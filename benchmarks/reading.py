"""How fast pictures are read: ours, cold and from the cache, beside a plain Pillow loop and torchvision's ImageFolder.

20,000 small JPEGs, made from the collection's pictures, in class folders and in one Parquet file. Every measurement is
a process of its own that ends with one tensor in memory; the Pillow loop makes the same upright, letterboxed pictures.
Rounds alternate, medians are reported. Files lie in the system's page cache for all of them.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

SIZE, WIDTH, HEIGHT = 64, 160, 120
CLASSES = 20


def make_pictures(data: Path, folder: Path, count: int) -> None:
    """Enlarged pictures of the collection as JPEGs; repeated ones are shifted, so that all are distinct."""
    files = sorted((data / "meta-train").glob("*.parquet"))
    source = cycle(record for file in files for record in pq.read_table(file, columns=["image"]).to_pylist())
    rows: dict[str, list] = {"image": [], "label": [], "label_name": []}
    random = np.random.default_rng(0)
    for number, record in enumerate(islice(source, count)):
        image = Image.open(io.BytesIO(record["image"])).convert("RGB").resize((WIDTH, HEIGHT))
        noise = random.integers(-12, 13, (HEIGHT, WIDTH, 3))
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        name = f"class{number % CLASSES:02}"
        place = folder / "pictures" / name
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:05}.jpg").write_bytes(buffer.getvalue())
        for column, value in zip(rows, (buffer.getvalue(), number % CLASSES, name)):
            rows[column].append(value)
    pq.write_table(pa.table(rows), folder / "pictures.parquet", row_group_size=1000)


def ours(spec: str, cache: str) -> tuple[int, float]:
    from tans_core.datasets.opening import DatasetCache, open_dataset

    began = time.monotonic()
    dataset = open_dataset(spec, SIZE, cache=DatasetCache(Path(cache)))
    dataset.images.max()  # what is mapped is read by now
    return len(dataset.images), time.monotonic() - began


def pillow(folder: str) -> tuple[int, float]:
    began = time.monotonic()
    images, labels = [], []
    names = sorted(path.name for path in Path(folder).iterdir())
    for label, name in enumerate(names):
        for path in sorted((Path(folder) / name).iterdir()):
            image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
            images.append(np.asarray(ImageOps.pad(image, (SIZE, SIZE), color=(127, 127, 127))))
            labels.append(label)
    return len(np.stack(images)), time.monotonic() - began


def image_folder(folder: str) -> tuple[int, float]:
    import torch
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, PILToTensor, Resize

    torch.set_num_threads(1)
    began = time.monotonic()
    dataset = ImageFolder(folder, Compose([Resize((SIZE, SIZE)), PILToTensor()]))
    images = torch.stack([dataset[place][0] for place in range(len(dataset))])
    return len(images), time.monotonic() - began


def measured(*arguments: str) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.reading", "--measure", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(what: str, place: str, cache: str = "") -> None:
    how = {
        "ours": lambda: ours(place, cache),
        "pillow": lambda: pillow(place),
        "image_folder": lambda: image_folder(place),
    }
    images, seconds = how[what]()
    status = Path("/proc/self/status").read_text()  # ru_maxrss would begin at the parent's
    peak_kib = int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]
    print(json.dumps({"images": images, "seconds": seconds, "peak_bytes": peak_kib * 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="the collection")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(*given.measure)
        return
    from benchmarks.machine import write  # it imports torch, which the measured processes need not

    home = given.out / "reading"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    make_pictures(given.data, home, given.pictures)
    folder, parquet = str(home / "pictures"), f"parquet:{home / 'pictures.parquet'}"
    runs: dict[str, list[dict[str, float]]] = {}
    for number in range(given.rounds):
        cache = str(home / f"cache{number}")
        for name, arguments in {
            "pillow": ("pillow", folder),
            "image_folder": ("image_folder", folder),
            "folder_cold": ("ours", f"folder:{folder}", cache),
            "folder_cached": ("ours", f"folder:{folder}", cache),
            "parquet_cold": ("ours", parquet, cache),
            "parquet_cached": ("ours", parquet, cache),
        }.items():
            runs.setdefault(name, []).append(measured(*arguments))
            print(name, runs[name][-1], file=sys.stderr)
    write(given.out / "reading.json", summary(runs, given.pictures))
    shutil.rmtree(home)


def summary(runs: Mapping[str, Sequence[Mapping[str, float]]], pictures: int) -> dict[str, Any]:
    """Medians over rounds; a ratio above 1 says that ours is so many times as fast as the other.

    Args:
        runs: of each way to read, a measurement a round.
    """
    seconds = {name: statistics.median(run["seconds"] for run in each) for name, each in runs.items()}
    return {
        "pictures": pictures,
        "size": f"{WIDTH}x{HEIGHT} JPEG, quality 90, to {SIZE} px",
        "rounds": len(runs["pillow"]),
        "cold_vs_pillow_ratio": seconds["pillow"] / seconds["folder_cold"],
        "parquet_vs_pillow_ratio": seconds["pillow"] / seconds["parquet_cold"],
        "cold_vs_image_folder_ratio": seconds["image_folder"] / seconds["folder_cold"],
        "cached_s": seconds["folder_cached"],
        "parquet_cached_s": seconds["parquet_cached"],
        "pictures_per_s": {name: pictures / median for name, median in seconds.items()},
        "peak_bytes": {name: statistics.median(run["peak_bytes"] for run in each) for name, each in runs.items()},
        "runs": runs,
    }


if __name__ == "__main__":
    main()
