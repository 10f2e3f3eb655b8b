"""A contact sheet: some pictures of each class on each side, as a network will see them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from pipeline.running.output import shown
from tans_core.errors import ConfigError
from tans_core.records import ImageDataset

_MARK = "tans datasets"  # in the file: by it a sheet is known as ours
_SHOWN = {"train": 6, "validation": 3, "test": 3}  # pictures of a class on a side
_TILE, _GAP, _LINE, _NAMES = 64, 4, 18, 190  # pixels: least side of a tile, between tiles, of text, for class names


def check_place(path: Path) -> None:
    """Ask before the work whether a sheet can be written, over an older one of ours at most.

    Raises:
        ConfigError: something else is there, or nothing can be written there.
    """
    new = not path.exists()
    if not new and not _is_sheet(path):
        raise ConfigError(f"--pictures {path} is no contact sheet of tans and would be lost: name another file")
    try:
        path.open("ab").close()
        if new:
            path.unlink()
    except OSError as error:
        raise ConfigError(f"--pictures {path} cannot be written ({error.strerror}): name another file") from error


def draw_contact_sheet(datasets: Sequence[ImageDataset], path: Path) -> None:
    """Write a PNG: one block a dataset, one line a class, and on it the sides beside each other.

    Pixels are whole: small pictures are enlarged by a whole factor, none is made smaller.

    Raises:
        ConfigError: the file cannot be written.
    """
    blocks = [_block(dataset) for dataset in datasets]
    sheet = Image.new("RGB", (max(block.width for block in blocks), sum(block.height for block in blocks)), "white")
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    try:
        mark = PngInfo()
        mark.add_text("Software", _MARK)
        sheet.save(path, "PNG", pnginfo=mark)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"--pictures {path} cannot be written ({reason}): name another file") from error


def _is_sheet(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.info.get("Software") == _MARK
    except (OSError, ValueError):
        return False


def _block(dataset: ImageDataset) -> Image.Image:
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 12)
    factor = -(-_TILE // dataset.image_size)
    step = dataset.image_size * factor + _GAP
    lefts, left = {}, _NAMES
    for side, count in _SHOWN.items():
        lefts[side] = left
        left += count * step + 3 * _GAP
    rows_top = 2 * _LINE + _GAP
    block = Image.new("RGB", (left, rows_top + len(dataset.class_names) * step + 2 * _GAP), "white")
    pen = ImageDraw.Draw(block)
    pen.text((_GAP, _GAP), f"{shown(dataset.name)}: {len(dataset.class_names)} classes", "black", font)
    for side, left in lefts.items():
        pen.text((left, _LINE + _GAP), f"{side} ({len(getattr(dataset, side)):,})", "black", font)
    for number, name in enumerate(dataset.class_names):
        top = rows_top + number * step
        pen.text((_GAP, top + step // 2 - _LINE // 2), _fitting(shown(name), font), "black", font)
        for side, count in _SHOWN.items():
            index = getattr(dataset, side)
            for place, image in enumerate(dataset.images[index[dataset.labels[index] == number][:count]]):
                block.paste(_tile(image, factor), (lefts[side] + place * step, top))
    return block


def _tile(image_CSS: Tensor, factor: int) -> Image.Image:
    pixels = image_CSS.expand(3, -1, -1).permute(1, 2, 0).numpy()
    return Image.fromarray(np.repeat(np.repeat(pixels, factor, 0), factor, 1))


def _fitting(name: str, font: ImageFont.FreeTypeFont) -> str:
    """The name, cut at its end until it fits before the tiles."""
    if font.getlength(name) <= _NAMES - 2 * _GAP:
        return name
    while name and font.getlength(name + "…") > _NAMES - 2 * _GAP:
        name = name[:-1]
    return name + "…"
