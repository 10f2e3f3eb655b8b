"""Which folder is a class: from a walked folder to class folders on the sides of the archive's own split.

The rules and the layouts they come from are in the table of tests. Words: a *leaf* holds pictures and no
folder with pictures; a *path* is the names from the top to a class, without wrappers and split folders.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tans_core.datasets.found import some
from tans_core.datasets.sources.tree import Folder, readable
from tans_core.datasets.spec import Spec
from tans_core.datasets.spelling import difference, name_key, spelt
from tans_core.errors import DatasetError

_TRANSPARENT = frozenset(("images", "image", "img", "imgs", "pictures", "photos", "data"))
_MASKS = re.compile(r"(masks?|segmentations?|annotations?|bbox(es)?|ground[ _-]?truths?)", re.IGNORECASE)
_MASK_STEM = re.compile(r"(.+)_mask.*", re.IGNORECASE)
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_PART = re.compile(r"(.*[ _-])?(part|batch|chunk|shard|fold|images?|imgs?)[ _-]*\d+", re.IGNORECASE)
_AFTER_SPLIT = frozenset(("set", "data", "images", "image", "img", "imgs", "folder", "split", "pictures", "photos"))
_VARIANTS = frozenset(("color", "colour", "colored", "coloured", "grayscale", "greyscale", "gray", "grey", "rgb"))
_VARIANTS |= frozenset(("segmented", "original", "originals", "augmented", "raw", "resized", "cropped", "processed"))
_VARIANTS |= frozenset(("preprocessed", "normalized", "normalised", "enhanced", "masked", "unmasked"))


@dataclass(frozen=True, slots=True, eq=False)
class ClassFolder:
    """Pictures of one class on one side of the archive's own split."""

    path: tuple[str, ...]  # names from the top to the class, in NFC
    split: str  # "train", "val", "test", or "" where the archive has none
    folder: Path
    pictures: tuple[Path, ...]
    repeat: bool = False  # of the dataset, inside itself


@dataclass(slots=True, eq=False)
class Layout:
    """What the folders of a dataset are."""

    classes: list[ClassFolder] = field(default_factory=list)
    loose: dict[Path, list[Path]] = field(default_factory=dict)  # folder that is no class -> its pictures
    masks: list[Path] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)


def read_layout(root: Folder, level: str | None) -> Layout:
    """Tell class folders from wrappers, splits, masks and loose pictures.

    Args:
        level: "top" or "leaf" where the user has chosen between two levels of folders.
    """
    layout = Layout()
    _read(_trim(root, layout), (), "", level, layout)
    paths = {each.path for each in layout.classes}
    layout.classes = [_outermost(each, paths) for each in layout.classes]
    return layout


def split_of(name: str) -> str:
    """The side that a folder's name says: "train", "val", "test", or "" for none."""
    words = [word.rstrip("0123456789") for word in re.split(r"[ _.\-]+", nfc(name).casefold())]
    while len(words) > 1 and (words[-1] in _AFTER_SPLIT or not words[-1]):
        words.pop()
    last = words[-1].removesuffix("set")
    return next((split for split, names in _SPLITS.items() if last in names), "")


def nfc(name: str) -> str:
    """The name as text, composed: it equals the same name from another system or from a table."""
    return unicodedata.normalize("NFC", readable(name))


def check_levels(layout: Layout, root: Path, spec: Spec) -> None:
    """Refuse a layout of two readings.

    Raises:
        DatasetError: the same class names lie under several folders, or differ in case or blanks only in one folder.
    """
    _check_spellings(layout.classes, spec)
    if spec.options.class_level:
        return
    parents: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for each in layout.classes:
        parents[name_key(each.path[-1])].add(each.path[:-1])
    shared = {name: above for name, above in parents.items() if len(above) > 1}
    if shared:
        raise DatasetError(_two_readings(layout, set().union(*shared.values()), root, spec))


def are_parts(classes: Iterable[ClassFolder]) -> bool:
    """Whether all folders are numbered parts of one heap, as images_part_1 and images_part_2 are."""
    return all(len(each.path) == 1 and _PART.fullmatch(each.path[0]) for each in classes)


def class_of(each: ClassFolder, level: str | None) -> str:
    return each.path[0 if level == "top" else -1]


@dataclass(slots=True, eq=False)
class _Node:
    folder: Folder
    pictures: list[Path]
    children: list[_Node]

    @property
    def name(self) -> str:
        return nfc(self.folder.name)

    def all_pictures(self) -> list[Path]:
        return self.pictures + [picture for child in self.children for picture in child.all_pictures()]

    def leaf_names(self) -> set[str]:
        if not self.children:
            return {name_key(self.name)}
        return set().union(*(child.leaf_names() for child in self.children))


def _trim(folder: Folder, layout: Layout) -> _Node:
    """Without masks and folders without pictures; what lies in transparent folders lies in their parent."""
    node = _Node(folder, _without_masks(folder.pictures, layout), [])
    children = []
    for child in folder.folders:
        if _MASKS.fullmatch(child.name) and not _beside_no_mask(child, folder.folders):
            layout.masks += [picture for below in child.walk() for picture in below.pictures]
            continue
        trimmed = _trim(child, layout)
        if trimmed.pictures or trimmed.children:
            children.append(trimmed)
        elif not child.folders:
            layout.empty.append(child.path)
    ordinary = any(not child.children and not _is_transparent(child) and not split_of(child.name) for child in children)
    for child in children:
        if _is_transparent(child) and (child.children or not ordinary):
            node.pictures += child.pictures
            node.children += child.children
        else:
            node.children.append(child)
    if not node.pictures and len(node.children) == 1 and _wraps_itself(node, node.children[0]):
        return _Node(folder, node.children[0].pictures, [])
    return node


def _wraps_itself(node: _Node, only: _Node) -> bool:
    """As in seg_pred/seg_pred/*.jpg, which is one leaf."""
    return not only.children and only.name.casefold() == node.name.casefold()


def _is_transparent(node: _Node) -> bool:
    return node.name.casefold() in _TRANSPARENT


def _beside_no_mask(folder: Folder, siblings: Iterable[Folder]) -> bool:
    """Faces with and without a mask: here it is a class."""
    return any(
        "mask" in each.name.casefold() and not _MASKS.fullmatch(each.name) for each in siblings if each != folder
    )


def _without_masks(pictures: Sequence[Path], layout: Layout) -> list[Path]:
    stems = {picture.stem for picture in pictures}
    kept = []
    for picture in pictures:
        found = _MASK_STEM.fullmatch(picture.stem)
        (layout.masks if found and found[1] in stems else kept).append(picture)
    return kept


def _read(node: _Node, parents: tuple[str, ...], split: str, level: str | None, layout: Layout) -> None:
    """Read a folder that is no class itself."""
    if node.pictures:
        layout.loose.setdefault(node.folder.path, []).extend(node.pictures)
    if len(node.children) == 1 and node.children[0].children:
        only = node.children[0]
        _read(only, parents, split_of(only.name) or split, level, layout)
        return
    leaves = [child for child in node.children if not child.children]
    names = {name_key(leaf.name) for leaf in leaves if not split_of(leaf.name)}
    splits, groups = [], []
    for child in node.children:
        if not child.children:
            continue
        if split_of(child.name):
            splits.append(child)
        elif child.pictures and names and not names & child.leaf_names():
            layout.classes.append(_class(child, parents, split))  # pictures and folders: one class like its siblings
        else:
            groups.append(child)
    for child in splits:
        _read(child, parents, split_of(child.name), level, layout)
    known = set().union(*(child.leaf_names() for child in splits))
    split_inside = [child for child in groups if all(_is_split(each) for each in child.children)]
    for child in split_inside if len(split_inside) > 1 else ():  # as in cats/train, cats/test, dogs/train
        groups.remove(child)
        layout.classes += [
            replace(_class(each, (), split_of(each.name)), path=(*parents, child.name)) for each in child.children
        ]
        if child.pictures:
            layout.loose[child.folder.path] = child.pictures
    for child in groups:
        if splits and len(child.leaf_names()) == 1 and not child.leaf_names() & known:
            layout.loose.setdefault(child.folder.path, []).extend(child.all_pictures())
        else:
            _read(child, (*parents, child.name), split, level, layout)
    for leaf in _classes_among(leaves, splits, groups, level):
        layout.classes.append(_class(leaf, parents, split))
        leaves.remove(leaf)
    for leaf in leaves:
        layout.loose.setdefault(leaf.folder.path, []).extend(leaf.pictures)


def _is_split(leaf: _Node) -> bool:
    return not leaf.children and bool(split_of(leaf.name))


def _classes_among(
    leaves: Sequence[_Node], splits: Sequence[_Node], groups: Sequence[_Node], level: str | None
) -> list[_Node]:
    """Leaves beside folders that hold classes are classes only where their names say so."""
    below = set().union(*(each.leaf_names() for each in (*splits, *groups)))
    if splits or (len(below) > 1 and level != "top"):
        return [leaf for leaf in leaves if name_key(leaf.name) in below and not split_of(leaf.name)]
    return list(leaves) if any(not split_of(leaf.name) for leaf in leaves) else []


def _class(node: _Node, parents: tuple[str, ...], split: str) -> ClassFolder:
    return ClassFolder((*parents, node.name), split, node.folder.path, tuple(node.all_pictures()))


def _outermost(each: ClassFolder, paths: set[tuple[str, ...]]) -> ClassFolder:
    """A dataset that lies again inside itself is one dataset."""
    path = each.path
    while path[1:] in paths:
        path = path[1:]
    return replace(each, path=path, repeat=True) if path != each.path else each


def doubled_names(classes: Iterable[ClassFolder], level: str | None) -> dict[str, Path | str]:
    """Names that stand beside another spelling of themselves, and where. Top folders of one side lie in one folder."""
    homes: dict[tuple[Path | str, str], set[str]] = defaultdict(set)
    for each in classes:
        name = class_of(each, level)
        homes[each.split if level == "top" else each.folder.parent, name_key(name)].add(name)
    return {name: home for (home, _), names in homes.items() if len(names) > 1 for name in names}


def _check_spellings(classes: Sequence[ClassFolder], spec: Spec) -> None:
    """A class that `without=` leaves out is not asked about."""
    level, left_out = spec.options.class_level, set(map(nfc, spec.options.without))
    doubled = doubled_names((each for each in classes if class_of(each, level) not in left_out), level)
    if not doubled:
        return
    first = min(doubled)
    names = sorted(name for name in doubled if name_key(name) == name_key(first))
    ways = []
    for kept in reversed(names):
        without = (*spec.options.without, *(name for name in names if name != kept))
        ways.append(spec.to_paste(replace(spec.options, without=without)))
    raise DatasetError(
        f"{doubled[first] or 'the folder'} holds {spelt(names)}, which differ in {difference(names)} only: on another "
        f"file system they would be one class; rename one of them, or leave one out, as in {' or '.join(ways)}"
    )


def _two_readings(layout: Layout, shared: set[tuple[str, ...]], root: Path, spec: Spec) -> str:
    top = sorted({each.path[0] for each in layout.classes})
    leaf = sorted({each.path[-1] for each in layout.classes})
    options = (spec.to_paste(replace(spec.options, class_level=level)) for level in ("top", "leaf"))
    readings = f"{_range(top)} (class=top) or {_range(leaf)} (class=leaf)"
    places = sorted({each.folder.parent for each in layout.classes if each.path[:-1] in shared and not each.split})
    if places and all(_is_variant(place.name) for place in places):
        specs = some(
            (_subfolder(spec, place.relative_to(root).as_posix()).to_paste(spec.options) for place in places), 20
        )
        return (
            f"{spec}: {len(places)} folders with the same classes ({some(place.name for place in places)}); pooled, "
            f"one picture could stand on two sides of the split: choose one of {specs}. "
            f"Otherwise the classes are {readings}"
        )
    return f"{spec} can be read in two ways: {readings}. Choose with {' or '.join(options)}"


def _is_variant(name: str) -> bool:
    return any(word in _VARIANTS for word in re.split(r"[ _.\-]+", name.casefold()))


def _subfolder(spec: Spec, below: str) -> Spec:
    if spec.scheme == "kaggle":
        return replace(spec, subfolder=f"{spec.subfolder}/{below}".strip("/"))
    return replace(spec, place=f"{spec.place.rstrip('/')}/{below}")


def _range(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"1 class {names[0]}"
    return f"{len(names)} classes {names[0]} to {names[-1]}"
