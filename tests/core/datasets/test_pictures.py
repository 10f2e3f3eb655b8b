"""One picture: decoded fully, upright, over white, never clipped; or refused with the reason."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from tans_core.datasets.opening import open_dataset
from tans_core.datasets.pictures import Picture, Rejected, decode, quiet_decoders
from tans_core.exported import letterbox
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
def test_b1_every_orientation_is_the_upright_picture(orientation):
    method = BACK[orientation]
    stored = picture("x") if method is None else picture("x").transpose(Image.Transpose[method])
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = sound(encoded(stored, exif=exif))
    assert turned.image_hash == sound(encoded(picture("x"))).image_hash
    assert (turned.width, turned.height) == (8, 6)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_b7_the_same_pixels_in_any_lossless_file_are_the_same_image(kind):
    data = encoded(picture("x"), kind, lossless=True)
    assert sound(data, "wrong.jpg").image_hash == sound(encoded(picture("x"))).image_hash


def test_b5_grey_in_three_channels_is_grey():
    grey = picture("x").convert("L")
    assert sound(encoded(grey)).image_hash == sound(encoded(grey.convert("RGB"))).image_hash
    assert sound(encoded(grey.convert("RGB"))).scaled_CHW.shape[0] == 1


def test_b5_a_colour_picture_is_in_colour_whatever_its_first_pixel_is():
    pixels = np.asarray(picture("x")).copy()
    pixels[0, 0] = 90
    assert sound(encoded(Image.fromarray(pixels))).scaled_CHW.shape[0] == 3


RED = Image.new("RGB", (16, 16), (220, 20, 20))


def adobe(data):
    """Where the APP14 marker of a JPEG starts and ends."""
    start = data.index(b"\xff\xee")
    return start, start + 2 + struct.unpack_from(">H", data, start + 2)[0]


def cmyk():
    return encoded(RED.convert("CMYK"), "JPEG", quality=95)


def cmyk_without_adobes_marker():
    start, end = adobe(cmyk())
    return cmyk()[:start] + cmyk()[end:]


def ycck():
    planes = Image.merge("CMYK", [*RED.convert("YCbCr").split(), Image.new("L", RED.size, 0)])
    data = bytearray(encoded(planes, "JPEG", quality=95))
    data[adobe(data)[1] - 1] = 2  # the transform: YCCK
    return bytes(data)


@pytest.mark.parametrize("make", [cmyk, cmyk_without_adobes_marker, ycck])
def test_b2_red_stays_red(make):
    # Browsers and Pillow take all three for inverted, as Photoshop writes them (LadybirdBrowser/ladybird#6486).
    assert sound(make()).scaled_CHW.mean(axis=(1, 2)) == pytest.approx([220, 20, 20], abs=12)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_b3_transparent_is_white(mode):
    image = Image.new("LA" if mode == "LA" else "RGBA", (8, 8), (0, 0) if mode == "LA" else (0, 0, 0, 0))
    how: dict[str, object] = {}
    if mode == "P":
        image = Image.new("P", (8, 8), 0)
        image.putpalette([0, 0, 0, 255, 0, 0])
        how = {"transparency": b"\0\xff"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (sound(encoded(image, "PNG", **how)).scaled_CHW == 255).all()


def test_b4_deep_pictures_are_scaled_by_one_scale_a_dataset(tmp_path):
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


RAMPS = {  # values of a ramp of eight steps -> the step that is white
    "8 bits in 16": (np.arange(0, 256, 255 / 7), np.uint16, "PNG", 255),
    "10 bits": (np.arange(0, 1024, 1023 / 7), np.uint16, "PNG", 1023),
    "14 bits": (np.arange(0, 16_384, 16_383 / 7), np.uint16, "TIFF", 16_383),
    "16 bits": (np.arange(0, 65_536, 65_535 / 7), np.uint16, "TIFF", 65_535),
    "32 bits": (np.arange(0, 7_000_001, 1_000_000), np.int32, "TIFF", 7_000_000),
    "floats from 0 to 1": (np.arange(0, 1.01, 1 / 7), np.float32, "TIFF", 1),
    "large floats": (np.arange(0, 70_001, 10_000), np.float32, "TIFF", 70_000),
    "floats below zero": (np.arange(-3, 4.1, 1), np.float32, "TIFF", 4),
}


@pytest.mark.parametrize("name", RAMPS)
def test_b4_a_ramp_is_scaled_and_never_clipped(name, tmp_path):
    values, kind, suffix, white = RAMPS[name]
    tree = {}
    for step, value in enumerate(values):
        for each in range(2):  # two a step, different in one pixel
            pixels = np.full((8, 8), value, kind)
            pixels[0, 0] = values[each]
            tree[f"{'xy'[step % 2]}/{step}-{each}.{suffix.lower()}"] = encoded(Image.fromarray(pixels), suffix)
    dataset = open_dataset(f"folder:{plant(tmp_path, tree)}", 8)
    shades = sorted(dataset.images[:, 0, 4, 4].tolist())
    least = min(float(values[0]), 0.0)
    expected = [round(255 * (float(kind(value)) - least) / (white - least)) for value in values]
    assert shades == pytest.approx(sorted(2 * expected), abs=1)


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_b4_the_hash_of_a_deep_picture_is_of_what_is_stored(kind):
    level = np.iinfo(kind).max - 1
    one, other = (encoded(Image.fromarray(np.full((8, 8), level + more, kind)), "TIFF") for more in (0, 1))
    assert sound(one).image_hash != sound(other).image_hash


def test_b4_floats_without_a_scale_are_named():
    assert reason(encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF")) == (
        "holds values that are not finite"
    )


def test_b5_grey_and_colour_in_one_dataset(tmp_path):
    grey = {f"x/{number}.png": encoded(picture(f"g{number}").convert("L")) for number in range(5)}
    one_bit = {f"x/b{number}.png": encoded(picture(f"b{number}").convert("1")) for number in range(5)}
    dataset = open_dataset(f"folder:{plant(tmp_path, grey | one_bit | {'y/': several('y', 6)})}", 8)
    assert dataset.images.shape[:2] == (16, 3)
    assert "10 grey and 6 colour pictures, trained in RGB" in dataset.report.notes


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF", "MPO"])
def test_b6_the_first_frame_of_several(kind):
    how = {"lossless": True} if kind == "WEBP" else {}
    first, second = picture("x").quantize(16).convert("RGB"), picture("y")
    several_frames = sound(encoded(first, kind, save_all=True, append_images=[second], **how), "p.jpg")
    alone = sound(encoded(first, kind, **how), "p.jpg")
    assert several_frames.frames and not alone.frames
    assert several_frames.image_hash == alone.image_hash


def test_b6_frames_are_counted_in_the_report(tmp_path):
    animated = encoded(picture("p"), "WEBP", save_all=True, append_images=[picture("q")])
    tree = {"x/": several("x", 5), "y/": several("y", 5), "x/moving.jpg": animated}
    assert "1 have more than one frame, the first is used" in (
        open_dataset(f"folder:{plant(tmp_path, tree)}", 8).report.notes
    )


WRONG_NAMES = {"PNG": "a.jpg", "GIF": "b.JPG", "BMP": "c.jpeg", "WEBP": "d.JPEG", "JPEG": "e.pNg", "TIFF": "f.webp"}
WRONG_NAMES |= {"PPM": "g.jpg", "AVIF": "h.jpg"}


def test_b7_b8_the_content_decides_whatever_the_name(tmp_path):
    tree = {f"x/{name}": encoded(picture(name), kind) for kind, name in WRONG_NAMES.items()}
    dataset = open_dataset(f"folder:{plant(tmp_path, tree | {'y/': several('y', 5)})}", 8)
    assert dataset.labels.bincount().tolist() == [len(WRONG_NAMES), 5]
    assert dataset.report.skipped == ()


def test_b15_tiny_pictures_are_used_and_counted(tmp_path):
    tree = {f"x/{number}.png": encoded(Image.new("RGB", (1, 1), (number, 9, 0))) for number in range(5)}
    dataset = open_dataset(f"folder:{plant(tmp_path, tree | {'y/': several('y', 5)})}", 8)
    assert dataset.labels.bincount().tolist() == [5, 5]
    assert "5 are smaller than 8 pixels" in dataset.report.notes


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_b9_a_truncated_file_is_refused(kind):
    big = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(big, kind)
    assert reason(data[: len(data) // 2]) in ("truncated picture", "damaged picture")


def test_b9_a_jpeg_without_its_end_marker_is_refused():
    assert reason(encoded(picture("x"), "JPEG")[:-2]) in ("truncated picture", "damaged picture")


def test_b10_bytes_after_the_picture_do_not_matter():
    data = encoded(picture("x"), "JPEG")
    assert sound(data + b"tail" * 100).image_hash == sound(data).image_hash


def test_b13_a_bomb_is_refused_with_its_size_before_it_is_decoded():
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
    b"8BPS\0\1" + b"\0" * 40: "PSD",
    b"\xff\x0a\0": "JPEG XL",
    b"\n<?xml version='1.0'?><Error>": "is XML",
    b"%!PS-Adobe-3.0 EPSF-3.0\n": "PostScript",
    b"\xef\xbb\xbf<!DOCTYPE html>": "is HTML",
    b"\0\0\0\x18ftypmp42\0\0\0\0": "is a video",
    b"a letter": "not a picture",
}


@pytest.mark.parametrize("data", NO_PICTURE)
def test_b11_b12_what_is_no_picture_is_named(data):
    assert NO_PICTURE[data] in reason(data)


@pytest.mark.parametrize(("width", "height"), [(20_000, 3), (3, 20_000), (1, 1)])
def test_b14_b15_no_side_is_lost_in_scaling(width, height):
    scaled = sound(encoded(Image.new("RGB", (width, height), "red"))).scaled_CHW
    assert min(scaled.shape) >= 1
    letterbox(scaled, square := np.zeros((3, 8, 8), np.uint8))
    assert (square > 0).any(axis=0).all()


def test_a_picture_that_is_not_square_stands_whole_in_the_middle_on_grey():
    wide = Image.new("RGB", (16, 8), "red")
    wide.paste("blue", (8, 0, 16, 8))
    letterbox(sound(encoded(wide)).scaled_CHW, square := np.zeros((3, 8, 8), np.uint8))
    assert (square[:, :2] == 127).all() and (square[:, 6:] == 127).all()
    red, _, blue = square[:, 2:6]
    assert (red[:, :3] == 255).all() and (blue[:, :3] == 0).all()
    assert (blue[:, 5:] == 255).all() and (red[:, 5:] == 0).all()


def test_b26_one_bad_file_of_each_kind_costs_nothing_else(tmp_path):
    tree = {"x/": several("x", 9), "y/": several("y", 9), "x/empty.jpg": b"", "y/page.jpg": b"<html>"}
    dataset = open_dataset(f"folder:{plant(tmp_path, tree)}", 8)
    assert dataset.labels.bincount().tolist() == [9, 9]
    assert {each.reason: each.paths for each in dataset.report.skipped} == {
        "is empty, not a picture": ("x/empty.jpg",),
        "is HTML, not a picture": ("y/page.jpg",),
    }
