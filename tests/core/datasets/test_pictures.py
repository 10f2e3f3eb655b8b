"""One picture: decoded fully, upright, over white, never clipped; or refused with the reason."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from tans_core.datasets import open_dataset
from tans_core.datasets.pictures import Picture, Rejected, decode, letterbox, quiet_decoders
from tests.trees import encoded, picture, plant, several


def sound(data, path="p.png", size=8):
    result = decode(data, path, size)
    assert isinstance(result, Picture), result
    return result


def reason(data, path="p.jpg"):
    result = decode(data, path, 8)
    assert isinstance(result, Rejected)
    return result.reason


# What a camera that writes this orientation has done to the upright picture.
BACK = {1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
BACK |= {7: "TRANSVERSE", 8: "ROTATE_270"}


@pytest.mark.parametrize("orientation", BACK)
def test_every_orientation_is_the_upright_picture(orientation):
    method = BACK[orientation]
    stored = picture("x") if method is None else picture("x").transpose(Image.Transpose[method])
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = sound(encoded(stored, exif=exif))
    assert turned.image_hash == sound(encoded(picture("x"))).image_hash
    assert (turned.width, turned.height) == (8, 6)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_the_same_pixels_in_any_lossless_file_are_the_same_image(kind):
    data = encoded(picture("x"), kind, lossless=True)
    assert sound(data, "wrong.jpg").image_hash == sound(encoded(picture("x"))).image_hash


def test_grey_in_three_channels_is_grey():
    grey = picture("x").convert("L")
    assert sound(encoded(grey)).image_hash == sound(encoded(grey.convert("RGB"))).image_hash
    assert sound(encoded(grey.convert("RGB"))).scaled_CHW.shape[0] == 1


def test_red_in_cmyk_stays_red():
    red = Image.new("RGB", (16, 16), (220, 20, 20)).convert("CMYK")
    mean = sound(encoded(red, "JPEG", quality=95)).scaled_CHW.mean(axis=(1, 2))
    assert mean == pytest.approx([220, 20, 20], abs=12)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_is_white(mode):
    image = Image.new("LA" if mode == "LA" else "RGBA", (8, 8), (0, 0) if mode == "LA" else (0, 0, 0, 0))
    how: dict[str, object] = {}
    if mode == "P":
        image = Image.new("P", (8, 8), 0)
        image.putpalette([0, 0, 0, 255, 0, 0])
        how = {"transparency": b"\0\xff"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (sound(encoded(image, "PNG", **how)).scaled_CHW == 255).all()


def test_deep_pictures_are_scaled_by_one_scale_a_dataset(tmp_path):
    # 12 bits in 16: 4095 is white, 2048 is half of it, in every picture of the dataset.
    levels = {"x": range(4000, 4096, 16), "y": range(0, 96, 16)}
    tree = {
        f"{name}/{level}.png": encoded(Image.fromarray(np.full((8, 8), level, np.uint16)))
        for name in levels
        for level in levels[name]
    }
    dataset = open_dataset(f"folder:{plant(tmp_path, tree)}", 8)
    means = sorted(dataset.images.float().mean(dim=(1, 2, 3)).tolist())
    assert means[0] == 0
    assert means[-1] == pytest.approx(4080 * 255 / 4095, abs=0.6)
    assert len(set(means)) == 12


def test_the_hash_of_a_deep_picture_is_of_what_is_stored():
    one, other = (encoded(Image.fromarray(np.full((8, 8), level, np.uint16))) for level in (40_000, 40_001))
    assert sound(one).image_hash != sound(other).image_hash


def test_the_first_frame_of_several():
    animated = encoded(picture("x"), save_all=True, append_images=[picture("y")])
    assert sound(animated).frames
    assert sound(animated).image_hash == sound(encoded(picture("x"))).image_hash


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_truncated_file_is_refused(kind):
    big = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(big, kind)
    assert reason(data[: len(data) // 2]) in ("truncated picture", "damaged picture")


def test_a_jpeg_without_its_end_marker_is_refused():
    assert reason(encoded(picture("x"), "JPEG")[:-2]) in ("truncated picture", "damaged picture")


def test_bytes_after_the_picture_do_not_matter():
    data = encoded(picture("x"), "JPEG")
    assert sound(data + b"tail" * 100).image_hash == sound(data).image_hash


def test_a_bomb_is_refused_with_its_size_before_it_is_decoded():
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 10_000, 9_000, 8, 2, 0, 0, 0))
    with quiet_decoders():
        said = reason(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b""))
    assert said == "too large: 10000x9000 pixels, the limit is 89,478,485"


NO_PICTURE = {
    b"": "is empty",
    b"<!DOCTYPE html><html>404": "is HTML",
    b'{"error": 404}': "is JSON",
    b"version https://git-lfs.github.com/spec/v1\noid": "Git LFS pointer: fetch the files first",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>": "SVG",
    b"\0\0\0\x18ftypheic\0\0\0\0": "HEIC",
    b"\0" * 128 + b"DICM": "DICOM",
    b"%!PS-Adobe-3.0 EPSF-3.0\n": "PostScript",
    b"a letter": "not a picture",
}


@pytest.mark.parametrize("data", NO_PICTURE)
def test_what_is_no_picture_is_named(data):
    assert NO_PICTURE[data] in reason(data)


@pytest.mark.parametrize(("width", "height"), [(20_000, 3), (3, 20_000), (1, 1)])
def test_no_side_is_lost_in_scaling(width, height):
    scaled = sound(encoded(Image.new("RGB", (width, height), "red"))).scaled_CHW
    assert min(scaled.shape) >= 1
    assert letterbox(scaled, 3, 8).shape == (3, 8, 8)


def test_one_bad_file_of_each_kind_costs_nothing_else(tmp_path):
    tree = {"x/": several("x", 9), "y/": several("y", 9), "x/empty.jpg": b"", "y/page.jpg": b"<html>"}
    dataset = open_dataset(f"folder:{plant(tmp_path, tree)}", 8)
    assert dataset.labels.bincount().tolist() == [9, 9]
    assert {each.reason: each.paths for each in dataset.report.skipped} == {
        "is empty, not a picture": ("x/empty.jpg",),
        "is HTML, not a picture": ("y/page.jpg",),
    }
