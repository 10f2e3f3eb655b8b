"""Damaged archives and pictures by the thousand: nothing may crash, hang, or write outside its folder.

Sound files are flipped, cut, spliced and lied about, seeded, and handed to the readers in a process of their own, so
that a crash or a hang is seen and counted. What each input gave is counted by its words.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import lzma
import multiprocessing
import multiprocessing.connection
import re
import shutil
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import write
from tans_core.datasets.pictures import MAX_PIXELS, Rejected, decode, quiet_decoders
from tans_core.datasets.sources.archive import unpack
from tans_core.errors import DatasetError

LIMIT_S = 20.0  # of one input
_PICTURES = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "TGA", "AVIF", "ICO", "QOI")


@dataclass(frozen=True)
class Input:
    kind: str  # "archive" or "picture"
    name: str
    data: bytes


@dataclass(frozen=True)
class Given:
    """What one input gave: "read", a refusal in words, or what must not be: "crash", "hang", "outside"."""

    source: Input
    what: str
    seconds: float


def sound_files() -> list[Input]:
    """Small files of every kind that is read."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
    pixels[:12] = 200  # something to compress
    image = Image.fromarray(pixels)
    pictures: dict[str, bytes] = {}
    for kind in _PICTURES:
        buffer = io.BytesIO()
        image.save(buffer, kind)
        pictures[kind] = buffer.getvalue()
    frames = io.BytesIO()
    image.save(frames, "GIF", save_all=True, append_images=[image.rotate(90), image.rotate(180)])
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    image.save(turned, "JPEG", exif=exif)
    deep = io.BytesIO()
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 100).save(deep, "TIFF", compression="tiff_lzw")
    pictures |= {"frames": frames.getvalue(), "exif": turned.getvalue(), "deep": deep.getvalue()}
    members = {f"set/{name}/{number}.png": pictures["PNG"] for name in ("cats", "dogs") for number in range(3)}
    plain = _zip(members, zipfile.ZIP_STORED)
    archives = {"zip": plain, "deflated": _zip(members, zipfile.ZIP_DEFLATED), "lzma": _zip(members, zipfile.ZIP_LZMA)}
    tar = _tar(members)
    archives |= {"tar": tar, "gz": gzip.compress(tar, mtime=0), "bz2": bz2.compress(tar), "xz": lzma.compress(tar)}
    archives["inside"] = _zip({"train.zip": plain, "more.tar": tar}, zipfile.ZIP_STORED)
    return [Input("picture", name, data) for name, data in pictures.items()] + [
        Input("archive", name, data) for name, data in archives.items()
    ]


def _zip(members: dict[str, bytes], compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def spoilt(count: int, seed: int) -> Iterator[Input]:
    """So many damaged files, the same for one seed."""
    random, sound = np.random.default_rng(seed), sound_files()
    for _ in range(count):
        base = sound[random.integers(len(sound))]
        data = bytearray(base.data)
        for _ in range(random.integers(1, 4)):
            _DAMAGES[random.integers(len(_DAMAGES))](data, random, sound)
        yield Input(base.kind, base.name, bytes(data))


def _flip(data: bytearray, random: np.random.Generator, sound: list[Input]) -> None:
    for _ in range(random.integers(1, 9)):
        if data:
            data[random.integers(len(data))] ^= 1 << random.integers(8)


def _flip_in_head(data: bytearray, random: np.random.Generator, sound: list[Input]) -> None:
    if data:
        data[random.integers(min(64, len(data)))] = random.integers(256)


def _cut(data: bytearray, random: np.random.Generator, sound: list[Input]) -> None:
    del data[random.integers(len(data) + 1) :]


def _cut_out(data: bytearray, random: np.random.Generator, sound: list[Input]) -> None:
    start = random.integers(len(data) + 1)
    del data[start : start + random.integers(1, 200)]


def _splice(data: bytearray, random: np.random.Generator, sound: list[Input]) -> None:
    other = sound[random.integers(len(sound))].data
    start = random.integers(len(other))
    data[random.integers(len(data) + 1) :] = other[start:]


def _insert(data: bytearray, random: np.random.Generator, sound: list[Input]) -> None:
    place = random.integers(len(data) + 1)
    data[place:place] = random.bytes(int(random.integers(1, 100)))


def _lie(data: bytearray, random: np.random.Generator, sound: list[Input]) -> None:
    """A number of four bytes becomes huge or negative, as sizes and offsets are."""
    if len(data) >= 4:
        place = random.integers(len(data) - 3)
        data[place : place + 4] = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\0\0\0\0"][
            random.integers(4)
        ]


def _lead_out(data: bytearray, random: np.random.Generator, sound: list[Input]) -> None:
    """Names of members that climb, of the same length."""
    climbing = [b"../../../cats", b"/tmp/tansfuzz", b"..\\..\\..\\cats", b"C:/tmp/x/cats"][random.integers(4)]
    for old in (b"set/cats/0.png", b"set/dogs/1.png"):
        data[:] = data.replace(old, (climbing + b"x" * len(old))[: len(old)])


_DAMAGES: tuple[Callable[[bytearray, np.random.Generator, list[Input]], None], ...] = (
    _flip,
    _flip_in_head,
    _cut,
    _cut_out,
    _splice,
    _insert,
    _lie,
    _lead_out,
)


def handle(given: Input, sandbox: Path) -> str:
    """Read one input as the program would; the words of what it gave."""
    if given.kind == "picture":
        with quiet_decoders():
            result = decode(given.data, f"a.{given.name.lower()}", 32)
        if not isinstance(result, Rejected):
            return "read" if result.width * result.height <= MAX_PIXELS else "read beyond the limit"
        return re.sub(r"\d[\d,x]*", "N", result.reason)
    room = sandbox / "room"
    shutil.rmtree(sandbox, ignore_errors=True)
    room.mkdir(parents=True)
    (room / "data.archive").write_bytes(given.data)
    try:
        unpack(room / "data.archive", room / "target")
        said = "read"
    except DatasetError as error:
        said = type(error).__name__ + (": a member is refused" if " is refused: its member" in str(error) else "")
    there = {path.relative_to(sandbox).as_posix() for path in sandbox.rglob("*")}
    whole = {name for name in there if name == "room/target" or name.startswith("room/target/")}
    if there - whole != {"room", "room/data.archive"} or (whole and said != "read") or Path("/tmp/tansfuzz").exists():
        return "outside"
    return said


def _work(inputs: multiprocessing.connection.Connection, sandbox: Path) -> None:
    inputs.send("ready")
    while (given := inputs.recv()) is not None:
        inputs.send(handle(given, sandbox))


def fuzz(inputs: Iterator[Input], limit_s: float = LIMIT_S) -> Iterator[Given]:
    """Hand each input to a process of its own kind; one that dies or takes too long is replaced."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        worker, pipe = None, None
        for given in inputs:
            if worker is None or pipe is None:
                pipe, theirs = context.Pipe()
                worker = context.Process(target=_work, args=(theirs, Path(folder) / "sandbox"), daemon=True)
                worker.start()
                theirs.close()
                pipe.recv()  # imports have no limit
            began = time.monotonic()
            pipe.send(given)
            what = "hang"
            if pipe.poll(limit_s):
                try:
                    what = pipe.recv()
                except EOFError:
                    what = "crash"
            yield Given(given, what, time.monotonic() - began)
            if what in ("hang", "crash"):
                worker.kill()
                worker.join()
                worker = None
        if worker is not None and pipe is not None:
            pipe.send(None)
            worker.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    counts: dict[str, Counter[str]] = {"archive": Counter(), "picture": Counter()}
    slowest, bad = 0.0, 0
    for result in fuzz(spoilt(given.inputs, given.seed)):
        counts[result.source.kind][result.what] += 1
        slowest = max(slowest, result.seconds)
        if result.what in ("crash", "hang", "outside", "read beyond the limit"):
            bad += 1
            path = given.out / "fuzz-found" / f"{result.what}-{bad}.{result.source.name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(result.source.data)
    write(
        given.out / "fuzz.json",
        {
            "inputs": given.inputs,
            "seed": given.seed,
            "limit_s": LIMIT_S,
            "slowest_s": slowest,
            "bad": bad,
            **{f"{kind}s": dict(found.most_common()) for kind, found in counts.items()},
        },
    )


if __name__ == "__main__":
    main()
