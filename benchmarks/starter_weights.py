"""`make starter-weights`: the starting weights that come with the package, pretrained on its starter datasets alone.

The demo's query is left out of the pool, so that it stays a dataset that nothing has seen. Resumable.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pipeline import pretrain
from pipeline.demo import QUERY
from pipeline.running.files import write_whole
from tans_core.datasets.sources.parquet import STARTER as DATASETS
from tans_core.search_space.ofa_lite import STARTER
from tans_core.training.pretrain import PretrainConfig

CONFIG = PretrainConfig(steps=400, teacher=4.0, smallest_crop=0.5, largest_every=8)
RESULT = Path("benchmarks/results/starter-weights.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/starter-weights/ofa-lite.safetensors"))
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    specs = [spec for spec in (f"starter:{file.stem}" for file in sorted(DATASETS.glob("*.parquet"))) if spec != QUERY]
    pretrain(specs, given.out, threads=given.threads, config=CONFIG)
    STARTER.parent.mkdir(exist_ok=True)
    write_whole(STARTER, given.out.read_bytes())
    found = json.loads(given.out.with_suffix(".json").read_bytes())
    write_whole(RESULT, json.dumps({"card": found["card"], "curve": found["curve"]}, indent=1).encode() + b"\n")
    print(f"{STARTER}: {found['card']['hash']}; write it into STARTER_HASH of tans_core/search_space/ofa_lite.py")


if __name__ == "__main__":
    main()
