"""`folder:`: pictures in folders, or labelled by a table or by their names, as people have them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tans_core.datasets.found import Collection, Found, Unread, own_split, read_bytes, some
from tans_core.datasets.sniff import HEAD_BYTES, other_kind
from tans_core.datasets.sources.labels import label_pictures, suggestion
from tans_core.datasets.sources.layout import (
    ClassFolder,
    Layout,
    are_parts,
    check_levels,
    class_of,
    doubled_names,
    nfc,
    read_layout,
    split_of,
)
from tans_core.datasets.sources.tree import Tree, below, walk
from tans_core.datasets.spec import Options, Spec
from tans_core.datasets.spelling import difference, name_key, spelt, tidy
from tans_core.errors import DatasetError
from tans_core.records import Skipped

_ARRAYS = {".npz": "holds arrays", ".npy": "holds an array", ".mat": "holds arrays", ".h5": "holds arrays"}
_ARCHIVES = frozenset((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"))
_ARRAYS |= {".tfrecord": "holds records", ".csv": "is a table", ".parquet": "is read by parquet:"}


def folder_collections(spec: Spec) -> list[Unread]:
    """The folder of a SPEC `folder:PATH`, as one collection.

    Raises:
        DatasetError: no such folder; when it is read, fewer than two classes of pictures.
    """
    root = Path(spec.place).expanduser()
    if not root.is_dir():
        what = "is a file: unpack it, or name the folder" if root.exists() else "does not exist"
        raise DatasetError(f"{spec}: {root.absolute()} {what}")
    name = root.resolve().name
    return [unread_folder(root, spec, name, name)]


def unread_folder(root: Path, spec: Spec, name: str, source: str) -> Unread:
    """Walk a folder; its layout is looked at when it is read, and nothing is decoded yet.

    Args:
        root: the dataset's folder; with a subfolder of the SPEC, that one.
        spec: its options decide between readings; named in messages.

    Raises:
        DatasetError: (when read) no picture, fewer than two classes, or two readings between which the SPEC does not
            choose.
    """
    root = root.absolute()
    tree = walk(root)
    return Unread(spec=spec, stamp=tree.stamp, read=lambda: _collection(root, tree, spec, name, source))


def _collection(root: Path, tree: Tree, spec: Spec, name: str, source: str) -> Collection:
    if not any(folder.pictures for folder in tree.root.walk()):
        raise DatasetError(_no_picture(spec, root, tree))
    layout = read_layout(tree.root, spec.options.class_level)
    pictures, skipped, notes = (_labelled if spec.options.labels else _in_folders)(root, spec, tree, layout)
    if layout.masks:
        skipped.append(_skipped("mask", root, layout.masks))
    return Collection(
        spec=spec,
        name=name,
        source=source,
        licence="",
        pictures=pictures,
        count=len(pictures),
        skipped=(*tree.skipped, *skipped),
        ignored=tree.ignored,
        notes=(*tree.notes, *notes),
    )


_Read = tuple[list[Found], list[Skipped], list[str]]


def _in_folders(root: Path, spec: Spec, tree: Tree, layout: Layout) -> _Read:
    level = spec.options.class_level
    if level is None and layout.classes and are_parts(layout.classes):
        raise DatasetError(_too_few(root, spec, tree, layout, ()))
    check_levels(layout, root, spec)
    names, notes = _spellings(layout.classes, spec.options)
    if len(set(names.values())) < 2:
        raise DatasetError(_too_few(root, spec, tree, layout, sorted(set(names.values()))))
    given = {each.split == "test" for each in layout.classes} == {True, False}
    pictures = [
        _found(root, picture, names[class_of(each, level)], given and each.split == "test")
        for each in layout.classes
        for picture in each.pictures
    ]
    if given:
        first = [each for each in layout.classes if not each.repeat] or layout.classes
        notes.append(own_split(_counted((each.split, len(each.pictures)) for each in first)))
    homes = {each.folder.parent for each in layout.classes}
    notes += [f"no picture in {_name(root, path)}" for path in layout.empty if path.parent in homes]
    skipped = [_skipped(f"no class: loose in {_name(root, path)}", root, paths) for path, paths in layout.loose.items()]
    notes += [f"{len(paths):,} pictures in {_name(root, path)} have no class" for path, paths in layout.loose.items()]
    return pictures, skipped, notes


def _labelled(root: Path, spec: Spec, tree: Tree, layout: Layout) -> _Read:
    """The table or pattern wins over folders; of the folders only the split is read."""
    assert spec.options.labels is not None
    masks = set(layout.masks)
    pictures = [path for folder in tree.root.walk() for path in folder.pictures if path not in masks]
    labelled = label_pictures(spec.options.labels, root, pictures)
    if len(set(labelled.classes.values())) < 2:
        names = some(sorted(set(labelled.classes.values()))) or "none"
        raise DatasetError(
            f"{spec}: labels={spec.options.labels} gives {len(labelled.classes):,} of {len(pictures):,} pictures a "
            f"class, and the classes are: {names}; two are needed. {suggestion(spec, root, pictures, _others(tree))}"
        )
    sides = {path: _side(root, path) for path in labelled.classes}
    given = {"train", "test"} <= set(sides.values())
    found = [_found(root, path, name, given and sides[path] == "test") for path, name in labelled.classes.items()]
    notes = list(labelled.notes)
    if given:
        notes.append(own_split(_counted((side, 1) for side in sides.values())))
    skipped = [_skipped("no label", root, labelled.unlabelled)] if labelled.unlabelled else []
    return found, skipped, notes


def _side(root: Path, path: Path) -> str:
    folders = path.relative_to(root).parts[:-1]
    return next((split for name in reversed(folders) if (split := split_of(name))), "")


def _counted(sides: Iterable[tuple[str, int]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for side, count in sides:
        counts[side] += count
    return counts


def _spellings(classes: Sequence[ClassFolder], options: Options) -> tuple[dict[str, str], list[str]]:
    """Names that differ in case or blanks only, in several folders, are one class: as training spells it.

    Of two that stand in one folder, `without=` leaves out one: that spelling alone.
    """
    level, left_out = options.class_level, set(map(nfc, options.without))
    names = {name: name for name in doubled_names(classes, level) if name in left_out}
    spellings: dict[str, set[tuple[bool, str]]] = defaultdict(set)
    for each in classes:
        name = class_of(each, level)
        if name not in names:
            spellings[name_key(name)].add((each.split == "test", name))
    notes = []
    for found in spellings.values():
        different = sorted({name for _, name in found})
        chosen = min(found)[1] if len(different) == 1 else tidy(min(found)[1])
        names |= dict.fromkeys(different, chosen)
        if len(different) > 1:
            notes.append(f"{spelt(different)} differ in {difference(different)} only: one class, {chosen!r}")
    return names, notes


def _found(root: Path, path: Path, class_name: str, in_test: bool) -> Found:
    return Found(_name(root, path), nfc(class_name), in_test, partial(read_bytes, str(path)))


def _name(root: Path, path: Path) -> str:
    return below(root, path) or "the top folder"


def _skipped(reason: str, root: Path, paths: Iterable[Path]) -> Skipped:
    return Skipped(reason=reason, paths=tuple(_name(root, path) for path in paths))


def _others(tree: Tree) -> list[Path]:
    return [path for folder in tree.root.walk() for path in folder.others]


def _too_few(root: Path, spec: Spec, tree: Tree, layout: Layout, names: Sequence[str]) -> str:
    places = [f"{len(paths):,} pictures in {_name(root, path)}" for path, paths in layout.loose.items()]
    places += [f"{len(each.pictures):,} pictures in {_name(root, each.folder)}" for each in layout.classes]
    classes = f"one class only, {names[0]}" if names else "no class folders"
    pictures = [path for folder in tree.root.walk() for path in folder.pictures]
    return (
        f"{spec}: {classes}; found {some(places)}. At least two are needed, one folder a class; "
        f"{suggestion(spec, root, pictures, _others(tree))}"
    )


def _no_picture(spec: Spec, root: Path, tree: Tree) -> str:
    others = _others(tree)
    if not others:
        return f"{spec}: no picture found; {root} is empty or holds hidden files only"
    found = f"{spec}: no picture found; {some(_describe(path) for path in others[:6])}"
    archives = [path.name for path in others if path.suffix.lower() in _ARCHIVES]
    if archives:
        return f"{found}. Unpack {some(archives)} first, and name the folder with the pictures"
    tables = next((path.parent for path in others if path.suffix.lower() == ".parquet"), None)
    if tables:
        return f"{found}. Name {replace(spec, scheme='parquet', place=f'{tables}/*.parquet').to_paste(Options())}"
    return (
        f"{found}. Pictures in arrays or tables are written as Parquet with the columns image (bytes of a PNG), label "
        f"and label_name, and read by parquet:"
    )


def _describe(path: Path) -> str:
    if path.suffix.lower() in _ARRAYS:
        return f"{path.name} {_ARRAYS[path.suffix.lower()]}"
    with path.open("rb") as file:
        kind = other_kind(file.read(HEAD_BYTES))
    return f"{path.name} is {kind or 'no picture'}"
