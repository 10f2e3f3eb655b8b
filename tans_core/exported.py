"""A network that left: this file stands beside its weights and needs nothing of tans.

    network = load("the folder that it stands in")
    network.probabilities("picture.jpg")  # {"cat": 0.93, ...}
    network.network(network.tensor("picture.jpg"))  # a torch.nn.Module, and the picture as it takes it

It needs torch, torchvision, ofa, safetensors, pillow and numpy. `tans` reads pictures by the functions below itself, so
that a picture is here what it was in training. Axes: C channels (1 grey, 3 colour), H and W sides in pixels, S side of
the network's pictures.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:  # a process that only decodes pictures is up in a tenth of the time
    from torch import Tensor, nn

FORMAT = 1  # of config.json
MAX_PIXELS = 89_478_485  # Pillow's own warning limit: a quarter of a GiB in RGB
FILL = 127  # what stands beside a picture that is not square
IN_WORDS = {  # what `straightened`, `scaled`, `to_bytes` and `letterbox` do
    "frames": "the first of several",
    "orientation": "turned as EXIF says",
    "transparency": "over white",
    "channels": "red, green, blue; grey fills all three",
    "resize": "longest side to image_size, enlarged where it is smaller; the other side rounded, at least 1 pixel",
    "filter": "Pillow's BILINEAR with reducing_gap=1.0, which is antialiased",
    "deep": "16-bit grey and floats are resized first, then black becomes 0 and white 255, rounded and clipped",
    "letterbox": f"centred in a square of image_size, {FILL} beside it",
    "normalise": "(pixels from 0 to 255 - mean) / std",
}

# The formats that Pillow decodes by itself: its EPS reader starts Ghostscript, and its readers of formats
# without a signature take text for pictures. TGA has no signature either: it is tried on its name only.
FORMATS = ("JPEG", "PNG", "AVIF", "BMP", "DDS", "DIB", "GIF", "ICO", "JPEG2000", "PCX", "PPM", "PSD", "QOI")
FORMATS += ("SGI", "TIFF", "WEBP")
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


def load(folder: str | os.PathLike[str]) -> Exported:
    """The network of a folder that holds config.json and weights.safetensors.

    Raises:
        OSError: one of the two cannot be read.
        ValueError: config.json is no export's that this file knows, or the weights are of another network.
    """
    return Exported(Path(folder))


class Exported:
    """A trained classifier in eval mode, and the way of pictures to it."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found = config.get("format") if isinstance(config, dict) else None
        if found != FORMAT:
            raise ValueError(
                f"{folder / 'config.json'} has format {found}, and format {FORMAT} is read: export it again"
            )
        self.class_names: tuple[str, ...] = tuple(config["class_names"])
        self.preprocessing: dict[str, Any] = config["preprocessing"]  # what its words mean stands in IN_WORDS
        self.network = _network(config["network"], folder / "weights.safetensors")

    def probabilities(self, picture: str | os.PathLike[str]) -> dict[str, float]:
        """The probability of each class, in the order of `class_names`; ValueError and OSError as `read`."""
        import torch

        with torch.inference_mode():
            shares = self.network(self.tensor(picture)).double().softmax(dim=1)[0].tolist()
        return dict(zip(self.class_names, shares, strict=True))

    def tensor(self, picture: str | os.PathLike[str]) -> Tensor:
        """A picture's file as the network takes it, float32 (1, 3, S, S); ValueError and OSError as `read`."""
        import torch

        mean, std = (torch.tensor(self.preprocessing[name]) for name in ("mean", "std"))
        pixels_SSC = torch.from_numpy(self.read(picture).transpose(1, 2, 0).copy()).float()
        return ((pixels_SSC - mean) / std).permute(2, 0, 1)[None]

    def read(self, picture: str | os.PathLike[str]) -> np.ndarray:
        """A picture's file as a square of bytes (3, S, S).

        Raises:
            OSError: there is no such file, or it is no picture.
            ValueError: it is damaged, too large, or deeper than the pictures that the network was trained on.
        """
        with Image.open(picture, formats=formats_of(os.fspath(picture))) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{picture} has {image.width}x{image.height} pixels, the limit is {MAX_PIXELS:,}")
            image, pixels = straightened(image)
        scaled_CHW = scaled(image, self.preprocessing["image_size"])
        if kind := deep_kind(pixels):
            black_and_white = self.preprocessing[kind]
            if black_and_white is None:
                raise ValueError(
                    f"{picture} has {pixels.dtype.name} pixels and no picture in training had such {kind}: "
                    "which of them are black and white is not known; make it a picture of 8 bits"
                )
            scaled_CHW = to_bytes(scaled_CHW, *black_and_white)
        square_CSS = np.empty((3, self.preprocessing["image_size"], self.preprocessing["image_size"]), np.uint8)
        letterbox(scaled_CHW, square_CSS)
        return square_CSS


# --- pictures -------------------------------------------------------------------------------------


def formats_of(path: str) -> tuple[str, ...]:
    """What a file of that name may be; but for one format, its content decides."""
    return (*FORMATS, "TGA") if PurePath(path).suffix.lower() == ".tga" else FORMATS


def straightened(image: Image.Image) -> tuple[Image.Image, np.ndarray]:
    """A picture upright, over white, grey where it is grey; and its pixels, uint8 but for deep ones.

    Raises:
        NotFinite: floats without a scale.
    """
    image.load()
    with suppress(SyntaxError, ValueError, KeyError, TypeError, OSError):  # an EXIF block that is none: sound pixels
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode in _DEEP_MODES:
        pixels = _deep_array(np.asarray(image))
        return Image.fromarray(pixels.astype(np.float32)), pixels
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    wanted = "L" if image.mode in ("1", "L") else "RGB"
    image = image if image.mode == wanted else image.convert(wanted)
    pixels = np.asarray(image)
    if wanted == "RGB" and _is_grey(pixels):
        image = image.getchannel(0)
        pixels = np.asarray(image)
    return image, pixels


class NotFinite(ValueError):
    """A picture of floats, among them NaN or infinity: there is no scale for those."""


def deep_kind(pixels: np.ndarray) -> str:
    """ "" for 8 bits; "integers" (of up to 16 bits) or "floats": to be scaled with the rest of their dataset."""
    return {"uint8": "", "uint16": "integers", "int32": "floats", "float32": "floats"}[pixels.dtype.name]


def scaled(image: Image.Image, image_size: int) -> np.ndarray:
    """Longest side to `image_size`, each side at least 1 pixel, antialiased; shape (C, h, w)."""
    longest = max(image.size)
    size = (max(1, round(image.width * image_size / longest)), max(1, round(image.height * image_size / longest)))
    # Bilinear, because it never overshoots: deep values stay inside their range. Whole factors are averaged first.
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def to_bytes(deep_CHW: np.ndarray, black: float, white: float) -> np.ndarray:
    """Deep values as bytes: black becomes 0, white 255."""
    span = white - black or 1.0
    return np.clip(np.rint((deep_CHW - black) * (255 / span)), 0, 255).astype(np.uint8)


def letterbox(scaled_CHW: np.ndarray, square_CSS: np.ndarray) -> None:
    """Centre a scaled uint8 picture in a square, on grey; one channel fills three."""
    _, height, width = scaled_CHW.shape
    side = square_CSS.shape[-1]
    top, left = (side - height) // 2, (side - width) // 2
    if (height, width) != (side, side):
        square_CSS[:] = FILL
    square_CSS[:, top : top + height, left : left + width] = scaled_CHW


def _deep_array(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise NotFinite("holds values that are not finite")
        return values.astype(np.float32)
    fits = values.min() >= 0 and values.max() <= np.iinfo(np.uint16).max
    return values.astype(np.uint16) if fits else values


def _is_grey(colour: np.ndarray) -> bool:
    """Whether three channels are one; most pictures in colour are told by their first pixel."""
    red, green, blue = colour[0, 0].tolist()
    if not red == green == blue:
        return False
    return np.array_equal(colour[..., 0], colour[..., 1]) and np.array_equal(colour[..., 0], colour[..., 2])


# --- the network ----------------------------------------------------------------------------------


def _network(config: dict[str, Any], weights: Path) -> nn.Module:
    from ofa.imagenet_classification import networks
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    network: nn.Module = getattr(networks, config["name"]).build_from_config(config)
    if config["padding"] == "tensorflow-same":
        pad_as_tensorflow(network)
    try:
        network.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{weights} is damaged, or of another network than config.json says: {error}") from error
    return network.eval()


def pad_as_tensorflow(network: nn.Module) -> nn.Module:
    """Make the strided convolutions pad as TensorFlow's "same" does with an even input; in place, and returned."""
    from torch import nn

    for conv in network.modules():
        if isinstance(conv, nn.Conv2d) and conv.stride == (2, 2):
            conv.padding = (0, 0)
            conv.register_forward_pre_hook(_pad_input)
    return network


def same_padding(kernel_size: int) -> tuple[int, int, int, int]:
    """What stands left, right, above and below then."""
    before, after = (kernel_size - 2) // 2, (kernel_size - 1) // 2
    return before, after, before, after


def _pad_input(conv: nn.Conv2d, given: tuple[Tensor]) -> Tensor:
    """Forward pre-hook of a strided convolution; a function of the module, so that networks pickle and copy."""
    from torch.nn.functional import pad

    return pad(given[0], same_padding(conv.kernel_size[0]))
