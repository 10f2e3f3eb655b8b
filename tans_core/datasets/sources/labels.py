"""Labels that are not folders: a table beside the pictures, or a pattern on their names.

And, for pictures without classes, which table or pattern would fit: a message may suggest, nothing is guessed.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tans_core.datasets.found import some
from tans_core.datasets.sniff import PICTURE_SUFFIXES
from tans_core.datasets.sources.layout import nfc
from tans_core.datasets.spec import Spec, did_you_mean
from tans_core.errors import DatasetError, SpecError

_TABLES = frozenset((".csv", ".tsv"))
_SHEETS = frozenset((".xlsx", ".xls", ".ods", ".json", ".jsonl"))  # not read here
_LABEL_WORDS = ("label", "class", "category", "target", "breed", "species", "diagnosis", "dx", "type")
_PATTERNS = (
    r"^([^.]+)\.\d+\.",
    r"^(.+?)[ _-]*\(?\d+\)?\.",
    r"^([A-Za-z]+)[ _-]",
    r"[_-]([A-Za-z]+)\.",
    r"^[^_]+_([^_]+)_",
)
_MARKS = {"0": False, "false": False, "": False, "1": True, "true": True}
_PICTURE_SUFFIX = re.compile(rf"({'|'.join(map(re.escape, sorted(PICTURE_SUFFIXES)))})$", re.IGNORECASE)
_MOST_ROWS = 5_000_000  # of a table that is only looked at


@dataclass(frozen=True, slots=True)
class Labelled:
    """Classes by picture; what has none; and what the table's rows came to, for a person."""

    classes: dict[Path, str]
    unlabelled: tuple[Path, ...]
    notes: tuple[str, ...]


def label_pictures(option: str, root: Path, pictures: Sequence[Path]) -> Labelled:
    """Label by the option `labels=`: "FILE.csv:IMAGE_COLUMN,LABEL_COLUMN" or "name:PATTERN".

    The label column `*` stands for all other columns, each of them a class, with a 1 for the picture's.

    Raises:
        DatasetError: no such file or column, no such pattern, or a picture with two labels.
    """
    where, colon, what = option.partition(":")
    if where == "name" and colon:
        return _by_name(what, pictures)
    where, colon, what = option.rpartition(":")
    if not colon or "," not in what:
        raise SpecError(
            f"labels={option}: the forms are labels=FILE.csv:IMAGE_COLUMN,LABEL_COLUMN (* for one column a class) "
            f"and labels=name:PATTERN"
        )
    return _by_table(where, what, root, pictures)


def suggestion(spec: Spec, root: Path, pictures: Sequence[Path], others: Sequence[Path]) -> str:
    """What would give these pictures a class, with the SPEC to paste; empty where nothing is found."""
    tables = [path for path in others if path.suffix.lower() in _TABLES]
    for path in tables[:20]:
        found = _fitting_columns(spec, root, path, pictures)
        if found:
            return found
    boxes = {path.stem for path in others if path.suffix.lower() in (".txt", ".xml")}
    count = sum(picture.stem in boxes for picture in pictures)
    if count * 2 >= len(pictures):
        suffix = next(path.suffix for path in others if path.suffix.lower() in (".txt", ".xml"))
        return f"this looks like boxes, not classes: {count:,} {suffix} of the same names"
    names = sorted(picture.name for picture in pictures)
    three = ", ".join(names[:: max(1, (len(names) - 1) // 2)][:3])
    said = f"their names look like {three}: if the class is in the name,"
    pattern = next((each for each in _PATTERNS if _fits(each, names)), None)
    if pattern:
        return f"{said} {_add(spec, f'name:{pattern}')}"
    sheet = next((path for path in others if path.suffix.lower() in _SHEETS), None)
    if sheet is not None:
        there = sheet.relative_to(root).with_suffix(".csv").as_posix()
        return (
            f"{sheet.name} may hold the labels: save it as CSV with one row a picture, and "
            f"{_add(spec, f'{there}:IMAGE_COLUMN,LABEL_COLUMN')}"
        )
    return f"{said} {_add(spec, 'name:PATTERN')}, where the first group of PATTERN, a regular expression, is the class"


def _add(spec: Spec, labels: str) -> str:
    return f"add ?labels={labels}, as in {spec.to_paste(replace(spec.options, labels=labels))}"


def _by_name(pattern: str, pictures: Sequence[Path]) -> Labelled:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise SpecError(f"labels=name:{pattern} is no regular expression: {error}") from error
    if not compiled.groups:
        raise SpecError(f"labels=name:{pattern} has no group: put the part that is the class in brackets")
    found = {picture: compiled.search(nfc(picture.name)) for picture in pictures}
    classes = {picture: match[1] for picture, match in found.items() if match and match[1]}
    return Labelled(classes, tuple(picture for picture in pictures if picture not in classes), ())


def _by_table(where: str, columns: str, root: Path, pictures: Sequence[Path]) -> Labelled:
    path = root / where
    if not path.is_file():
        there = [each.relative_to(root).as_posix() for each in root.rglob("*") if each.suffix.lower() in _TABLES]
        raise SpecError(
            f"labels={where}: no such file in {root}; tables there: {some(there) or 'none'}{did_you_mean(where, there)}"
        )
    header, rows = _read_table(path)
    image, labels_of = _columns(where, columns, header)
    index = _Index(root, pictures)
    hits: list[tuple[str, int, list[Path]]] = []
    several, no_picture = 0, 0
    for row in rows:
        names = labels_of(row)
        several += len(names) > 1
        if len(names) == 1:
            hits.append((names[0], *index.find(row[image])))
            no_picture += not hits[-1][2]
    nearest: dict[Path, int] = {}  # of several rows that could mean a picture, those that say most of its path
    for _, parts, found in hits:
        nearest |= {picture: max(parts, nearest.get(picture, 0)) for picture in found}
    labels: dict[Path, set[str]] = defaultdict(set)
    for name, parts, found in hits:
        for picture in found:
            if nearest[picture] == parts:
                labels[picture].add(name)
    several += sum(len(names) > 1 for names in labels.values())
    if several:
        raise DatasetError(f"{where}: not one class a picture: {several:,} rows have two or more labels in {columns!r}")
    classes = {picture: names.pop() for picture, names in labels.items()}
    unlabelled = tuple(picture for picture in pictures if picture not in classes)
    notes = [
        f"{where}: {len(rows):,} rows, {no_picture:,} without a picture; {len(unlabelled):,} pictures without a row"
    ]
    return Labelled(classes, unlabelled, tuple(notes))


class _Index:
    """Pictures by the end of their path, with and without the suffix.

    Of one name only where all of them have one size, as copies do.
    """

    def __init__(self, root: Path, pictures: Iterable[Path]) -> None:
        self._ends: dict[str, list[Path]] = defaultdict(list)
        self._whole: dict[str, Path] = {}
        for picture in pictures:
            name = nfc(picture.relative_to(root).as_posix())
            self._whole[name] = picture
            bare = name[: len(name) - len(picture.suffix)]
            for key in (name, bare) if picture.suffix else (name,):
                self._ends[key].append(picture)
                while "/" in key:
                    key = key.partition("/")[2]
                    self._ends[key].append(picture)

    def find(self, value: str) -> tuple[int, list[Path]]:
        """The pictures that a table's entry means, and how many names of their path it says.

        An entry may come from a folder of somebody else's, or from before the files were converted: the longest end
        of it that names a picture counts.
        """
        parts = [part for part in nfc(value.strip()).replace("\\", "/").split("/") if part not in ("", ".")]
        whole = self._whole.get("/".join(parts))
        if whole:
            return len(parts) + 1, [whole]
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            found = self._ends.get(end) or self._ends.get(_PICTURE_SUFFIX.sub("", end))
            if found:
                alike = len(found) < 2 or len({each.stat().st_size for each in found}) == 1
                return len(parts) - start, found if alike else []
        return 0, []


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


_LabelsOf = Callable[[Sequence[str]], list[str]]


def _columns(where: str, columns: str, header: Sequence[str]) -> tuple[int, _LabelsOf]:
    """The image's column, and what gives the labels of a row.

    A name may hold a comma: the one that parts two names of the header counts.
    """
    parts = columns.split(",")
    pairs = [(nfc(",".join(parts[:cut])), nfc(",".join(parts[cut:]))) for cut in range(1, len(parts))]
    for image, label in pairs:
        if image in header and label in header:
            return header.index(image), partial(_label_in, header.index(label))
    image = pairs[-1][0]
    if pairs[-1][1] == "*" and image in header:
        return header.index(image), partial(_labels_marked, where, header, header.index(image))
    wrong = next(name for name in pairs[0] if name not in header and name != "*")
    raise SpecError(f"{where} has no column {wrong!r}: its columns are {some(header, 20)}{did_you_mean(wrong, header)}")


def _label_in(column: int, row: Sequence[str]) -> list[str]:
    return [name for part in row[column].split("|") if (name := nfc(part.strip()))]


def _labels_marked(where: str, header: Sequence[str], image: int, row: Sequence[str]) -> list[str]:
    """Of a table with one column a class."""
    marks = {name: _mark(row[column]) for column, name in enumerate(header) if column != image}
    wrong = next((name for name, mark in marks.items() if mark is None), None)
    if wrong is not None:
        raise DatasetError(
            f"{where}: the column {wrong!r} has {row[header.index(wrong)]!r} where * wants 0 or 1 in every column but "
            f"{header[image]!r}"
        )
    return [name for name, mark in marks.items() if mark]


def _mark(value: str) -> bool | None:
    """Of a picture for a class; None where it is neither 0 nor 1."""
    return _MARKS.get(value.strip().casefold().removesuffix(".0"))


def _fitting_columns(spec: Spec, root: Path, path: Path, pictures: Sequence[Path]) -> str:
    try:
        header, rows = _read_table(path)
    except (DatasetError, OSError):
        return ""
    if not rows or len(header) < 2:
        return ""
    where, index = path.relative_to(root).as_posix(), _Index(root, pictures)
    sample = rows[:: max(1, len(rows) // 200)]  # a table of pixels has hundreds of columns
    image = max(range(len(header)), key=lambda column: sum(bool(index.find(row[column])[1]) for row in sample))
    matches = sum(bool(index.find(row[image])[1]) for row in rows)
    if (matches * 10 < len(rows) * 9 and matches * 10 < len(pictures) * 9) or not matches:
        return ""
    marked = _marked_classes(header, rows, image)
    column = None if marked else _label_column(header, rows, image)
    if column is None and not marked:
        return ""
    labels = [_labels_marked(where, header, image, row) if column is None else _label_in(column, row) for row in rows]
    several = sum(len(names) > 1 for names in labels)
    if several:
        return f"{where} gives not one class a picture: {several:,} rows have two or more"
    which = "all" if matches == len(rows) else f"{matches:,} of"
    return (
        f"{where} has columns {some(header, 8)} and {which} {len(rows):,} values of {header[image]} match pictures: "
        + _add(spec, f"{where}:{header[image]},{'*' if column is None else header[column]}")
    )


def _marked_classes(header: Sequence[str], rows: Sequence[Sequence[str]], image: int) -> bool:
    """Whether each column but one is a class: nothing but 0 and 1, and none is called a label."""
    others = [column for column in range(len(header)) if column != image]
    return (
        len(others) > 1
        and not any(header[column].casefold() in _LABEL_WORDS for column in others)
        and all(_mark(row[column]) is not None for row in rows for column in others)
    )


def _label_column(header: Sequence[str], rows: Sequence[Sequence[str]], image: int) -> int | None:
    counts = {column: Counter(row[column] for row in rows) for column in range(len(header)) if column != image}
    fitting = [column for column, values in counts.items() if len(values) >= 2 and len(values) * 2 <= len(rows)]
    fitting += [column for column in counts if column not in fitting and any("|" in value for value in counts[column])]
    named = [column for column in fitting if any(word in header[column].casefold() for word in _LABEL_WORDS)]
    return next(iter([*named, *fitting]), None)


def _fits(pattern: str, names: Sequence[str]) -> bool:
    found = [re.search(pattern, name) for name in names]
    counts = Counter(match[1] for match in found if match)
    return sum(counts.values()) * 10 >= len(names) * 9 and len(counts) > 1 and len(counts) * 5 <= len(names)
