"""What makers do with pictures: shrink, cut, lay on a ground, draw."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

LONGEST_SIDE = 64
Colour = tuple[int, int, int]
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def images_under(folder: Path, *patterns: str) -> list[Path]:
    """Files below a folder by their patterns (PNG without any), in one order on every file system."""
    found = {path for pattern in patterns or ("*.png",) for path in folder.rglob(pattern) if path.is_file()}
    return sorted(found, key=lambda path: path.as_posix())


def fit(image: Image.Image, side: int = LONGEST_SIDE) -> Image.Image:
    """Shrunk until the longest side is at most `side`; never enlarged."""
    scale = side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def flat(image: Image.Image, ground: Colour = WHITE) -> Image.Image:
    """RGB on a plain ground, whatever transparency there was."""
    image = image.convert("RGBA")
    below = Image.new("RGBA", image.size, (*ground, 255))
    return Image.alpha_composite(below, image).convert("RGB")


def trimmed(image: Image.Image) -> Image.Image:
    """Without its transparent margin."""
    image = image.convert("RGBA")
    box = image.getchannel("A").point([255 * (alpha > 8) for alpha in range(256)]).getbbox()
    return image.crop(box) if box else image


def to_square(image: Image.Image, side: int, ground: Colour = WHITE) -> Image.Image:
    """In the middle of a square, RGB."""
    image = fit(image, side)
    below = Image.new("RGB", (side, side), ground)
    below.paste(flat(image, ground), ((side - image.width) // 2, (side - image.height) // 2))
    return below


def middle_square(image: Image.Image) -> Image.Image:
    """The largest square around the middle."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def tiles(image: Image.Image, side: int) -> Iterator[Image.Image]:
    """Patches on a grid: no two overlap."""
    for top in range(0, image.height - side + 1, side):
        for left in range(0, image.width - side + 1, side):
            yield image.crop((left, top, left + side, top + side))


def is_opaque(image: Image.Image) -> bool:
    """Whether nothing shines through."""
    return "A" not in image.getbands() or image.getchannel("A").getextrema()[0] == 255


def spread(image: Image.Image) -> float:
    """Standard deviation of the grey values: near zero where there is nothing to see."""
    return float(np.asarray(image.convert("L"), dtype=float).std())


def grey(values: np.ndarray) -> Image.Image:
    """A grey picture of values from 0 to 255, rounded."""
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))


def draw_svg(svg: str | None = None, path: Path | None = None, width: int = 64) -> Image.Image | None:
    """A drawing of vectors, RGBA; None where it cannot be drawn (a few have no size, or are no drawing)."""
    import resvg_py  # pyright: ignore[reportMissingImports]  # of the makers' environment alone

    place = str(path) if path else None
    try:
        data = resvg_py.svg_to_bytes(svg_string=svg, svg_path=place, width=width, skip_system_fonts=True)
    except (ValueError, RuntimeError):
        return None
    return Image.open(io.BytesIO(bytes(data))).convert("RGBA")
