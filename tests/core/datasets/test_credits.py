"""The starter datasets ship with their credits, and under licences that allow it."""

import json

import pyarrow.parquet as pq
import pytest

from tans_core.datasets.sources.parquet import STARTER

CREDITS = (STARTER / "CREDITS.md").read_text()


@pytest.mark.parametrize("path", sorted(STARTER.glob("*.parquet")), ids=lambda path: path.stem)
def test_each_package_of_a_starter_dataset_is_credited(path):
    about = pq.read_schema(path).metadata
    assert f"| {path.stem} |" in CREDITS
    for package in json.loads(about[b"origin"]):
        assert f"{package['package']} {package['version']}" in CREDITS
        assert not any(word in package["licence"] for word in ("GPL", "-NC", "-ND"))
