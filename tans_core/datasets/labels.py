"""Labels that are not folders: a table beside the pictures, or a pattern on their names.

And, for pictures without classes, which table or pattern would fit: a message may suggest, nothing is guessed.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tans_core.datasets.found import some
from tans_core.datasets.layout import nfc
from tans_core.datasets.spec import did_you_mean
from tans_core.errors import DatasetError

_TABLES = frozenset((".csv", ".tsv"))
_LABEL_WORDS = ("label", "class", "category", "target", "breed", "species", "diagnosis", "dx", "type")
_PATTERNS = (
    r"^([^.]+)\.\d+\.",
    r"^(.+?)[ _-]*\(?\d+\)?\.",
    r"^([A-Za-z]+)[ _-]",
    r"[_-]([A-Za-z]+)\.",
    r"^[^_]+_([^_]+)_",
)
_MOST_ROWS = 5_000_000  # of a table that is only looked at


@dataclass(frozen=True, slots=True)
class Labelled:
    """Classes by picture; what has none; and what the table's rows came to, for a person."""

    classes: dict[Path, str]
    unlabelled: tuple[Path, ...]
    notes: tuple[str, ...]


def label_pictures(option: str, root: Path, pictures: Sequence[Path]) -> Labelled:
    """Label by the option `labels=`: "FILE.csv:IMAGE_COLUMN,LABEL_COLUMN" or "name:PATTERN".

    Raises:
        DatasetError: no such file or column, no such pattern, or a picture with two labels.
    """
    where, colon, what = option.partition(":")
    if where == "name" and colon:
        return _by_name(what, pictures)
    where, colon, what = option.rpartition(":")
    if not colon or "," not in what:
        raise DatasetError(
            f"labels={option}: the forms are labels=FILE.csv:IMAGE_COLUMN,LABEL_COLUMN and labels=name:PATTERN"
        )
    return _by_table(where, what, root, pictures)


def suggestion(root: Path, pictures: Sequence[Path], others: Sequence[Path]) -> str:
    """What would give these pictures a class, in words; empty where nothing is found."""
    tables = [path for path in others if path.suffix.lower() in _TABLES]
    for path in tables[:20]:
        found = _fitting_columns(root, path, pictures)
        if found:
            return found
    boxes = {path.stem for path in others if path.suffix.lower() in (".txt", ".xml")}
    count = sum(picture.stem in boxes for picture in pictures)
    if count * 2 >= len(pictures):
        suffix = next(path.suffix for path in others if path.suffix.lower() in (".txt", ".xml"))
        return f"this looks like boxes, not classes: {count:,} {suffix} of the same names"
    names = sorted(picture.name for picture in pictures)
    three = ", ".join(names[:: max(1, (len(names) - 1) // 2)][:3])
    pattern = next((each for each in _PATTERNS if _fits(each, names)), None)
    if pattern:
        return f"their names look like {three}: if the class is in the name, add ?labels=name:{pattern}"
    return (
        f"their names look like {three}: if the class is in the name, add ?labels=name:PATTERN, whose first group is it"
    )


def _by_name(pattern: str, pictures: Sequence[Path]) -> Labelled:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DatasetError(f"labels=name:{pattern} is no regular expression: {error}") from error
    if not compiled.groups:
        raise DatasetError(f"labels=name:{pattern} has no group: put the part that is the class in brackets")
    found = {picture: compiled.search(nfc(picture.name)) for picture in pictures}
    classes = {picture: match[1] for picture, match in found.items() if match and match[1]}
    return Labelled(classes, tuple(picture for picture in pictures if picture not in classes), ())


def _by_table(where: str, columns: str, root: Path, pictures: Sequence[Path]) -> Labelled:
    path = root / where
    if not path.is_file():
        there = [each.relative_to(root).as_posix() for each in root.rglob("*") if each.suffix.lower() in _TABLES]
        raise DatasetError(
            f"labels={where}: no such file in {root}; tables there: {some(there) or 'none'}{did_you_mean(where, there)}"
        )
    header, rows = _read_table(path)
    image, label = _columns(where, columns, header)
    index = _Index(root, pictures)
    labels: dict[Path, set[str]] = defaultdict(set)
    no_picture, several = 0, 0
    for row in rows:
        value = nfc(row[label].strip())
        several += "|" in value
        found = index.find(row[image]) if value else ()
        no_picture += bool(value) and not found
        for picture in found:
            labels[picture].add(value)
    several += sum(len(names) > 1 for names in labels.values())
    if several:
        raise DatasetError(
            f"{where}: not one class a picture: {several:,} rows have two or more labels in {header[label]!r}"
        )
    classes = {picture: names.pop() for picture, names in labels.items()}
    unlabelled = tuple(picture for picture in pictures if picture not in classes)
    notes = [
        f"{where}: {len(rows):,} rows, {no_picture:,} without a picture; {len(unlabelled):,} pictures without a row"
    ]
    return Labelled(classes, unlabelled, tuple(notes))


class _Index:
    """Pictures by relative path, file name and stem; of one name only where all of them have one size, as copies do."""

    def __init__(self, root: Path, pictures: Iterable[Path]) -> None:
        self._by: tuple[dict[str, list[Path]], ...] = (defaultdict(list), defaultdict(list), defaultdict(list))
        for picture in pictures:
            for names, key in zip(self._by, (picture.relative_to(root).as_posix(), picture.name, picture.stem)):
                names[nfc(key)].append(picture)

    def find(self, value: str) -> list[Path]:
        name = nfc(value.strip().replace("\\", "/").removeprefix("./").lstrip("/"))
        found = next((names[key] for names, key in zip(self._by, (name, name, name)) if key in names), [])
        return found if len(found) < 2 or len({each.stat().st_size for each in found}) == 1 else []


def _read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        first = file.readline()
        file.seek(0)
        delimiter = max(",;\t|", key=first.count)
        try:
            rows = [row for row, _ in zip(csv.reader(file, delimiter=delimiter), range(_MOST_ROWS)) if row]
        except csv.Error as error:
            raise DatasetError(f"{path} cannot be read as a table: {error}") from error
    if not rows:
        raise DatasetError(f"{path} is an empty table")
    header = [nfc(name.strip()) for name in rows[0]]
    return header, [row + [""] * (len(header) - len(row)) for row in rows[1:]]


def _columns(where: str, columns: str, header: Sequence[str]) -> tuple[int, int]:
    """A name may hold a comma: the one that parts two names of the header counts."""
    parts = columns.split(",")
    pairs = [(",".join(parts[:cut]), ",".join(parts[cut:])) for cut in range(1, len(parts))]
    for image, label in pairs:
        if nfc(image) in header and nfc(label) in header:
            return header.index(nfc(image)), header.index(nfc(label))
    wrong = next(name for name in pairs[0] if nfc(name) not in header)
    raise DatasetError(
        f"{where} has no column {wrong!r}: its columns are {some(header, 20)}{did_you_mean(wrong, header)}"
    )


def _fitting_columns(root: Path, path: Path, pictures: Sequence[Path]) -> str:
    try:
        header, rows = _read_table(path)
    except (DatasetError, OSError):
        return ""
    if not rows or len(header) < 2:
        return ""
    where, index = path.relative_to(root).as_posix(), _Index(root, pictures)
    matches = [sum(bool(index.find(row[column])) for row in rows) for column in range(len(header))]
    image = max(range(len(header)), key=matches.__getitem__)
    if (matches[image] * 10 < len(rows) * 9 and matches[image] * 10 < len(pictures) * 9) or not matches[image]:
        return ""
    several = _several_labels(rows, image)
    if several:
        return f"{where} gives not one class a picture: {several:,} rows have two or more"
    label = _label_column(header, rows, image)
    if label is None:
        return ""
    which = "all" if matches[image] == len(rows) else f"{matches[image]:,} of"
    return (
        f"{where} has columns {some(header, 8)} and {which} {len(rows):,} values of {header[image]} match pictures: "
        f"add ?labels={where}:{header[image]},{header[label]}"
    )


def _several_labels(rows: Sequence[Sequence[str]], image: int) -> int:
    """Rows with two or more labels: one column of 0 and 1 a class, or names joined by a bar."""
    values = [[value.strip() for column, value in enumerate(row) if column != image] for row in rows]
    if len(values[0]) > 1 and all(value in ("0", "1") for row in values for value in row):
        return sum(row.count("1") > 1 for row in values)
    return sum(any("|" in value for value in row) for row in values)


def _label_column(header: Sequence[str], rows: Sequence[Sequence[str]], image: int) -> int | None:
    counts = {column: Counter(row[column] for row in rows) for column in range(len(header)) if column != image}
    fitting = [column for column, values in counts.items() if len(values) >= 2 and len(values) * 2 <= len(rows)]
    named = [column for column in fitting if any(word in header[column].casefold() for word in _LABEL_WORDS)]
    return next(iter([*named, *fitting]), None)


def _fits(pattern: str, names: Sequence[str]) -> bool:
    found = [re.search(pattern, name) for name in names]
    counts = Counter(match[1] for match in found if match)
    return sum(counts.values()) * 10 >= len(names) * 9 and len(counts) > 1 and len(counts) * 5 <= len(names)
