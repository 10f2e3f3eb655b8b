"""Pairs are trained on mirrored pictures where the dataset keeps its classes by it, and nowhere else."""

from pathlib import Path

import torch
from PIL import Image

from pipeline.growing.build_zoo import build_zoo
from pipeline.zoo import Zoo


def _plant(folder: Path, classes: dict[str, torch.Tensor]) -> str:
    generator = torch.Generator().manual_seed(0)
    for name, picture in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(10):
            pixels = (picture * 200 + torch.randint(0, 55, (32, 32), generator=generator)).to(torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{number}.png")
    return f"folder:{folder}"


def test_the_recipe_of_each_pair_has_the_decision_of_its_dataset(tmp_path):
    left = (torch.arange(32) < 16).float().expand(32, 32)  # mirrored, it is the right
    above = left.T  # mirrored, it is still above
    specs = [
        _plant(tmp_path / "sides", {"left": left, "right": 1 - left}),
        _plant(tmp_path / "heights", {"above": above, "below": 1 - above}),
    ]
    build_zoo(str(tmp_path / "zoo?"), specs, pairs=4, preset_name="smoke", workers=0)
    rows = Zoo.open(str(tmp_path / "zoo?")).snapshot().rows
    assert {(row.dataset_name, row.identity.recipe["mirror"]) for row in rows} == {("sides", False), ("heights", True)}
