"""From the bytes of a file to the identity and the scaled pixels of one picture.

A picture is decoded fully, once, here: a damaged one is found now and not in epoch 3. Its identity is the
hash of its decoded pixels, upright, grey or RGB, so the same picture is the same image in whatever file it
stands. Axes: C channels (1 grey, 3 colour), H and W sides in pixels, S side of a dataset's pictures.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tans_core.datasets.sniff import HEAD_BYTES, other_kind, picture_format
from tans_core.records import content_hash

MAX_PIXELS = 89_478_485  # Pillow's own warning limit: a quarter of a GiB in RGB
FILL = 127  # what stands beside a picture that is not square

# The formats that Pillow decodes by itself: its EPS reader starts Ghostscript, and its readers of formats
# without a signature take text for pictures. TGA has no signature either: it is tried on its name only.
_FORMATS = ("JPEG", "PNG", "AVIF", "BMP", "DDS", "DIB", "GIF", "ICO", "JPEG2000", "PCX", "PPM", "PSD", "QOI")
_FORMATS += ("SGI", "TIFF", "WEBP")
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A sound picture, not yet padded. `scaled_CHW` is uint8, or float32 of its own range where it is deep."""

    image_hash: str
    scaled_CHW: np.ndarray
    width: int
    height: int
    frames: bool  # has more than one; this is the first
    deep: str = ""  # "": 8 bits; "integers" or "floats": to be scaled with the rest of its dataset
    least: float = 0.0  # of a deep picture's values
    greatest: float = 0.0


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why an entry that is or claims to be a picture is not used."""

    reason: str


class _NotFinite(Exception):
    """A picture of floats, among them NaN or infinity: there is no scale for those."""


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Around decoding: a decoder's warning is no error, and what matters of it we say ourselves.

    Entered once by the thread that starts the others, because filters of warnings belong to the process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decode(data: bytes, path: str, image_size: int) -> Picture | Rejected:
    """Decode one file fully and scale it so that its longest side is `image_size`.

    Args:
        path: its name, for the one format that has no signature.
        image_size: pixels, at least 1.
    """
    formats = (*_FORMATS, "TGA") if PurePath(path).suffix.lower() == ".tga" else _FORMATS
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                return _too_large(f"{image.width}x{image.height} pixels")
            frames = _has_frames(image)
            return _identify(_plain(_upright(image)), frames, image_size)
    except UnidentifiedImageError:
        return _not_a_picture(data)
    except _NotFinite:
        return Rejected("holds values that are not finite")
    except Image.DecompressionBombError:  # twice the limit: Pillow refuses by itself, before we see the size
        return _too_large(f"more than {2 * MAX_PIXELS:,} pixels")
    except Exception as error:  # hostile bytes make decoders raise nearly anything: each of it means "damaged"
        return Rejected("truncated picture" if "truncated" in str(error).lower() else "damaged picture")


def letterbox(scaled_CHW: np.ndarray, square_CSS: np.ndarray) -> None:
    """Centre a scaled uint8 picture in a square, on grey; one channel fills three."""
    _, height, width = scaled_CHW.shape
    side = square_CSS.shape[-1]
    top, left = (side - height) // 2, (side - width) // 2
    if (height, width) != (side, side):
        square_CSS[:] = FILL
    square_CSS[:, top : top + height, left : left + width] = scaled_CHW


def _too_large(size: str) -> Rejected:
    return Rejected(f"too large: {size}, the limit is {MAX_PIXELS:,}")


def _not_a_picture(data: bytes) -> Rejected:
    head = data[:HEAD_BYTES]
    kind = picture_format(head)
    if kind in ("JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF"):
        return Rejected("damaged picture")
    if kind is not None:
        some_are_read = kind.upper().replace(" ", "") in {*_FORMATS} & {*Image.OPEN}
        return Rejected(
            f"{kind}, {'damaged or of a kind ' if some_are_read else ''}which this installation cannot decode"
        )
    other = other_kind(head)
    return Rejected(f"is {other}, not a picture" if other else "not a picture")


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    with suppress(SyntaxError, ValueError, KeyError, TypeError, OSError):  # an EXIF block that is none: sound pixels
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _has_frames(image: Image.Image) -> bool:
    try:
        return getattr(image, "n_frames", 1) > 1
    except Exception:  # what comes after the first frame may be damaged: only a count depends on it
        return True


def _plain(image: Image.Image) -> Image.Image:
    """In mode L, RGB, or one of the deep modes; what is transparent stands over white."""
    if image.mode in _DEEP_MODES:
        return image
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    wanted = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _is_grey(colour: np.ndarray) -> bool:
    """Whether three channels are one; most pictures in colour are told by their first pixel."""
    red, green, blue = colour[0, 0].tolist()
    if not red == green == blue:
        return False
    return np.array_equal(colour[..., 0], colour[..., 1]) and np.array_equal(colour[..., 0], colour[..., 2])


def _deep_array(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise _NotFinite
        return values.astype(np.float32)
    fits = values.min() >= 0 and values.max() <= np.iinfo(np.uint16).max
    return values.astype(np.uint16) if fits else values


def _identify(image: Image.Image, frames: bool, image_size: int) -> Picture:
    pixels = np.asarray(image)
    if image.mode in _DEEP_MODES:
        pixels = _deep_array(pixels)
        image = Image.fromarray(pixels.astype(np.float32))
    elif image.mode == "RGB" and _is_grey(pixels):
        image = image.getchannel(0)
        pixels = np.asarray(image)
    deep = {"uint8": "", "uint16": "integers", "int32": "floats", "float32": "floats"}[pixels.dtype.name]
    return Picture(
        image_hash=content_hash(f"{pixels.dtype.name} {pixels.shape} ".encode(), np.ascontiguousarray(pixels).data),
        scaled_CHW=_scale(image, image_size),
        width=image.width,
        height=image.height,
        frames=frames,
        deep=deep,
        least=float(pixels.min()) if deep else 0.0,
        greatest=float(pixels.max()) if deep else 0.0,
    )


def _scale(image: Image.Image, image_size: int) -> np.ndarray:
    """Longest side to `image_size`, each side at least 1 pixel, antialiased; shape (C, h, w)."""
    longest = max(image.size)
    size = (max(1, round(image.width * image_size / longest)), max(1, round(image.height * image_size / longest)))
    # Bilinear, because it never overshoots: deep values stay inside their range. Whole factors are averaged first.
    scaled = np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0))
    return scaled[None] if scaled.ndim == 2 else scaled.transpose(2, 0, 1)
