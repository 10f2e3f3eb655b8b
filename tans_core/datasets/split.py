"""From what a source found to datasets: identity, duplicates, classes, groups, fingerprint and split.

Axes: N images, C channels, S side.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from tans_core.datasets.decoding import decoded
from tans_core.datasets.found import Collection, some
from tans_core.datasets.pictures import Picture, Rejected
from tans_core.datasets.spec import Spec, did_you_mean
from tans_core.datasets.spelling import alike, spelt
from tans_core.errors import DatasetError, SpecError
from tans_core.exported import letterbox, to_bytes
from tans_core.records import ImageDataset, ReadingReport, Skipped, content_hash

MOST_CLASSES, FEWEST_IMAGES = 20, 5
Watch = Callable[[str, int, int], None]
_BLOCK = 256  # images that are stacked at a time
TEST, VALIDATION = 0.20, 0.16  # shares of a class where no test part was given
VALIDATION_BESIDE_TEST = 0.20  # share of the rest where one was


@dataclass(frozen=True, eq=False)
class _Image:
    path: str
    class_name: str
    in_test: bool
    picture: Picture


_Sides = tuple[list[_Image], list[_Image], list[_Image]]  # training, validation, test


@dataclass(frozen=True, eq=False)
class Unstacked:
    """A dataset whose pictures still stand for themselves; `dataset.images` is on the "meta" device, a shape alone."""

    dataset: ImageDataset
    pictures: Sequence[Picture]  # in the order of `dataset.images`

    def blocks(self) -> Iterator[np.ndarray]:
        """The images, uint8 (n, C, S, S), a few hundred at a time; each block is overwritten by the next."""
        deep = self.dataset.deep
        _, *shape = self.dataset.images.shape
        block = np.empty((min(_BLOCK, len(self.pictures)), *shape), np.uint8)
        for first in range(0, len(self.pictures), _BLOCK):
            pictures = self.pictures[first : first + _BLOCK]
            for square_CSS, picture in zip(block, pictures):
                scaled_CHW = picture.scaled_CHW
                letterbox(to_bytes(scaled_CHW, *deep[picture.deep]) if picture.deep else scaled_CHW, square_CSS)
            yield block[: len(pictures)]

    def stacked(self) -> ImageDataset:
        """The dataset with its images in memory."""
        images = np.empty(self.dataset.images.shape, np.uint8)
        done = 0
        for block in self.blocks():
            images[done : done + len(block)] = block
            done += len(block)
        return replace(self.dataset, images=torch.from_numpy(images))


def unwatched(name: str, done: int, count: int) -> None:
    """The watch of a reading that nobody watches."""


def datasets_of(collection: Collection, image_size: int, watch: Watch = unwatched) -> list[Unstacked]:
    """Decode a collection and deal it: one dataset, or groups of 2 to 20 classes.

    Args:
        watch: told the collection's name, pictures read, and pictures in all.

    Raises:
        DatasetError: fewer than two classes of at least five distinct pictures.
    """
    skipped = _Skips(collection.skipped)
    images = list(_decoded(collection, image_size, skipped, watch))
    images, crossings = _distinct(_without(images, collection.spec), skipped, collection.spec)
    classes: dict[str, list[_Image]] = defaultdict(list)
    for image in images:
        classes[image.class_name].append(image)
    crossings += [_alike(names, collection.spec) for names in alike(classes)]
    given = any(image.in_test for image in images)
    sides = {name: _deal(members, given) for name, members in sorted(classes.items())}
    reasons = {name: _why_dropped(parts) for name, parts in sides.items()}
    dropped = tuple(f"class {name!r} is dropped: {reason}" for name, reason in reasons.items() if reason)
    kept = [name for name, reason in reasons.items() if not reason]
    if len(kept) < 2:
        raise DatasetError(_too_few(collection, classes, (*dropped, *crossings), skipped))
    groups = _groups(kept)
    report = ReadingReport(
        skipped=skipped.report(),
        ignored=collection.ignored,
        dropped_classes=dropped,
        notes=(*collection.notes, *crossings, *_notes(images)),
    )
    wanted = collection.spec.options.group
    if wanted is not None and wanted[1] != len(groups):
        raise SpecError(f"{collection.spec}: its classes are dealt into {len(groups)} groups, not {wanted[1]}")
    return [
        _dataset(collection, report, names, sides, number, len(groups), image_size)
        for number, names in enumerate(groups, start=1)
        if wanted is None or wanted[0] == number
    ]


def _decoded(collection: Collection, image_size: int, skipped: _Skips, watch: Watch) -> Iterator[_Image]:
    """The sound pictures with a class; scaled ones are all that is kept."""
    done = 0
    for chunk in decoded(collection.pictures, collection.count, image_size):
        done += len(chunk)
        watch(collection.name, done, collection.count)
        for found, result in chunk:
            if isinstance(result, Rejected):
                skipped.add(result.reason, found.path)
            elif found.class_name is None:
                skipped.add("no class", found.path)
            else:
                yield _Image(found.path, found.class_name, found.in_test, result)


def _without(images: Sequence[_Image], spec: Spec) -> list[_Image]:
    names = {image.class_name for image in images}
    leave_out = {unicodedata.normalize("NFC", name) for name in spec.options.without}
    for name in sorted(leave_out - names):
        near = did_you_mean(name, names) or f"; there are {some(sorted(names))}"
        raise SpecError(f"{spec}: without={name}: there is no such class{near}")
    return [image for image in images if image.class_name not in leave_out]


def _distinct(images: Sequence[_Image], skipped: _Skips, spec: Spec) -> tuple[list[_Image], list[str]]:
    """Equal images once; one that stands under two classes is dropped from both. A copy in a test part stays.

    Returns:
        What is left, and sentences on what crossed from class to class and from side to side.
    """
    copies: dict[str, list[_Image]] = defaultdict(list)
    for image in images:
        copies[image.picture.image_hash].append(image)
    kept: list[_Image] = []
    contradictions: Counter[tuple[str, ...]] = Counter()
    crossed = 0
    for same in copies.values():
        names = sorted({image.class_name for image in same})
        if len(names) > 1:
            contradictions[tuple(names)] += 1
            for image in same:
                skipped.add("the same picture under two classes", image.path)
            continue
        first = next((image for image in same if image.in_test), same[0])
        kept.append(first)
        for image in same:
            crossing = first.in_test and not image.in_test
            crossed += crossing
            if image is not first:
                skipped.add("copy of a picture in the test part" if crossing else "copy", image.path)
    left = {image.class_name for image in kept}
    notes = [_contradiction(names, count, left, spec) for names, count in contradictions.most_common()]
    if crossed:
        notes.append(
            f"{crossed:,} training pictures also stand in the test part: only the copies in the test part stay"
        )
    return kept, notes


def _contradiction(names: Sequence[str], count: int, left: Set[str], spec: Spec) -> str:
    both = " and ".join(map(repr, names))
    if left.isdisjoint(names):
        leave_out = (*spec.options.without, names[-1])
        return (
            f"classes {both} are copies of each other ({count:,} pictures): leave one out with without={names[-1]}, as "
            f"in {spec.to_paste(replace(spec.options, without=leave_out))}"
        )
    return f"{count:,} pictures stand under both {both}: all of their copies are skipped"


def _alike(names: Sequence[str], spec: Spec) -> str:
    leave_out = spec.to_paste(replace(spec.options, without=(*spec.options.without, names[-1])))
    return (
        f"{spelt(names)} differ in case, blanks, _ or - alone and are {len(names)} classes: if they are one, give them "
        f"one name, or leave one out, as in {leave_out}"
    )


def _deal(members: Sequence[_Image], given: bool) -> _Sides:
    """Training, validation and test of one class, by the order of the hash of the image's hash.

    Args:
        given: the data bring a labelled test part; it is kept, even where this class has nothing in it.
    """
    test = [image for image in members if image.in_test]
    rest = sorted((image for image in members if not image.in_test), key=_order)
    if given:
        validation_count = min(len(rest), max(1, round(VALIDATION_BESIDE_TEST * len(rest))))
    else:
        test_count = max(1, round(TEST * len(rest)))
        test, rest = rest[:test_count], rest[test_count:]
        validation_count = max(1, round(VALIDATION / (1 - TEST) * len(rest)))
    return rest[validation_count:], rest[:validation_count], sorted(test, key=_order)


def _why_dropped(sides: _Sides) -> str:
    """Why a class cannot be used; empty where it can."""
    train, validation, test = sides
    count = len(train) + len(validation) + len(test)
    if count < FEWEST_IMAGES:
        return f"{count} distinct pictures, {FEWEST_IMAGES} are needed"
    if not test:
        return f"none of its {count:,} distinct pictures is in the test part"
    if not train:
        return f"{len(test):,} of its {count:,} distinct pictures are in the test part, which leaves none to train on"
    return ""


def _order(image: _Image) -> str:
    return content_hash(image.picture.image_hash.encode())


def _groups(names: Sequence[str]) -> list[list[str]]:
    """Classes dealt in turn into as few groups of at most 20 as there can be, of nearly equal size."""
    count = -(-len(names) // MOST_CLASSES)
    size, larger = divmod(len(names), count)
    places = [size + (number < larger) for number in range(count)]
    stream = iter(names)
    return [list(islice(stream, place)) for place in places]


def _dataset(
    collection: Collection,
    report: ReadingReport,
    names: Sequence[str],
    sides: dict[str, _Sides],
    number: int,
    groups: int,
    image_size: int,
) -> Unstacked:
    parts = [[image for name in names for image in sides[name][side]] for side in range(3)]
    parts = [sorted(part, key=_order) for part in parts]
    images = [image for part in parts for image in part]
    channels = 3 if any(image.picture.scaled_CHW.shape[0] == 3 for image in images) else 1
    bounds = np.cumsum([0, *map(len, parts)])
    train, validation, test = (torch.arange(int(bounds[side]), int(bounds[side + 1])) for side in range(3))
    spec = collection.spec.with_group(number, groups) if groups > 1 else collection.spec
    place = {name: number for number, name in enumerate(names)}
    dataset = ImageDataset(
        fingerprint=_fingerprint(images),
        name=f"{collection.name}-{number}of{groups}" if groups > 1 else collection.name,
        source=collection.source,
        spec=str(spec),
        licence=collection.licence,
        class_names=tuple(names),
        images=torch.empty(len(images), channels, image_size, image_size, dtype=torch.uint8, device="meta"),
        labels=torch.tensor([place[image.class_name] for image in images]),
        train=train,
        validation=validation,
        test=test,
        deep=_deep([image.picture for image in images]),
        report=report,
        image_hashes=bytes.fromhex("".join(image.picture.image_hash for image in images)),
        paths="\0".join(image.path for image in images).encode("utf-8", "backslashreplace"),
    )
    return Unstacked(dataset, [image.picture for image in images])


def _fingerprint(images: Sequence[_Image]) -> str:
    """BLAKE2b-128 over the sorted list of (class name, image hash, given side)."""
    lines = sorted(
        f"{image.class_name}\0{image.picture.image_hash}\0{'test' if image.in_test else ''}\n" for image in images
    )
    digest = hashlib.blake2b(digest_size=16)
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()


def _deep(pictures: Sequence[Picture]) -> dict[str, tuple[float, float]]:
    """Black and white of a dataset's deep pictures, one scale for all of a kind; whole numbers have that of their bits.

    Those are the smallest of 8, 10, 12, 14 and 16 that hold them all.
    """
    integers, floats = ([each for each in pictures if each.deep == kind] for kind in ("integers", "floats"))
    found = {}
    if integers:
        greatest = max(picture.greatest for picture in integers)
        found["integers"] = (0.0, next(2.0**bits - 1 for bits in (8, 10, 12, 14, 16) if greatest < 2**bits))
    if floats:
        found["floats"] = (min(picture.least for picture in floats), max(picture.greatest for picture in floats))
    return found


class _Skips:
    """Paths by reason, in the order they were met."""

    def __init__(self, given: Sequence[Skipped]) -> None:
        self._paths: dict[str, list[str]] = {each.reason: list(each.paths) for each in given}

    def add(self, reason: str, path: str) -> None:
        self._paths.setdefault(reason, []).append(path)

    def report(self) -> tuple[Skipped, ...]:
        return tuple(Skipped(reason=reason, paths=tuple(paths)) for reason, paths in self._paths.items())


def _notes(images: Sequence[_Image]) -> list[str]:
    frames = sum(image.picture.frames for image in images)
    tiny = sum(max(image.picture.width, image.picture.height) < 8 for image in images)
    colours = Counter(image.picture.scaled_CHW.shape[0] for image in images)
    sizes = [(image.picture.width, image.picture.height) for image in images]
    notes = [f"pictures of {_span(sizes)} pixels"] if sizes else []
    if len(colours) > 1:
        notes.append(f"{colours[1]:,} grey and {colours[3]:,} colour pictures, trained in RGB")
    if frames:
        notes.append(f"{frames:,} have more than one frame, the first is used")
    if tiny:
        notes.append(f"{tiny:,} are smaller than 8 pixels")
    return notes


def _span(sizes: Sequence[tuple[int, int]]) -> str:
    smallest, largest = min(sizes, key=max), max(sizes, key=max)
    one, other = f"{smallest[0]}x{smallest[1]}", f"{largest[0]}x{largest[1]}"
    return one if one == other else f"{one} to {other}"


def _too_few(collection: Collection, classes: dict[str, list[_Image]], said: Sequence[str], skipped: _Skips) -> str:
    found = f"{collection.spec}: {len(classes)} classes with pictures ({some(sorted(classes)) or 'none'})"
    reasons = [f"{len(each.paths):,} skipped as {each.reason}" for each in skipped.report()]
    return "; ".join(
        [found, *said[:5], *reasons]
        + [f"at least two classes of {FEWEST_IMAGES} distinct pictures are needed: one folder a class"]
    )
