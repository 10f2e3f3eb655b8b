"""Exports of untrained networks, and the pictures that are easily read otherwise, with what they must become."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from pipeline.network.export import export
from tans_core.datasets.opening import open_dataset
from tans_core.records import ImageDataset
from tans_core.search_space import make_search_space
from tans_core.search_space.space import SearchSpace
from tests.trees import encoded, picture

SIDE = 32
CLASSES = ("larch", "ash", "birch")  # folders; tans sorts them
RED, BLUE, WHITE, BESIDE = (220, 20, 20), (20, 20, 220), (255, 255, 255), (127, 127, 127)


def halves(width: int = SIDE, height: int = SIDE, mode: str = "RGB", left: object = RED, right: object = BLUE):
    """A picture of two colours; a deep one where `mode` is a numpy dtype."""
    if mode in ("uint16", "float32"):
        pixels = np.full((height, width), left, mode)
        pixels[:, width // 2 :] = right
        return Image.fromarray(pixels)
    image = Image.new(mode, (width, height), left)  # type: ignore[arg-type]
    image.paste(right, (width // 2, 0, width, height))  # type: ignore[arg-type]
    return image


def _turned() -> bytes:
    """Red is left when it is held as EXIF says; it is stored turned by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = halves()
    image.putpixel((31, 31), RED)  # equal pictures would count once
    return encoded(image.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


def _palette(**how: object) -> bytes:
    image = halves(mode="P", left=0, right=1)
    image.putpixel((30, 31), 0)
    image.putpalette([*RED, *BLUE])
    return encoded(image, "PNG", **how)


# File -> its bytes, and what must stand in the middle row at the left end and at the right, by hand.
PICTURES: dict[str, tuple[bytes, tuple[int, ...], tuple[int, ...]]] = {
    "plain.png": (encoded(halves()), RED, BLUE),
    "transparent.png": (encoded(halves(mode="RGBA", left=(*RED, 255), right=(0, 0, 0, 0))), RED, WHITE),
    "half-transparent.png": (encoded(halves(mode="RGBA", left=(*RED, 255), right=(0, 0, 0, 51))), RED, (204,) * 3),
    "turned.png": (_turned(), RED, BLUE),
    "palette.png": (_palette(), RED, BLUE),
    "palette-transparent.png": (_palette(transparency=b"\xff\0"), RED, WHITE),
    "grey.png": (encoded(halves(mode="L", left=40, right=200)), (40,) * 3, (200,) * 3),
    "grey-transparent.png": (encoded(halves(mode="LA", left=(40, 255), right=(40, 0))), (40,) * 3, WHITE),
    "one-bit.png": (encoded(halves(mode="1", left=0, right=1)), (0,) * 3, WHITE),
    "deep.png": (encoded(halves(mode="uint16", left=0, right=4095)), (0,) * 3, WHITE),
    "deep-dark.png": (encoded(halves(mode="uint16", left=0, right=1023)), (0,) * 3, (64,) * 3),  # 1023 / 4095 * 255
    "floats.tif": (encoded(halves(mode="float32", left=-1.0, right=3.0), "TIFF"), (0,) * 3, WHITE),
    "floats-dark.tif": (encoded(halves(mode="float32", left=-1.0, right=1.0), "TIFF"), (0,) * 3, (128,) * 3),
    "cmyk.jpg": (encoded(halves(height=30).convert("CMYK"), "JPEG", quality=100, subsampling=0), RED, BLUE),
    "tiny.png": (encoded(halves(2, 1)), RED, BLUE),
    "long.png": (encoded(halves(20_000, 3)), RED, BLUE),
    "wide.png": (encoded(halves(128, 64)), RED, BLUE),
}
ROWS = {"tiny.png": 16, "long.png": 1, "wide.png": 16, "cmyk.jpg": 30}  # of 32 that it fills; 127 is beside it


def plant_pictures(root: Path) -> Path:
    """A dataset of three classes that holds all of `PICTURES` and some of noise."""
    for number, (name, (data, *_)) in enumerate(PICTURES.items()):
        _write(root / CLASSES[number % 3] / name, data)
    for number in range(12):
        _write(root / CLASSES[number % 3] / f"noise-{number}.png", encoded(picture(f"noise-{number}")))
    return root


def an_export(
    root: Path, name: str = "ofa-lite", classes: Path | None = None
) -> tuple[nn.Module, SearchSpace, ImageDataset]:
    """An untrained network of a search space, written to `root`/network; what it was made of."""
    dataset = open_dataset(f"folder:{classes or plant_pictures(root / 'pictures')}", SIDE)
    space = make_search_space(name)
    topology = space.sample(1, torch.Generator().manual_seed(5))[0].tolist()
    network = space.subnet(
        space.architecture(topology), len(dataset.class_names), torch.Generator().manual_seed(6)
    ).eval()
    (root / "network").mkdir(parents=True)
    export(network, space, dataset, {"row": "ab12", "topology": topology}, {"test_accuracy": 0.5}, root / "network")
    return network, space, dataset


def classifier(network: nn.Module) -> nn.Linear:
    return next(layer for layer in reversed(list(network.modules())) if isinstance(layer, nn.Linear))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
