"""An exported network gives outside what it gives here, and the file beside it reads pictures as training did."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from export_examples import BESIDE, CLASSES, PICTURES, RED, ROWS, SIDE, an_export, plant_pictures
from safetensors.torch import load_file, save_file

from pipeline.network.network_folder import is_of_network, seal
from pipeline.running.result_folder import refuse_foreign
from tans_core import exported
from tans_core.datasets import pictures
from tans_core.datasets.cache import DatasetCache
from tans_core.datasets.opening import open_dataset
from tans_core.exported import load
from tans_core.training.augment import ImageBatches
from tests.trees import encoded, picture, plant, several

ROOT = Path(__file__).parents[3]
NEEDED = {  # as one imports it -> as one installs it; the README and the file itself say the same
    "torch": "torch",
    "torchvision": "torchvision",
    "ofa": "ofa",
    "safetensors": "safetensors",
    "PIL": "pillow",
    "numpy": "numpy",
}


@pytest.fixture(scope="module")
def lite(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lite é")
    return folder, *an_export(folder)


@pytest.fixture(scope="module")
def mbv3(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mbv3")
    return folder, *an_export(folder, "ofa-mbv3")


def file_of(folder: Path, name: str) -> Path:
    (path,) = (folder / "pictures").rglob(name)
    return path


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_what_it_is_for_people(lite, name):
    square_CSS = load(lite[0] / "network").read(file_of(lite[0], name))
    _, left, right = PICTURES[name]
    near = 3 if name.endswith(".jpg") else 1 if "half" in name else 0
    assert square_CSS.shape == (3, SIDE, SIDE) and square_CSS.dtype == np.uint8
    assert square_CSS[:, 15, 1].tolist() == pytest.approx(left, abs=near)
    assert square_CSS[:, 15, -2].tolist() == pytest.approx(right, abs=near)
    beside = (square_CSS == np.array(BESIDE)[:, None, None]).all(axis=(0, 2)).sum()
    assert beside == SIDE - ROWS.get(name, SIDE)


def test_a_dataset_is_read_outside_to_the_bytes_that_training_saw(lite):
    folder, _, space, dataset = lite
    outside = load(folder / "network")
    files = sorted(path for path in (folder / "pictures").rglob("*") if path.is_file())
    assert len(files) == len(dataset.images) == len(PICTURES) + 12
    batches = ImageBatches(dataset, space, torch.device("cpu"))
    seen = batches.plain(torch.arange(len(files))).contiguous()
    assert Counter(image.numpy().tobytes() for image in seen) == Counter(
        outside.tensor(path).contiguous().numpy().tobytes() for path in files
    )


def test_colours_are_normalised_as_each_search_space_wants_it_by_hand(lite, mbv3):
    def red(made):
        return load(made[0] / "network").tensor(file_of(made[0], "plain.png"))[0, :, 15, 1].tolist()

    assert red(lite) == pytest.approx([(value - 127) / 128 for value in RED])
    means_and_stds = (123.675, 58.395), (116.28, 57.12), (103.53, 57.375)  # ImageNet's, of red, green and blue
    assert red(mbv3) == pytest.approx([(value - mean) / std for value, (mean, std) in zip(RED, means_and_stds)])


def test_grey_pictures_alone_make_a_network_that_takes_colours(tmp_path):
    greys = {
        f"{name}/{number}.png": encoded(picture(f"{name}{number}").convert("L")) for name in "xy" for number in range(6)
    }
    _, space, dataset = an_export(tmp_path, classes=plant(tmp_path / "pictures", greys))
    assert dataset.images.shape[1] == 1
    outside = load(tmp_path / "network")
    seen = ImageBatches(dataset, space, torch.device("cpu")).plain(torch.arange(12))
    assert {image.numpy().tobytes() for image in seen.contiguous()} == {
        outside.tensor(path).contiguous().numpy().tobytes() for path in (tmp_path / "pictures").rglob("*.png")
    }
    (tmp_path / "red.png").write_bytes(PICTURES["plain.png"][0])
    assert tuple(outside.read(tmp_path / "red.png")[:, 15, 1]) == RED


def test_a_deep_picture_is_refused_where_training_had_none(tmp_path):
    """No scale is known for it: any would be a guess, and a wrong one is not seen."""
    an_export(tmp_path, classes=plant(tmp_path / "pictures", {"x/": several("x", 6), "y/": several("y", 6)}))
    (tmp_path / "deep.png").write_bytes(PICTURES["deep.png"][0])
    with pytest.raises(ValueError, match="uint16 pixels and no picture in training had such integers"):
        load(tmp_path / "network").read(tmp_path / "deep.png")


def test_config_says_in_words_and_numbers_what_is_done_with_a_picture(lite):
    config = json.loads((lite[0] / "network" / "config.json").read_text())
    said = config["preprocessing"]
    assert config["class_names"] == sorted(CLASSES) and config["format"] == 1
    assert (said["image_size"], said["mean"], said["std"]) == (SIDE, [127.0] * 3, [128.0] * 3)
    assert (said["integers"], said["floats"]) == ([0.0, 4095.0], [-1.0, 3.0])
    words = " ".join(str(value) for value in said.values())
    for word in (
        "EXIF",
        "white",
        "BILINEAR",
        "reducing_gap",
        "enlarged",
        "127",
        "red, green, blue",
        "grey",
        "first of",
    ):
        assert word in words, word


def readme_block() -> str:
    """The README's lines on loading an export."""
    (block,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        if "exported" in block
    )
    return block


# Everything that is installed is refused, but for what the README names and what that asks for itself.
ALONE = """
import importlib.machinery, importlib.metadata as metadata, sys
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

def closure(names):
    found, waiting = set(), list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found: continue
        found.add(name)
        try: asked = map(Requirement, metadata.requires(name) or ())
        except metadata.PackageNotFoundError: continue
        waiting += [each.name for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found

allowed = closure(NEEDED.values())
installed = metadata.packages_distributions()
refused = {top for top, names in installed.items() if not allowed & set(map(canonicalize_name, names))}
refused |= {"pipeline", "tans_core", "tests"}

class Installed:  # as if nothing else were
    def __init__(self, finders): self.finders = finders
    find_distributions = staticmethod(importlib.machinery.PathFinder.find_distributions)
    def find_spec(self, name, path=None, target=None):
        found = (each.find_spec(name, path, target) for each in self.finders)
        return None if name.partition(".")[0] in refused else next(filter(None, found), None)

for name in [name for name in sys.modules if name.partition(".")[0] in refused]: del sys.modules[name]
sys.meta_path[:] = [Installed(list(sys.meta_path))]
try: import pipeline
except ModuleNotFoundError: pass
else: raise SystemExit("pipeline can be imported")
"""


def test_the_readmes_lines_load_it_with_what_the_readme_names_and_nothing_else(lite, mbv3, tmp_path):
    said = re.compile(r"torch, torchvision, ofa, safetensors, pillow and numpy")
    assert said.search((ROOT / "README.md").read_text().replace("`", "").replace("\n", " "))
    assert said.search((ROOT / "tans_core" / "exported.py").read_text().replace("\n", " "))
    lines = [f"NEEDED = {NEEDED!r}", ALONE]
    images = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    for name, (folder, *_) in {"lite": lite, "mbv3": mbv3}.items():
        shutil.copytree(folder / "network", tmp_path / name / "network")
        shutil.copy(file_of(folder, "turned.png"), tmp_path / name / "picture.jpg")
        save_file({"images": images}, tmp_path / name / "images.safetensors")
    lines += [
        "import os",
        "os.chdir('lite')",
        readme_block(),
        "from safetensors.torch import load_file, save_file",
        "import torch",
        "for name in ('lite', 'mbv3'):",
        "    os.chdir(f'../{name}')",
        "    with torch.inference_mode():",
        "        logits = load('network').network(load_file('images.safetensors')['images'])",
        "    save_file({'logits': logits}, 'logits.safetensors')",
        "missing = set(NEEDED) - set(sys.modules)",
        "assert not missing, f'said to be needed and not imported: {missing}'",
    ]
    script = tmp_path / "lite" / "script.py"
    script.write_text("\n".join(lines).replace("os.chdir('lite')", f"os.chdir({str(tmp_path / 'lite')!r})"))
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.strip().splitlines()[0]
    expected = load(lite[0] / "network").probabilities(file_of(lite[0], "turned.png"))
    assert json.loads(printed.replace("'", '"')) == pytest.approx(expected, abs=1e-5)
    for name, (_, network, *_) in {"lite": lite, "mbv3": mbv3}.items():
        with torch.inference_mode():
            wanted = network(images)
        torch.testing.assert_close(load_file(tmp_path / name / "logits.safetensors")["logits"], wanted)


def test_the_file_beside_the_weights_is_the_one_that_tans_itself_reads_pictures_by(lite):
    assert (lite[0] / "network" / "exported.py").read_bytes() == Path(exported.__file__).read_bytes()
    assert pictures.straightened is exported.straightened and pictures.scaled is exported.scaled
    assert sorted(path.name for path in (lite[0] / "network").iterdir()) == [
        "config.json",
        "exported.py",
        "weights.safetensors",
    ]


def test_a_network_that_was_loaded_where_it_stands_may_still_be_replaced(lite, tmp_path):
    folder = Path(shutil.copytree(lite[0] / "network", tmp_path / "network"))
    seal(folder)
    load_it = "from network.exported import load; load('network')"
    keeps_bytecode = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([sys.executable, "-c", load_it], cwd=tmp_path, env=keeps_bytecode, check=True)
    assert (folder / "__pycache__").is_dir()
    assert {path.name for path in refuse_foreign(folder, is_of_network)} == {
        "config.json",
        "exported.py",
        "weights.safetensors",
    }


def test_the_scale_of_deep_pictures_outlives_the_cache(tmp_path):
    root, cache = plant_pictures(tmp_path / "pictures"), DatasetCache(tmp_path / "cache")
    read, again = (open_dataset(f"folder:{root}", SIDE, cache=cache) for _ in range(2))
    assert read.deep == again.deep == {"integers": (0.0, 4095.0), "floats": (-1.0, 3.0)}
