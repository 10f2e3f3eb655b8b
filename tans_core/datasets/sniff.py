"""What a file is, told from its first bytes: content decides, not the name."""

from __future__ import annotations

import re

HEAD_BYTES = 512

PICTURE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".dcm", ".dds", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif")
)
PICTURE_SUFFIXES |= frozenset((".jp2", ".jpe", ".jpeg", ".jpg", ".jxl", ".mpo", ".pbm", ".pcx", ".pgm"))
PICTURE_SUFFIXES |= frozenset(
    (".png", ".pnm", ".ppm", ".psd", ".qoi", ".sgi", ".svg", ".tga", ".tif", ".tiff", ".webp")
)

_MAGIC = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM.{4}\x00{4}",
    "WebP": rb"RIFF.{4}WEBP",
    "TIFF": rb"II[*+]\x00|MM\x00[*+]",
    "AVIF": rb".{4}ftypavi[fs]",
    "HEIC": rb".{4}ftyp(hei[cfmsx]|hev[cx]|mif1|msf1)",
    "JPEG 2000": rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "JPEG XL": rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n",
    "PSD": rb"8BPS\x00\x01",
    "QOI": rb"qoif",
    "DICOM": rb".{128}DICM",
    "SVG": rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg",
}
_OTHER = {
    "a Git LFS pointer: fetch the files first": rb"version https://git-lfs",
    "a git-annex pointer: fetch the files first": rb"/annex/objects/",
    "HTML": rb"(?i:\s*(<!doctype html|<html|<head|<body))",
    "XML": rb"\s*<\?xml|\s*<[A-Za-z]+[ >]",
    "JSON": rb"\s*[\[{]\s*[\"\[{\]}]",
    "PDF": rb"%PDF",
    "PostScript": rb"%!PS",
    "a zip archive": rb"PK\x03\x04|PK\x05\x06",
    "a gzip archive": rb"\x1f\x8b",
    "a bzip2 archive": rb"BZh[1-9]",
    "an xz archive": rb"\xfd7zXZ\x00",
    "a tar archive": rb".{257}ustar",
    "a 7z archive": rb"7z\xbc\xaf\x27\x1c",
    "a rar archive": rb"Rar!\x1a\x07",
    "a video": rb".{4}ftyp(mp4|iso[m2-6]|M4V|qt|3gp)|RIFF.{4}AVI |\x1aE\xdf\xa3",
    "HDF5": rb"\x89HDF\r\n\x1a\n",
    "a NumPy array": rb"\x93NUMPY",
    "Parquet": rb"PAR1",
}
_PICTURES = {name: re.compile(b"(?:%s)" % pattern, re.DOTALL) for name, pattern in _MAGIC.items()}
_OTHERS = {name: re.compile(b"(?:%s)" % pattern, re.DOTALL) for name, pattern in _OTHER.items()}


def picture_format(head: bytes) -> str | None:
    """The format of a picture whose file starts with `head`; None where it starts like none that we know."""
    return _first_match(_PICTURES, head)


def other_kind(head: bytes) -> str | None:
    """What a file that is no picture is, in words that follow "is"; None where its start says nothing."""
    return "empty" if not head else _first_match(_OTHERS, head.removeprefix(b"\xef\xbb\xbf"))


def _first_match(patterns: dict[str, re.Pattern[bytes]], head: bytes) -> str | None:
    return next((name for name, pattern in patterns.items() if pattern.match(head[:HEAD_BYTES])), None)
