"""From the bytes of a file to the identity and the scaled pixels of one picture.

A picture is decoded fully, once, here: a damaged one is found now and not in epoch 3. Its identity is the
hash of its decoded pixels, upright, grey or RGB, so the same picture is the same image in whatever file it
stands. Axes: C channels (1 grey, 3 colour), H and W sides in pixels, S side of a dataset's pictures.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from tans_core.datasets.sniff import HEAD_BYTES, other_kind, picture_format
from tans_core.exported import FORMATS, MAX_PIXELS, NotFinite, deep_kind, formats_of, scaled, straightened
from tans_core.records import content_hash


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
    try:
        with Image.open(io.BytesIO(data), formats=formats_of(path)) as image:
            if image.width * image.height > MAX_PIXELS:
                return _too_large(f"{image.width}x{image.height} pixels")
            frames = _has_frames(image)
            return _identify(*straightened(image), frames, image_size)
    except UnidentifiedImageError:
        return _not_a_picture(data)
    except NotFinite as error:
        return Rejected(str(error))
    except Image.DecompressionBombError:  # twice the limit: Pillow refuses by itself, before we see the size
        return _too_large(f"more than {2 * MAX_PIXELS:,} pixels")
    except Exception as error:  # hostile bytes make decoders raise nearly anything: each of it means "damaged"
        return Rejected("truncated picture" if "truncated" in str(error).lower() else "damaged picture")


def _too_large(size: str) -> Rejected:
    return Rejected(f"too large: {size}, the limit is {MAX_PIXELS:,}")


def _not_a_picture(data: bytes) -> Rejected:
    head = data[:HEAD_BYTES]
    kind = picture_format(head)
    if kind in ("JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF"):
        return Rejected("damaged picture")
    if kind is not None:
        some_are_read = kind.upper().replace(" ", "") in {*FORMATS} & {*Image.OPEN}
        return Rejected(
            f"{kind}, {'damaged or of a kind ' if some_are_read else ''}which this installation cannot decode"
        )
    other = other_kind(head)
    return Rejected(f"is {other}, not a picture" if other else "not a picture")


def _has_frames(image: Image.Image) -> bool:
    try:
        return getattr(image, "n_frames", 1) > 1
    except Exception:  # what comes after the first frame may be damaged: only a count depends on it
        return True


def _identify(image: Image.Image, pixels: np.ndarray, frames: bool, image_size: int) -> Picture:
    deep = deep_kind(pixels)
    return Picture(
        image_hash=content_hash(f"{pixels.dtype.name} {pixels.shape} ".encode(), np.ascontiguousarray(pixels).data),
        scaled_CHW=scaled(image, image_size),
        width=image.width,
        height=image.height,
        frames=frames,
        deep=deep,
        least=float(pixels.min()) if deep else 0.0,
        greatest=float(pixels.max()) if deep else 0.0,
    )
