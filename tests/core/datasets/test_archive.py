"""Unpacking: what is read, and what is refused with nothing written outside."""

import gzip
import io
import multiprocessing
import os
import signal
import stat
import tarfile
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tans_core.datasets.sources.archive import DamagedArchive, unpack
from tans_core.errors import DatasetError

NOISE = os.urandom(3000)  # does not compress


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def zip_of(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def tar_of(members: dict[str, bytes], mode: Any = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_with(info: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(info)
    return buffer.getvalue()


def unpacked(tmp_path: Path, content: bytes) -> dict[str, bytes]:
    archive = tmp_path / "room" / "data.archive"
    archive.parent.mkdir(exist_ok=True)
    archive.write_bytes(content)
    unpack(archive, archive.with_name("target"))
    return files(archive.with_name("target"))


def refused(tmp_path: Path, content: bytes, words: str) -> None:
    """It is refused with these words, and there is nothing new in the folder or above it."""
    with pytest.raises(DatasetError, match=words):
        unpacked(tmp_path, content)
    assert list(files(tmp_path)) == ["room/data.archive"]
    assert os.listdir(tmp_path / "room") == ["data.archive"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_c12_a_zip_under_any_name(tmp_path, method):
    members = {"cat/1.png": NOISE, "dog/2.png": b"", "read me.txt": b"words"}
    assert unpacked(tmp_path, zip_of(members, compression=method)) == members


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_c12_a_tar_under_any_name(tmp_path, mode):
    members = {"cat/1.png": NOISE, f"{'long' * 40}/2.png": b"", "./read me.txt": b"words"}
    read = unpacked(tmp_path, tar_of(members, mode))
    assert read == {name.removeprefix("./"): content for name, content in members.items()}


def test_c12_more_members_than_a_zip_without_zip64_can_have(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file, warnings.catch_warnings(action="ignore"):
        for _ in range(65_536):
            file.writestr("cat/", b"")
        file.writestr("cat/1.png", NOISE)
    assert unpacked(tmp_path, buffer.getvalue()) == {"cat/1.png": NOISE}


def test_c12_members_with_the_fields_of_zip64(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file, file.open("cat/1.png", "w", force_zip64=True) as member:
        member.write(NOISE)  # the fields of one beyond 4 GiB
    assert unpacked(tmp_path, buffer.getvalue()) == {"cat/1.png": NOISE}


def test_c12_c15_a_tar_under_the_name_of_a_zip(tmp_path):
    inner = tar_of({"c.png": b"c"}, "w:gz")
    assert unpacked(tmp_path, zip_of({"train.zip": inner, "a.png": NOISE})) == {"train/c.png": b"c", "a.png": NOISE}


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_c13_devices_in_a_zip(tmp_path, kind):
    info = zipfile.ZipInfo("a/thing")
    info.external_attr = (kind | 0o666) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(info, "")
    refused(tmp_path, buffer.getvalue(), "'a/thing' is a link or a device")


def test_c16_names_in_old_code_pages(tmp_path):
    content = zip_of({"Du__rer/1.png": NOISE, "Ren_/2.png": b"2", "flagged-é.png": b"3"})
    content = content.replace(b"Du__rer", "Dürer".encode() + b"x")  # no flag, valid UTF-8
    content = content.replace(b"Ren_", b"Ren\x82")  # é of code page 437
    assert set(unpacked(tmp_path, content)) == {"Dürerx/1.png", "René/2.png", "flagged-é.png"}


def test_backslashes_part_folders(tmp_path):
    assert set(unpacked(tmp_path, zip_of({"train\\cat\\1.png": NOISE}))) == {"train/cat/1.png"}


OUT = [
    ("../../evil.txt", "leads out"),
    ("a/../../evil.txt", "leads out"),
    ("..\\evil.txt", "leads out"),
    ("/tmp/evil.txt", "absolute"),
    ("\\evil.txt", "absolute"),
    ("C:\\evil.txt", "drive letter"),
    ("c:evil.txt", "drive letter"),
    ("/".join("x" * 70), "64 folders"),
]


@pytest.mark.parametrize("pack", [zip_of, tar_of])
@pytest.mark.parametrize("name, words", OUT)
def test_c13_names_that_lead_out(tmp_path, pack, name, words):
    refused(tmp_path, pack({"good.png": NOISE, name: b"evil"}), f"(?s)refused: its member .*{words}")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_c13_links_and_devices_in_a_tar(tmp_path, kind):
    info = tarfile.TarInfo("a/thing")
    info.type, info.linkname = kind, "../../outside"
    refused(tmp_path, tar_with(info), "'a/thing' is a link or a device")


def test_c13_links_in_a_zip(tmp_path):
    info = zipfile.ZipInfo("a/thing")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(info, "/etc/passwd")
    refused(tmp_path, buffer.getvalue(), "'a/thing' is a link or a device")


@pytest.mark.parametrize("second", ["a/b.png", "./a//b.png", "a/b.png/c.png", "a\\b.png"])
def test_c13_the_same_name_twice(tmp_path, second):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file, warnings.catch_warnings(action="ignore"):
        file.writestr("a/b.png", NOISE)
        file.writestr(second, b"another")
    refused(tmp_path, buffer.getvalue(), "comes twice")


def test_modes_are_not_taken_over(tmp_path):
    info = tarfile.TarInfo("a/tool")
    info.mode = 0o6777
    unpacked(tmp_path, tar_with(info))
    assert not (tmp_path / "room/target/a/tool").stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR)


@pytest.mark.parametrize(
    "pack", [lambda members: zip_of(members, compression=8), lambda members: tar_of(members, "w:gz")]
)
def test_c13_a_bomb(tmp_path, pack):
    refused(tmp_path, pack({"good.png": NOISE, "bomb.bin": bytes(30_000_000)}), "100 times its size")


def test_c13_a_bomb_that_lies_about_its_size(tmp_path):
    content = zip_of({"bomb.bin": bytes(30_000_000)}, compression=8)
    content = content.replace((30_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    with pytest.raises(DatasetError):
        unpacked(tmp_path, content)
    assert os.listdir(tmp_path / "room") == ["data.archive"]


def test_c13_a_bomb_inside_an_archive_inside(tmp_path):
    middle = zip_of({"bomb.bin": bytes(30_000_000)}, compression=8)
    refused(tmp_path, zip_of({"good.png": NOISE, "middle.zip": middle}, compression=8), "'bomb.bin'|1 members")


def test_c14_encrypted_members(tmp_path):
    content = bytearray(zip_of({"a/secret.png": NOISE}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    refused(tmp_path, bytes(content), "'a/secret.png' needs a password")


def test_c15_archives_inside_are_unpacked_one_level_deep(tmp_path, capsys):
    deep = zip_of({"deep.png": b"deep"})
    train = zip_of({"cat.png": NOISE, "deep.zip": deep})
    content = zip_of({"train.zip": train, "a/b.tar.gz": tar_of({"c.png": b"c"}, "w:gz"), "table.npz": deep})
    read = unpacked(tmp_path, content)
    assert read == {"train/cat.png": NOISE, "train/deep.zip": deep, "a/b/c.png": b"c", "table.npz": deep}
    assert "train.zip inside the archive is unpacked too" in capsys.readouterr().err


def test_c15_a_file_that_is_merely_compressed_stays(tmp_path):
    packed = gzip.compress(b"file,label\n")
    assert unpacked(tmp_path, zip_of({"labels.csv.gz": packed, "a.png": NOISE})) == {
        "labels.csv.gz": packed,
        "a.png": NOISE,
    }


@pytest.mark.parametrize(
    "head, kind", [(b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (b"Rar!\x1a\x07\x00", "a rar archive")]
)
def test_c15_7z_and_rar_inside_are_named(tmp_path, head, kind):
    refused(tmp_path, zip_of({"a.png": NOISE, "train.7z": head + NOISE}), f"'train.7z' is {kind}")


def test_no_archive(tmp_path):
    refused(tmp_path, bytes(2000), "does not begin as a zip or tar does")
    refused(tmp_path, gzip.compress(b"file,label"), "is a gzip archive without a tar inside")
    refused(tmp_path, b"<!doctype html><html>sign in</html>", "is HTML, no zip or tar")
    refused(tmp_path, b"7z\xbc\xaf\x27\x1c" + NOISE, "is a 7z archive, no zip or tar")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_c10_a_tar_that_was_cut(tmp_path, mode, share):
    content = tar_of({f"{number}.png": os.urandom(3000) for number in range(20)}, mode)
    with pytest.raises(DamagedArchive):
        unpacked(tmp_path, content[: int(share * len(content)) // 512 * 512])
    assert os.listdir(tmp_path / "room") == ["data.archive"]


def test_c10_damage_in_the_middle(tmp_path):
    for content in (zip_of({"a.png": NOISE, "b.png": NOISE}), tar_of({"a.png": NOISE, "b.png": NOISE})):
        spoilt = (
            content.replace(b"b.png", b"\xff.png", 1)
            if content[:2] != b"PK"
            else content.replace(NOISE[:9], b"." * 9, 1)
        )
        with pytest.raises(DamagedArchive):
            unpacked(tmp_path, spoilt)


def test_c11_killed_while_unpacking_starts_over(tmp_path):
    archive = tmp_path / "data.zip"
    archive.write_bytes(zip_of({f"{number}.png": NOISE for number in range(3_000)}))
    child = multiprocessing.get_context("fork").Process(target=unpack, args=(archive, tmp_path / "target"))
    child.start()
    unfinished = tmp_path / ".target.unpacking"
    while not (unfinished / "5.png").exists() and child.is_alive():
        time.sleep(0.001)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert unfinished.exists() and not (tmp_path / "target").exists()
    (unfinished / "half.png").write_bytes(b"half")
    unpack(archive, tmp_path / "target")
    assert len(os.listdir(tmp_path / "target")) == 3_000
    assert sorted(os.listdir(tmp_path)) == ["data.zip", "target"]
