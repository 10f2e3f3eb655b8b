"""The locks are what is installed: everything asked for, nothing without a hash, no host named."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
MAIN, COLLECTION = "requirements.lock", "benchmarks/collection/requirements.lock"
ASKED = {  # what was asked for, and the lock that has it
    "requirements.in": MAIN,
    "requirements-dev.in": MAIN,
    "benchmarks/collection/requirements.in": COLLECTION,
}


def entries(lock: str) -> list[str]:
    return [entry.strip() for entry in re.split(r"\n(?=\S)", (ROOT / lock).read_text()) if entry.strip()]


def names_in(file: str) -> dict[str, Requirement]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines())
    return {canonicalize_name((asked := Requirement(line)).name): asked for line in lines if line}


def locked(lock: str) -> dict[str, Requirement]:
    pins = (Requirement(entry.partition("\\")[0].strip()) for entry in entries(lock))
    return {canonicalize_name(pin.name): pin for pin in pins}


@pytest.mark.parametrize(("lock", "fewest"), [(MAIN, 100), (COLLECTION, 9)])
def test_every_entry_is_one_version_with_hashes(lock: str, fewest: int):
    assert len(entries(lock)) > fewest
    for entry in entries(lock):
        pin, *hashes = entry.split(" \\\n")
        assert re.match(r"[a-z0-9-]+==[^\s=]+( ; .+)?$", pin), pin
        assert hashes, f"{pin} has no hash"
        assert all(re.fullmatch(r"\s*--hash=sha256:[0-9a-f]{64}", line) for line in hashes), pin


@pytest.mark.parametrize("file", ASKED)
def test_everything_asked_for_is_locked_at_a_version_that_was_asked_for(file: str):
    pins = locked(ASKED[file])
    for name, asked in names_in(file).items():
        assert name in pins, f"{name} of {file} is not in {ASKED[file]}: make lock"
        (pin,) = pins[name].specifier
        assert asked.specifier.contains(pin.version, prereleases=True), f"{asked} is locked at {pin}: make lock"


def test_uv_locks_itself():
    # `uv pip sync` removes what is not in the lock, itself included.
    assert "uv" in locked(MAIN)


@pytest.mark.parametrize("lock", [MAIN, COLLECTION])
def test_no_address_stands_in_a_lock(lock: str):
    text = (ROOT / lock).read_text()
    assert not re.search(r"://|--index|--extra-index|--find-links|@ |\bwww\.", text)
    assert not re.search(r"\.(?:org|com|net|io)\b", text)
